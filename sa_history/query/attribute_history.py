"""The history of one attribute."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, cast, func, null, or_, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import InstrumentedAttribute

from sa_history._types import Op
from sa_history.capture.event_table import key_columns
from sa_history.exc import EventsError
from sa_history.sql.comparison import stored_differs
from sa_history.tracking.completeness import GONE
from sa_history.tracking.events import key_of, key_values, trackings_of
from sa_history.tracking.registry import Tracking
from sa_history.util.messages import suggestion


def changes(target: Any, attribute: str | InstrumentedAttribute[Any]) -> Select[Any]:
    """Return a SELECT of the values that an attribute had, oldest first.

    Its rows have ``before`` and ``after``, with ``pgh_id``, ``pgh_created_at``,
    ``pgh_xact_id``, ``pgh_op``, ``pgh_label`` and the metadata of the context as
    ``pgh_context``. The first is what the attribute was in the row's first event, and
    a row that is gone has None after. A row that got its key from an update begins
    there.

    :param target: an object, or a pair of a class or table and a key.
    :param attribute: the name of a tracked attribute, or the attribute itself.
    :raises EventsError: it is not tracked.

    Example::

        for row in session.execute(history.changes(tea, "price")):
            print(row.pgh_created_at, row.pgh_context, row.before, row.after)
    """
    is_pair = isinstance(target, tuple) and len(target) == 2
    name = attribute if isinstance(attribute, str) else attribute.key
    tracking = _tracking(target[0] if is_pair else target, name)
    values = (
        key_values(tracking, target[1])
        if is_pair
        else [value for _, value in key_of(tracking, target)]
    )
    columns, events = tracking.tracked_columns, tracking.event_table
    column = events.c[columns.column_name(name)]
    labels = [
        tracker.event_label
        for tracker in tracking.trackers
        if name in tracker.stored(columns)
    ]
    order, op = events.c.pgh_id, events.c.pgh_op
    is_row = zip(key_columns(columns, events), values, strict=True)

    def last(of: ColumnElement[Any]) -> ColumnElement[Any]:
        return func.lag(of).over(order_by=order)

    # One change may have left an event of each tracker.
    is_sibling = and_(
        last(op) == op, last(events.c.pgh_xact_id) == events.c.pgh_xact_id
    )
    begins = and_(op.in_(_BEGINS), is_sibling.is_not(True))
    gone, was_gone = op.in_(GONE), last(op).in_(GONE)
    life = (
        select(
            *(events.c[n] for n in _COLUMNS),
            _context(tracking).label("pgh_context"),
            or_(begins, last(order).is_(None), and_(gone, was_gone.is_not(True))).label(
                "always"
            ),
            case((or_(begins, was_gone), null()), else_=last(column)).label("before"),
            case((~gone, column)).label("after"),
        )
        .where(
            *(key == value for key, value in is_row),
            or_(events.c.pgh_label.in_(labels), gone, op == Op.BASELINE.value),
        )
        .subquery("life")
    )
    return (
        select(*(c for c in life.c if c.name != "always"))
        .where(or_(life.c.always, stored_differs(life.c.before, life.c.after)))
        .order_by(life.c.pgh_id)
    )


_BEGINS = (Op.INSERT.value, Op.BASELINE.value)
_COLUMNS = ("pgh_id", "pgh_created_at", "pgh_xact_id", "pgh_op", "pgh_label")


def _tracking(target: Any, name: str) -> Tracking:
    trackings = trackings_of(target)
    for tracking in trackings:
        if name in tracking.tracked_columns.stored:
            return tracking
    tracking = trackings[0]
    known = dict.fromkeys(tracking.tracked_columns.stored)
    raise EventsError(
        f"{tracking.subject} tracks no attribute {name!r}{suggestion(name, known)}"
    )


def _context(tracking: Tracking) -> ColumnElement[Any]:
    """Return the metadata of an event's context."""
    storage, events = tracking.options.context, tracking.event_table
    if storage is None:
        return cast(null(), JSONB)
    if storage == "inline":
        return events.c.pgh_context
    contexts = tracking.history.shared.context_table
    return (
        select(contexts.c.metadata)
        .where(contexts.c.id == events.c.pgh_context_id)
        .scalar_subquery()
    )
