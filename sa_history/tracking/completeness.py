"""Which events store complete rows, and what a table's trackers leave out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Table, bindparam, or_

from sa_history._types import Op, Operation
from sa_history.capture.trackers import (
    full_row_labels,
    record_full_rows,
    version_labels,
)
from sa_history.definition.columns import TrackedColumns
from sa_history.tracking.registry import Tracking, trackings_of_table

GONE = (Op.DELETE.value, Op.TRUNCATE.value)
"""The operations after which a row is not there any more."""

ALWAYS_COMPLETE = (*GONE, Op.BASELINE.value)
"""Operations whose events say all of the row's state, whatever the label."""


def missing_operations(tracking: Tracking) -> list[str]:
    """Return what a tracking lacks to record all states of all rows, in words."""
    columns = tracking.tracked_columns
    missing = [
        f"every {operation.value}"
        for operation in (Operation.INSERT, Operation.UPDATE, Operation.DELETE)
        if not record_full_rows(tracking.trackers, columns, operation)
    ]
    return missing if columns.key else ["a primary key"]


def complete_tracking(table: Table) -> Tracking | None:
    """Return a tracking that records all states of all rows, or None without one."""
    return next(
        (t for t in trackings_of_table(table) if not missing_operations(t)), None
    )


def is_one_of(column: ColumnElement[Any], values: Iterable[str]) -> ColumnElement[bool]:
    """Return whether a column has one of some values, which are the code's own.

    The values are written into the statement. With parameters, the plan that PostgreSQL
    keeps for a prepared statement expects one row where there are most of them, and has
    a nested loop for it: ten minutes for 100,000 rows as they were.
    """
    fixed: Any = bindparam(None, list(values), expanding=True, literal_execute=True)
    return column.in_(fixed)


def full_row_events(
    tracking: Tracking, events: FromClause
) -> Iterator[ColumnElement[bool]]:
    """Yield criteria that select events with a complete row, and deletions.

    :param events: the event table, or an alias of it.
    """
    labels = full_row_labels(tracking.trackers, tracking.tracked_columns)
    yield from _events_with(labels, tracking, events)


def version_events(
    tracking: Tracking, events: FromClause
) -> Iterator[ColumnElement[bool]]:
    """Yield criteria that select events which say what the whole row was.

    Unlike those of :func:`full_row_events`, the trackers may have conditions, so that
    what the row was in between is not known.

    :param events: the event table, or an alias of it.
    """
    labels = version_labels(tracking.trackers, tracking.tracked_columns)
    yield from _events_with(labels, tracking, events)


def comparable_labels(tracking: Tracking) -> tuple[str, ...] | None:
    """Return the labels of the events that later ones are compared with.

    :return: None if events are compared with those of all trackers.
    """
    return stored_attributes(tracking).comparable_labels


def _events_with(
    labels: Sequence[str], tracking: Tracking, events: FromClause
) -> Iterator[ColumnElement[bool]]:
    if len(labels) < len(tracking.trackers):
        yield or_(
            is_one_of(events.c.pgh_label, labels),
            is_one_of(events.c.pgh_op, ALWAYS_COMPLETE),
        )


def comparable_events(
    tracking: Tracking, events: FromClause
) -> Iterator[ColumnElement[bool]]:
    """Yield criteria that select the events that later ones are compared with.

    If each insert and update has an event with the complete row, events with fewer
    columns are passed over: compared with them, changes of other columns were hidden.

    :param events: the event table, or an alias of it.
    """
    if _records_every_state(tracking, tracking.tracked_columns):
        yield from full_row_events(tracking, events)


def _records_every_state(tracking: Tracking, columns: TrackedColumns) -> bool:
    changes = Operation.INSERT, Operation.UPDATE
    return record_full_rows(tracking.trackers, columns, *changes)


@dataclass(frozen=True, eq=False)
class StoredAttributes:
    """The attributes that the events of a tracking store, for events in Python.

    A subclass that is defined later may add columns, so the value is kept until the
    table has others.

    :param columns: the tracked columns.
    :param by_label: the attributes that each tracker stores.
    :param comparable_labels: the labels of events that later ones are compared with;
        those of all trackers, if None.
    """

    columns: TrackedColumns
    by_label: Mapping[str, tuple[str, ...]]
    comparable_labels: tuple[str, ...] | None

    def of(self, event: Any) -> tuple[str, ...]:
        """Return the attributes that an event stores."""
        if event.pgh_op == Op.BASELINE:
            return self.columns.stored
        return self.by_label.get(event.pgh_label, self.columns.stored)

    def is_comparable(self, event: Any) -> bool:
        """Return whether an event is one of :func:`comparable_events`."""
        return (
            self.comparable_labels is None
            or event.pgh_label in self.comparable_labels
            or event.pgh_op in ALWAYS_COMPLETE
        )


def stored_attributes(tracking: Tracking) -> StoredAttributes:
    """Return the attributes that the events of a tracking store."""
    return tracking.remembered("stored_attributes", _stored_attributes)


def _stored_attributes(tracking: Tracking) -> StoredAttributes:
    trackers, columns = tracking.trackers, tracking.tracked_columns
    return StoredAttributes(
        columns=columns,
        by_label={t.event_label: t.stored(columns) for t in trackers},
        comparable_labels=(
            tuple(full_row_labels(trackers, columns))
            if _records_every_state(tracking, columns)
            else None
        ),
    )
