"""What events tell of their rows: all, or only some of it."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import ColumnElement, FromClause, Table, or_

from sa_history._types import Op, Operation
from sa_history.trackers import tell_all, whole_labels
from sa_history.tracking import Tracking, trackings_of_table

GONE = (Op.DELETE.value, Op.TRUNCATE.value)
"""What an event says of a row that is not there any more."""


def gaps(tracking: Tracking) -> list[str]:
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
    return next((t for t in trackings_of_table(table) if not gaps(t)), None)


def states(tracking: Tracking, events: FromClause) -> Iterator[ColumnElement[bool]]:
    """Yield what events meet that tell the whole row, or that it is gone."""
    whole = whole_labels(tracking.trackers, tracking.tracked_columns)
    if len(whole) < len(tracking.trackers):
        yield or_(
            events.c.pgh_label.in_(whole),
            events.c.pgh_op.in_([*GONE, Op.BASELINE.value]),
        )


def compared(tracking: Tracking, events: FromClause) -> Iterator[ColumnElement[bool]]:
    """Yield what events meet that later ones of the same row are compared with.

    Where each change has an event with the whole row, those with less of it are passed
    over, which would hide what changed.
    """
    columns, changes = tracking.tracked_columns, (Operation.INSERT, Operation.UPDATE)
    if tell_all(tracking.trackers, columns, *changes):
        yield from states(tracking, events)
