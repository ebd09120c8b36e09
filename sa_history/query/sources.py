"""Which events a list of targets asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    ColumnElement,
    ForeignKeyConstraint,
    MetaData,
    SelectBase,
    Table,
    and_,
    literal,
    or_,
    select,
    tuple_,
)

from sa_history.capture.event_table import key_columns
from sa_history.exc import EventsError
from sa_history.tracking.events import key_of, key_values, trackings_of
from sa_history.tracking.registry import Tracking, history_of


@dataclass(eq=False)
class Source:
    """An event table, and which of its events are wanted.

    :param tracking: of the event table.
    :param wanted: criteria, of which one has to hold; None for all events.
    """

    tracking: Tracking
    wanted: list[ColumnElement[bool]] | None = field(default_factory=list)

    def criteria(self) -> list[ColumnElement[bool]]:
        """Return what its events have to meet."""
        return [] if self.wanted is None else [or_(*self.wanted)]


def sources_of(targets: Sequence[Any], across: Any, hops: int) -> list[Source]:
    """Return the event tables that targets ask for, and which events of each.

    :param across: keep only events of these classes and tables.
    :param hops: how far to follow foreign keys to the targets.
    :raises EventsError: a target is not tracked, or there is none.
    """
    sources: dict[Tracking, Source] = {}
    for target in targets:
        for tracking, criterion in _wanted(target, hops):
            source = sources.setdefault(tracking, Source(tracking))
            if criterion is None:
                source.wanted = None
            elif source.wanted is not None:
                source.wanted.append(criterion)
    if across is not None:
        models = across if isinstance(across, (list, tuple, set)) else [across]
        for model in models:
            if not _is_whole(model):
                raise EventsError(
                    f"across takes tracked classes and tables, got {model!r}; give an "
                    "object as a target"
                )
        kept = [tracking for model in models for tracking in trackings_of_target(model)]
        if targets:
            sources = {t: source for t, source in sources.items() if t in kept}
        else:
            sources = {tracking: Source(tracking, None) for tracking in kept}
    if not sources:
        raise EventsError(
            "AggregateEvent.select needs something whose events to select; give "
            "objects, tracked classes, or a declarative base for all it tracks"
        )
    if len({source.tracking.history for source in sources.values()}) > 1:
        raise EventsError(
            "AggregateEvent.select got models of several MetaData, whose events have "
            "no common order; select from each"
        )
    return list(sources.values())


def _wanted(
    target: Any, hops: int
) -> Iterator[tuple[Tracking, ColumnElement[bool] | None]]:
    if _is_whole(target):
        for tracking in trackings_of_target(target):
            yield tracking, None
        return
    is_pair = isinstance(target, tuple) and len(target) == 2
    model = target[0] if is_pair else target
    if is_pair and not _is_whole(model):
        raise EventsError(f"a target is an object or (Model, key), got {target!r}")
    for tracking in trackings_of(model):
        key = target[1] if is_pair else None
        if isinstance(key, SelectBase):
            yield tracking, tuple_(*_keys(tracking)).in_(key)
            rows: SelectBase = key
        else:
            values = (
                key_values(tracking, key)
                if is_pair
                else [value for _, value in key_of(tracking, target)]
            )
            keys = _keys(tracking)
            yield tracking, _equal(keys, values)
            # Of the values themselves, since the row may be from before tracking.
            rows = select(
                *(literal(v, k.type) for k, v in zip(keys, values, strict=True))
            )
        yield from _referring(tracking, rows, hops)


def _referring(
    tracking: Tracking, rows: SelectBase, hops: int
) -> Iterator[tuple[Tracking, ColumnElement[bool]]]:
    """Yield the events of rows that had a foreign key to rows with these keys.

    :param rows: a SELECT of the keys.
    """
    if hops < 1:
        return
    for other in tracking.history.trackings.values():
        for constraint in other.table.foreign_key_constraints:
            columns = _event_columns(other, constraint, tracking)
            if columns is None:
                continue
            criterion = tuple_(*columns).in_(rows)
            yield other, criterion
            if hops > 1 and _keys(other):
                keys = select(*_keys(other)).where(criterion)
                yield from _referring(other, keys, hops - 1)


def _event_columns(
    referring: Tracking, constraint: ForeignKeyConstraint, referred: Tracking
) -> list[Any] | None:
    """Return the event columns of a foreign key, in the order of the key it names.

    None where it names another table, or other columns than the primary key, or where
    it is not tracked.
    """
    table, columns = referred.table, referred.tracked_columns
    if constraint.referred_table is not table:
        return None
    by_target = {e.column.name: e.parent.name for e in constraint.elements}
    names = [columns.column_name(name) for name in columns.key]
    events = referring.event_table.columns
    if set(by_target) != set(names) or any(n not in events for n in by_target.values()):
        return None
    return [events[by_target[name]] for name in names]


def _keys(tracking: Tracking) -> Sequence[Any]:
    return key_columns(tracking.tracked_columns, tracking.event_table)


def _equal(keys: Sequence[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    return and_(*(key == value for key, value in zip(keys, values, strict=True)))


def _is_whole(target: Any) -> bool:
    return isinstance(target, (type, Table, MetaData))


def trackings_of_target(target: Any) -> list[Tracking]:
    """Return the trackings of a class, a table, a declarative base or a MetaData.

    :raises EventsError: it is not tracked.
    """
    metadata = target
    if isinstance(target, type) and not hasattr(target, "__mapper__"):
        metadata = getattr(target, "metadata", None)
    if isinstance(metadata, MetaData):
        history = history_of(metadata)
        return list(history.trackings.values()) if history else []
    return trackings_of(target)
