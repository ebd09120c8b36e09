"""Versions of a row: its events in their order, and what differs between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, literal, select
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import object_session

from sa_history._types import Op
from sa_history.capture.event_table import key_columns
from sa_history.exc import EventsError
from sa_history.tracking.completeness import (
    StoredAttributes,
    comparable_events,
    stored_attributes,
)
from sa_history.tracking.diff import Diff


def diff(before: Any, after: Any) -> Diff:
    """Return what differs between two events: versions of one row, or of two rows.

    :param before: an event.
    :param after: an event of the same class.
    :return: the attributes that both events store, and with different values.
    :raises EventsError: the events are of different classes.

    Example::

        first, *_, last = session.scalars(account.events.select())
        print(history.diff(first, last).text())
    """
    return _diff(before, after)


def _diff(before: Any, after: Any, stored: StoredAttributes | None = None) -> Diff:
    if type(before) is not type(after):
        raise EventsError(
            f"{before!r} and {after!r} are events of different tables, which have no "
            "attributes in common"
        )
    stored = stored or stored_attributes(before.pgh_tracking)
    in_both = set(stored.of(before)) & set(stored.of(after))
    changes: dict[str, tuple[Any, Any]] = {}
    for name in stored.columns.stored:
        values = getattr(before, name), getattr(after, name)
        if name in in_both and values[0] != values[1]:
            changes[name] = values
    return Diff(changes)


E = TypeVar("E")


def steps(events: Iterable[E]) -> Iterator[tuple[E, Diff | None]]:
    """Yield events, each with what changed since the one before it.

    :param events: the events of one row, oldest first.
    :return: pairs of an event and its diff, which is None for the first event.
    :raises EventsError: the events are of different classes.

    Example::

        for event, changed in history.steps(session.scalars(tea.events.select())):
            print(event.pgh_created_at, changed)
    """
    before: deque[Any] = deque()
    by_class: dict[type[Any], StoredAttributes] = {}
    for event in events:
        version: Any = event
        if type(version) not in by_class:
            by_class[type(version)] = stored_attributes(version.pgh_tracking)
        stored = by_class[type(version)]
        previous = None
        if version.pgh_op not in _BEGINS:
            previous = _first_of_another_change(reversed(before), version, stored)
        yield event, None if previous is None else _diff(previous, version, stored)
        if stored.is_comparable(version):
            before.append(version)
            # One change may have left an event of each tracker.
            if len(before) > len(stored.by_label):
                before.popleft()


_BEGINS = (Op.INSERT, Op.BASELINE)
"""Operations that have nothing before them that an event could be compared with."""


def previous_version(event: Any) -> Any:
    """Return the event before an event of the same row, or None if it is the first.

    :raises EventsError: the event is in no session.
    """
    session = object_session(event)
    if session is None:
        raise EventsError(
            f"{event!r} is in no session, which its previous event would come from; "
            "compare two events with history.diff(...)"
        )
    tracking, events = event.pgh_tracking, event.pgh_tracking.event_table
    stored = stored_attributes(tracking)
    keys = key_columns(stored.columns, events)
    if not keys or event.pgh_op in _BEGINS:
        return None
    of_row: list[ColumnElement[bool]] = (
        [
            key == sql_cast(literal(event.pgh_old_key, JSONB)[index].astext, key.type)
            for index, key in enumerate(keys)
        ]
        if event.pgh_old_key is not None
        else [
            key == getattr(event, name)
            for key, name in zip(keys, stored.columns.key, strict=True)
        ]
    )
    earlier = (
        select(type(event))
        .where(
            *of_row,
            events.c.pgh_id < event.pgh_id,
            *comparable_events(tracking, events),
        )
        .order_by(events.c.pgh_id.desc())
        # One change may have left an event of each tracker.
        .limit(len(tracking.trackers) + 1)
    )
    return _first_of_another_change(session.scalars(earlier), event, stored)


def _first_of_another_change(
    earlier: Iterable[Any], event: Any, stored: StoredAttributes
) -> Any:
    """Return the first event that is not of the change that an event is of, or None."""
    return next((e for e in earlier if not _is_sibling(e, event, stored)), None)


def _is_sibling(one: Any, other: Any, stored: StoredAttributes) -> bool:
    """Return whether two events of a row are of one change, under two labels."""
    return (
        one.pgh_xact_id == other.pgh_xact_id
        and one.pgh_op == other.pgh_op
        and one.pgh_label != other.pgh_label
        and not _diff(one, other, stored)
    )
