"""The values that one attribute of one row had, and when each began."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    Subquery,
    and_,
    case,
    cast,
    func,
    null,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import InstrumentedAttribute

from sa_history._types import Op
from sa_history.definition.conditions import suggestion
from sa_history.exc import EventsError
from sa_history.query.row_keys import have_key, is_pair, key_of_target
from sa_history.sql.comparison import stored_differs
from sa_history.tracking.completeness import GONE
from sa_history.tracking.events import trackings_of
from sa_history.tracking.registry import Tracking

_BEGINS = (Op.INSERT.value, Op.BASELINE.value)
_COLUMNS = ("pgh_id", "pgh_created_at", "pgh_xact_id", "pgh_op", "pgh_label")


def changes(target: Any, attribute: str | InstrumentedAttribute[Any]) -> Select[Any]:
    """Return a SELECT of the changes of an attribute, oldest first.

    Its rows have ``before`` and ``after``, with ``pgh_id``, ``pgh_created_at``,
    ``pgh_xact_id``, ``pgh_op``, ``pgh_label`` and the metadata of the context as
    ``pgh_context``. The row's first event is always among them, with None ``before``,
    and so is its deletion, with None ``after``. A row that got its key from an update
    begins there.

    :param target: an object, or a pair of a class or table and a key.
    :param attribute: the name of a tracked attribute, or the attribute itself.
    :return: the SELECT, for a ``Session`` or an ``AsyncSession``.
    :raises EventsError: the target or the attribute is not tracked.

    Example::

        for row in session.execute(history.changes(tea, "price")):
            print(row.pgh_created_at, row.pgh_context, row.before, row.after)
    """
    name = attribute if isinstance(attribute, str) else attribute.key
    tracking = _tracking_of(target[0] if is_pair(target) else target, name)
    key = key_of_target(tracking, target)
    return _visible(_compared(tracking, name, _events(tracking, name, key)))


def _tracking_of(target: Any, name: str) -> Tracking:
    """Return the first tracking of a target that stores an attribute."""
    trackings = trackings_of(target)
    for tracking in trackings:
        if name in tracking.tracked_columns.stored:
            return tracking
    tracking = trackings[0]
    known = dict.fromkeys(tracking.tracked_columns.stored)
    raise EventsError(
        f"{tracking.subject} tracks no attribute {name!r}{suggestion(name, known)}"
    )


def _events(
    tracking: Tracking, name: str, key: Sequence[Any]
) -> list[ColumnElement[bool]]:
    """Return the criteria of a row's events that say what an attribute was.

    These are events of trackers that store it, deletions, and baselines.
    """
    columns, events = tracking.tracked_columns, tracking.event_table
    labels = [
        tracker.event_label
        for tracker in tracking.trackers
        if name in tracker.stored(columns)
    ]
    op = events.c.pgh_op
    return [
        *have_key(tracking, events, key),
        or_(events.c.pgh_label.in_(labels), op.in_(GONE), op == Op.BASELINE.value),
    ]


def _compared(
    tracking: Tracking, name: str, criteria: Sequence[ColumnElement[bool]]
) -> Subquery:
    """Return the events with the attribute's values before and after each.

    The column ``is_visible`` is true for events to show even if the two are equal: the
    first one, insertions and baselines, and the first event of a deletion.
    """
    columns, events = tracking.tracked_columns, tracking.event_table
    column = events.c[columns.columns[name].name]
    op = events.c.pgh_op

    def previous(of: ColumnElement[Any]) -> ColumnElement[Any]:
        return func.lag(of).over(order_by=events.c.pgh_id)

    # One change may have left an event of each tracker.
    is_sibling = and_(
        previous(op) == op, previous(events.c.pgh_xact_id) == events.c.pgh_xact_id
    )
    begins = and_(op.in_(_BEGINS), is_sibling.is_not(True))
    is_gone, was_gone = op.in_(GONE), previous(op).in_(GONE)
    is_first = previous(events.c.pgh_id).is_(None)
    return (
        select(
            *(events.c[n] for n in _COLUMNS),
            _context(tracking).label("pgh_context"),
            or_(begins, is_first, and_(is_gone, was_gone.is_not(True))).label(
                "is_visible"
            ),
            case((or_(begins, was_gone), null()), else_=previous(column)).label(
                "before"
            ),
            case((~is_gone, column)).label("after"),
        )
        .where(*criteria)
        .subquery("changes")
    )


def _visible(compared: Subquery) -> Select[Any]:
    """Return the events to show: those that are marked, or changed the attribute."""
    columns = compared.c
    return (
        select(*(c for c in columns if c is not columns.is_visible))
        .where(or_(columns.is_visible, stored_differs(columns.before, columns.after)))
        .order_by(columns.pgh_id)
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
