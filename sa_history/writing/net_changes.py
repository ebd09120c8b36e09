"""What happened to each row in some of its events: what it was before, and after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, func, select, true
from sqlalchemy import cast as sql_cast
from sqlalchemy.orm import Session

from sa_history._types import Op
from sa_history.capture.event_table import key_columns
from sa_history.capture.recording import OLD_KEY
from sa_history.capture.trackers import whole_labels
from sa_history.exc import UndoError
from sa_history.tracking.completeness import GONE, full_row_events, is_one_of
from sa_history.tracking.registry import Tracking

_CHANGES = (Op.INSERT.value, Op.UPDATE.value, *GONE)

Values = Mapping[str, Any]
"""The values of a row, by the names of its columns."""


@dataclass
class Life:
    """What some events made of one row.

    :param tracking: of its table.
    :param before: its values before the first of them, None if there was no such row.
    :param after: its values after the last of them, None if there is no such row.
    :param changed: the columns that they changed, with the values before and after.
    """

    tracking: Tracking
    before: Values | None
    after: Values | None
    changed: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    def note(self, before: Values | None, after: Values | None) -> None:
        """Add what one more event tells."""
        if before is not None and after is not None:
            for name, value in before.items():
                if value != after[name]:
                    first = self.changed.get(name, (value,))[0]
                    self.changed[name] = (first, after[name])
        self.after = after


def lives_of(
    session: Session, tracking: Tracking, criterion: ColumnElement[bool]
) -> list[Life]:
    """Return what events of a table made of its rows.

    :param criterion: which events.
    :raises UndoError: no event tells what a row was before.
    """
    columns = tracking.tracked_columns
    names = [columns.column_name(name) for name in columns.stored]
    key_names = [columns.column_name(name) for name in columns.key]
    by_key: dict[tuple[Any, ...], Life] = {}
    replaced: list[Life] = []
    taken: dict[tuple[Any, ...], Any] = {}
    for event in session.execute(_with_previous(tracking, criterion)).mappings():
        row = {name: event[f"is_{name}"] for name in names}
        key = tuple(row[name] for name in key_names)
        origin = tuple(event[f"from_{name}"] for name in key_names)
        change = (event["pgh_op"], origin, row)
        if key in by_key and taken.get(key) == change:
            continue  # the event of another tracker
        if origin != key and taken.get(origin, change)[1] != origin:
            _check_exchange(tracking, origin)
        taken[key] = change
        life = by_key.pop(origin, None)
        before: Values | None
        if event["pgh_op"] == Op.INSERT:
            before = None if life is None else life.before
        elif event["pgh_op"] in GONE:
            before = row  # such an event has the row as it was
        elif event["has_previous"]:
            before = {name: event[f"was_{name}"] for name in names}
        else:
            raise UndoError(
                f"no event tells what {tracking.subject} "
                f"{tuple(row[n] for n in key_names)} was before event "
                f"{event['pgh_id']}; a baseline before it would have"
            )
        life = life or Life(tracking, before, before)
        life.note(before, None if event["pgh_op"] in GONE else row)
        if key in by_key:  # of a row that was deleted, or has another key
            replaced.append(by_key[key])
        by_key[key] = life
    return [*replaced, *by_key.values()]


def _check_exchange(tracking: Tracking, key: tuple[Any, ...]) -> None:
    """Refuse to guess which of two rows left a key that one of them had taken before.

    :raises UndoError: keys of the table may be the same for a while.
    """
    if tracking.table.primary_key.deferrable:
        raise UndoError(
            f"rows of {tracking.table.name!r} have taken and left the key {key}, which "
            "a deferrable primary key lets several have for a while, so it cannot be "
            "told which is which"
        )


def _with_previous(tracking: Tracking, criterion: ColumnElement[bool]) -> Select[Any]:
    """Return events, each with the one before it of the same row."""
    event, columns = tracking.event_table, tracking.tracked_columns
    previous = event.alias("pgh_previous")
    names = [columns.column_name(name) for name in columns.stored]
    keys = key_columns(columns, event)
    origin = [_origin(event, position, key) for position, key in enumerate(keys)]
    before = (
        select(previous)
        .where(
            *(previous.c[k.name] == o for k, o in zip(keys, origin, strict=True)),
            previous.c.pgh_id < event.c.pgh_id,
            *full_row_events(tracking, previous),
        )
        .order_by(previous.c.pgh_id.desc())
        .limit(1)
        .lateral("pgh_before")
    )
    key_names = [columns.column_name(name) for name in columns.key]
    return (
        select(
            event.c.pgh_id,
            event.c.pgh_op,
            before.c.pgh_id.is_not(None).label("has_previous"),
            *(event.c[name].label(f"is_{name}") for name in names),
            *(before.c[name].label(f"was_{name}") for name in names),
            *(
                value.label(f"from_{name}")
                for name, value in zip(key_names, origin, strict=True)
            ),
        )
        .select_from(event.outerjoin(before, true()))
        .where(
            criterion,
            event.c.pgh_op.in_(_CHANGES),
            *full_row_events(tracking, event),
            *_of_whole_rows(tracking, event),
        )
        .order_by(event.c.pgh_id)
    )


def _of_whole_rows(
    tracking: Tracking, events: FromClause
) -> Iterator[ColumnElement[bool]]:
    """Yield what leaves out the events of trackers that store a part of the row.

    That a row is gone any event tells, but not what it was.
    """
    whole = whole_labels(tracking.trackers, tracking.tracked_columns)
    partial = {tracker.event_label for tracker in tracking.trackers} - {*whole}
    if partial:
        yield ~is_one_of(events.c.pgh_label, sorted(partial))


def _origin(
    event: FromClause, position: int, key: ColumnElement[Any]
) -> ColumnElement[Any]:
    """Return a part of the key that the row of an event had before it."""
    old = event.c[OLD_KEY][position].astext
    return func.coalesce(sql_cast(old, key.type), key, type_=key.type)
