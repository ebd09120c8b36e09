"""What events tell of their rows: all, or only some of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Table, bindparam, or_

from sa_history._types import Op, Operation
from sa_history.capture.trackers import tell_all, whole_labels
from sa_history.tracking.registry import Tracking, trackings_of_table

GONE = (Op.DELETE.value, Op.TRUNCATE.value)
"""What an event says of a row that is not there any more."""


def missing_operations(tracking: Tracking) -> list[str]:
    """Return what of a table's life its events do not tell, in words."""
    columns = tracking.tracked_columns
    missing = [
        f"every {operation.value}"
        for operation in (Operation.INSERT, Operation.UPDATE, Operation.DELETE)
        if not tell_all(tracking.trackers, columns, operation)
    ]
    return missing if columns.key else ["a primary key"]


def complete_tracking(table: Table) -> Tracking | None:
    """Return the tracking whose events tell all of a table's life, None without one."""
    return next(
        (t for t in trackings_of_table(table) if not missing_operations(t)), None
    )


def is_one_of(column: ColumnElement[Any], values: Iterable[str]) -> ColumnElement[bool]:
    """Return whether a column has one of some values, which are the code's own.

    They are written into the statement. With parameters, the plan that PostgreSQL keeps
    for a prepared statement foresees one row where there are most of them, and a nested
    loop for it: ten minutes for 100,000 rows as they were.
    """
    fixed: Any = bindparam(None, list(values), expanding=True, literal_execute=True)
    return column.in_(fixed)


def full_row_events(
    tracking: Tracking, events: FromClause
) -> Iterator[ColumnElement[bool]]:
    """Yield what events meet that tell the whole row, or that it is gone."""
    whole = whole_labels(tracking.trackers, tracking.tracked_columns)
    if len(whole) < len(tracking.trackers):
        yield or_(
            is_one_of(events.c.pgh_label, whole),
            is_one_of(events.c.pgh_op, [*GONE, Op.BASELINE.value]),
        )


def comparable_events(
    tracking: Tracking, events: FromClause
) -> Iterator[ColumnElement[bool]]:
    """Yield what events meet that later ones of the same row are compared with.

    Where each change has an event with the whole row, those with less of it are passed
    over, which would hide what changed.
    """
    columns, changes = tracking.tracked_columns, (Operation.INSERT, Operation.UPDATE)
    if tell_all(tracking.trackers, columns, *changes):
        yield from full_row_events(tracking, events)
