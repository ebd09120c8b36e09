"""Versions of a row: its events, one after the other, and what differs between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Table, func, select
from sqlalchemy.orm import object_session

from sa_history._types import Op
from sa_history.columns import TrackedColumns
from sa_history.differences import Diff
from sa_history.event_table import key_columns
from sa_history.exc import EventsError


@dataclass(frozen=True, eq=False)
class Recorded:
    """What an event class records.

    :param columns: the tracked columns.
    :param table: the event table.
    :param model: the tracked class, None for a Core table.
    :param by_label: the attributes that each tracker stores; others store all.
    """

    columns: TrackedColumns
    table: Table
    model: type[Any] | None
    by_label: Mapping[str, tuple[str, ...]]

    def stored(self, event: Any) -> tuple[str, ...]:
        """Return the attributes that an event stores."""
        by_label = self.by_label.get(event.pgh_label, self.columns.stored)
        return self.columns.stored if event.pgh_op == Op.BASELINE else by_label


def diff(before: Any, after: Any) -> Diff:
    """Return what differs between any two versions of a row, or of two rows.

    :param before: an event.
    :param after: an event of the same class.
    :raises EventsError: they are of different classes.

    Example::

        first, *_, last = session.scalars(account.events.select())
        print(history.diff(first, last).text())
    """
    if type(before) is not type(after):
        raise EventsError(
            f"{before!r} and {after!r} are events of different tables, which have no "
            "attributes in common"
        )
    recorded = before.pgh_recorded
    in_both = set(recorded.stored(before)) & set(recorded.stored(after))
    changes: dict[str, tuple[Any, Any]] = {}
    for name in recorded.columns.stored:
        values = getattr(before, name), getattr(after, name)
        if name in in_both and values[0] != values[1]:
            changes[name] = values
    return Diff(changes)


E = TypeVar("E")


def steps(events: Iterable[E]) -> Iterator[tuple[E, Diff | None]]:
    """Yield events, each with what changed since the one before it.

    :param events: of one row, oldest first.

    Example::

        for event, changed in history.steps(session.scalars(tea.events.select())):
            print(event.pgh_created_at, changed)
    """
    previous: Any = None
    for event in events:
        version: Any = event
        begins = previous is None or version.pgh_op in (Op.INSERT, Op.BASELINE)
        yield event, None if begins else diff(previous, version)
        previous = version


def previous_version(event: Any) -> Any:
    """Return the event before an event of the same row, None for the first one.

    :raises EventsError: the event is in no session.
    """
    session = object_session(event)
    if session is None:
        raise EventsError(
            f"{event!r} is in no session, which its previous event would come from; "
            "compare two events with history.diff(...)"
        )
    recorded = event.pgh_recorded
    keys = key_columns(recorded.columns, recorded.table)
    if not keys or event.pgh_op in (Op.INSERT, Op.BASELINE):
        return None
    of_row: list[ColumnElement[bool]] = (
        [func.jsonb_build_array(*keys) == event.pgh_old_key]
        if event.pgh_old_key is not None
        else [
            key == getattr(event, name)
            for key, name in zip(keys, recorded.columns.key, strict=True)
        ]
    )
    before = (
        select(type(event))
        .where(*of_row, recorded.table.c.pgh_id < event.pgh_id)
        .order_by(recorded.table.c.pgh_id.desc())
        # One change may have left an event of each tracker.
        .limit(len(recorded.by_label) + 1)
    )
    return next((e for e in session.scalars(before) if not _is_sibling(e, event)), None)


def _is_sibling(one: Any, other: Any) -> bool:
    """Whether two events of a row are of the same change, under two labels."""
    return (
        one.pgh_xact_id == other.pgh_xact_id
        and one.pgh_op == other.pgh_op
        and one.pgh_label != other.pgh_label
        and not diff(one, other)
    )
