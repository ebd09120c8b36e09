"""Which event tables, and which of their events, a list of targets asks for.

A target is resolved to rows first (:class:`WholeTable`, :class:`Key`,
:class:`KeyQuery`), and rows become criteria of their events, and of the events of rows
that refer to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import (
    ColumnElement,
    ForeignKeyConstraint,
    MetaData,
    Select,
    SelectBase,
    Table,
    and_,
    literal,
    or_,
    select,
    tuple_,
)

from sa_history.definition.mapped_tables import MappedObject, Model, Models
from sa_history.exc import EventsError
from sa_history.query.row_keys import is_pair, key_of_target, referring_columns
from sa_history.query.subclasses import events_of_class
from sa_history.tracking.event_keys import have_key, keys_of
from sa_history.tracking.events import TrackedObject, trackings_of
from sa_history.tracking.registry import Tracking, history_of


@dataclass(frozen=True, eq=False)
class EventSource:
    """An event table, and which of its events are asked for.

    :param tracking: the tracking that the event table belongs to.
    :param wanted: criteria, of which an event has to meet one; None for all events.
    :param across: further criteria, of which it has to meet one; None for all events.
    """

    tracking: Tracking
    wanted: Sequence[ColumnElement[bool]] | None
    across: Sequence[ColumnElement[bool]] | None = None

    def criteria(self) -> list[ColumnElement[bool]]:
        """Return the criteria that an event has to meet, all of them."""
        return [or_(*some) for some in (self.wanted, self.across) if some is not None]


@dataclass(frozen=True, eq=False)
class WholeTable:
    """All rows of a tracked table, or all that are of a class.

    :param of_class: the criterion of the events of these; None for all rows.
    """

    tracking: Tracking
    of_class: ColumnElement[bool] | None

    def criterion(self) -> ColumnElement[bool] | None:
        """Return the criterion of the rows' events, None for all events."""
        return self.of_class

    def is_one(self, columns: Sequence[ColumnElement[Any]]) -> ColumnElement[bool]:
        """Return whether columns have the key of one of the rows.

        :param columns: those of a foreign key, in the order of the key.
        """
        if self.of_class is None:
            return and_(*(column.is_not(None) for column in columns))
        keys = keys_of(self.tracking, self.tracking.event_table)
        return tuple_(*columns).in_(select(*keys).where(self.of_class))


@dataclass(frozen=True, eq=False)
class Key:
    """The row of a tracked table with a key.

    :param values: the values of the key, in its order.
    """

    tracking: Tracking
    values: Sequence[Any]

    def criterion(self) -> ColumnElement[bool]:
        """Return the criterion of the row's events."""
        events = self.tracking.event_table
        return and_(*have_key(self.tracking, events, self.values))

    def is_one(self, columns: Sequence[ColumnElement[Any]]) -> ColumnElement[bool]:
        """Return whether columns have the key.

        They are compared with the values and not with the row's events, since those of
        a row from before tracking may say nothing of it; and not with a SELECT of the
        values, in which a driver may send the value of an enum as text.

        :param columns: those of a foreign key, in the order of the key.
        """
        keys = keys_of(self.tracking, self.tracking.event_table)
        values = zip(columns, keys, self.values, strict=True)
        # An integer may refer to a bigint.
        return and_(*(c == literal(value, key.type) for c, key, value in values))


@dataclass(frozen=True, eq=False)
class KeyQuery:
    """The rows of a tracked table whose keys a SELECT gives."""

    tracking: Tracking
    query: SelectBase

    def criterion(self) -> ColumnElement[bool]:
        """Return the criterion of the rows' events."""
        return self.is_one(keys_of(self.tracking, self.tracking.event_table))

    def is_one(self, columns: Sequence[ColumnElement[Any]]) -> ColumnElement[bool]:
        """Return whether columns have one of the keys.

        :param columns: those of a foreign key, in the order of the key.
        """
        return tuple_(*columns).in_(self.query)


RowTarget: TypeAlias = MappedObject | TrackedObject | tuple[Model, Any]
"""What stands for one row, or some: an object, or a pair of a class or table and a key
or a SELECT of keys."""

EventTarget: TypeAlias = Models | RowTarget
"""What :meth:`AggregateEvent.select` takes."""

Rows: TypeAlias = WholeTable | Key | KeyQuery
"""The rows that a target asks for."""

Criteria: TypeAlias = dict[Tracking, list[ColumnElement[bool]] | None]
"""The criteria of each tracking's events, of which one has to be met; None for all."""


_MOST_WAYS = 500
"""In so many ways foreign keys may lead to a target; their criteria are one OR."""


def sources_of(targets: Sequence[Any], across: Any, depth: int) -> list[EventSource]:
    """Return the event tables that targets ask for, and which events of each.

    :param targets: as for ``AggregateEvent.select``.
    :param across: a class or table, or several, to keep only their events; None to
        keep all.
    :param depth: how many foreign keys to follow to the targets; 0 for none.
    :raises EventsError: a target is not tracked, there is no target, the targets are of
        several MetaData, or foreign keys lead to them in too many ways.
    """
    wanted = _by_tracking(
        found
        for target in targets
        for found in _not_too_many(_criteria_for(target, depth), depth)
    )
    kept: Criteria = {}
    if across is not None:
        kept = _by_tracking(_criteria_across(across))
        if targets:
            wanted = {t: criteria for t, criteria in wanted.items() if t in kept}
        else:
            wanted, kept = kept, {}
    if not wanted:
        raise EventsError(
            "AggregateEvent.select needs something whose events to select; give "
            "objects, tracked classes, or a declarative base for all it tracks"
        )
    if len({tracking.history for tracking in wanted}) > 1:
        raise EventsError(
            "AggregateEvent.select got models of several MetaData, whose events have "
            "no common order; select from each"
        )
    return [EventSource(t, criteria, kept.get(t)) for t, criteria in wanted.items()]


def _by_tracking(
    found: Iterable[tuple[Tracking, ColumnElement[bool] | None]],
) -> Criteria:
    """Return the criteria of each tracking, None if one of them is None."""
    criteria: Criteria = {}
    for tracking, criterion in found:
        known = criteria.setdefault(tracking, [])
        if criterion is None:
            criteria[tracking] = None
        elif known is not None:
            known.append(criterion)
    return criteria


def _criteria_across(
    across: Any,
) -> Iterator[tuple[Tracking, ColumnElement[bool] | None]]:
    models = across if isinstance(across, (list, tuple, set)) else [across]
    for model in models:
        if not _is_model(model):
            raise EventsError(
                f"across takes tracked classes and tables, got {model!r}; give an "
                "object as a target"
            )
    for model in models:
        for tracking in trackings_of_target(model):
            yield tracking, events_of_class(model, tracking)


def _criteria_for(
    target: Any, depth: int
) -> Iterator[tuple[Tracking, ColumnElement[bool] | None]]:
    """Yield event tables, each with the criterion of a target; None for all events."""
    # All that refers to a table of a MetaData is in it as well.
    is_of_all = _metadata_of(target) is not None
    for rows in _resolve(target):
        yield rows.tracking, rows.criterion()
        if not is_of_all:
            yield from _referring(rows, depth)


def _not_too_many(
    found: Iterator[tuple[Tracking, ColumnElement[bool] | None]], depth: int
) -> Iterator[tuple[Tracking, ColumnElement[bool] | None]]:
    """Yield the criteria of a target, unless they do not end.

    Foreign keys in a circle lead to a row in twice as many ways with each one more.
    """
    for count, one in enumerate(found):
        if count > _MOST_WAYS:
            raise EventsError(
                f"{depth} foreign keys lead to the target in more than {_MOST_WAYS} "
                "ways, since they go in a circle; give fewer by references="
            )
        yield one


def _resolve(target: Any) -> Iterator[Rows]:
    """Yield the rows that a target asks for, of each of its tables."""
    if _is_model(target):
        for tracking in trackings_of_target(target):
            yield WholeTable(tracking, events_of_class(target, tracking))
        return
    if is_pair(target) and not _is_model(target[0]):
        raise EventsError(f"a target is an object or (Model, key), got {target!r}")
    for tracking in trackings_of(target[0] if is_pair(target) else target):
        if is_pair(target) and isinstance(target[1], SelectBase):
            yield KeyQuery(tracking, _checked_query(tracking, target[1]))
        else:
            yield Key(tracking, key_of_target(tracking, target))


def _checked_query(tracking: Tracking, query: SelectBase) -> SelectBase:
    """Return a SELECT of keys, as it is by itself.

    :raises EventsError: it has another number of columns.
    """
    names = tracking.tracked_columns.key
    # Those of a SELECT with text among them, too.
    given = [*getattr(query, "inner_columns", query.selected_columns)]
    if len(given) != len(names) or not names:
        raise EventsError(
            f"the key of {tracking.subject} is ({', '.join(names)}), got a SELECT of "
            f"({', '.join(map(str, given))}); select a value for each of its columns"
        )
    # By itself it would be correlated with the event table, if it reads that as well.
    if isinstance(query, Select):
        return query.correlate(None)
    return select(query.subquery())


def _referring(
    rows: Rows, depth: int
) -> Iterator[tuple[Tracking, ColumnElement[bool]]]:
    """Yield the events of rows that had a foreign key to some rows.

    :param rows: the rows that are referred to.
    :param depth: how many foreign keys to follow.
    """
    if depth < 1:
        return
    tracking = rows.tracking
    for other in tracking.history.trackings.values():
        for constraint in other.table.foreign_key_constraints:
            columns = _event_columns(other, constraint, tracking)
            if columns is None:
                continue
            criterion = rows.is_one(columns)
            yield other, criterion
            own_keys = keys_of(other, other.event_table)
            if depth > 1 and own_keys:
                query = select(*own_keys).where(criterion)
                yield from _referring(KeyQuery(other, query), depth - 1)


def _event_columns(
    referring: Tracking, constraint: ForeignKeyConstraint, referred: Tracking
) -> list[Any] | None:
    """Return the event columns of a foreign key, in the order of the key it refers to.

    :return: None if the foreign key refers to another table, or to other columns than
        the primary key, or if a column of it is not tracked.
    """
    if constraint.referred_table is not referred.table:
        return None
    names = referring_columns(constraint)
    events = referring.event_table.columns
    if names is None or len(names) < len(constraint.elements):
        return None
    return [events[name] for name in names] if all(n in events for n in names) else None


def _is_model(target: Any) -> bool:
    return isinstance(target, (type, Table, MetaData))


def trackings_of_target(target: Any) -> list[Tracking]:
    """Return the trackings of a class, a table, a declarative base or a MetaData.

    :raises EventsError: the class or table is not tracked.
    """
    metadata = _metadata_of(target)
    if metadata is None:
        return trackings_of(target)
    history = history_of(metadata)
    return list(history.trackings.values()) if history else []


def _metadata_of(target: Any) -> MetaData | None:
    """Return the MetaData that a target is, or is the declarative base of."""
    if isinstance(target, type) and not hasattr(target, "__mapper__"):
        target = getattr(target, "metadata", None)
    return target if isinstance(target, MetaData) else None
