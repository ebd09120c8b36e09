"""The values that one attribute of one row had, and when each began."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    Subquery,
    and_,
    case,
    false,
    func,
    null,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.orm import Bundle, InstrumentedAttribute

from sa_history._types import Op, Operation
from sa_history.capture.event_table import OLD_KEY
from sa_history.capture.seal_tables import ERASED_COLUMN
from sa_history.exc import EventsError
from sa_history.query.row_keys import is_pair, key_of_target
from sa_history.query.sources import RowTarget
from sa_history.sql.comparison import stored_differs
from sa_history.tracking.completeness import GONE
from sa_history.tracking.erased import ERASED, is_erased
from sa_history.tracking.event_keys import have_key, old_keys_of
from sa_history.tracking.events import trackings_of
from sa_history.tracking.registry import Tracking
from sa_history.tracking.shared_keys import had_shared_key
from sa_history.util.messages import suggestion

_BEGINS = (Op.INSERT.value, Op.BASELINE.value)
_COLUMNS = ("pgh_id", "pgh_created_at", "pgh_xact_id", "pgh_op", "pgh_label")
_COUNT = "pgh_count"


def changes(
    target: RowTarget, attribute: str | InstrumentedAttribute[Any]
) -> Select[Any]:
    """Return a SELECT of the changes of an attribute, oldest first.

    Its rows have ``before`` and ``after``, with ``pgh_id``, ``pgh_created_at``,
    ``pgh_xact_id``, ``pgh_op``, ``pgh_label`` and the metadata of the context as
    ``pgh_context``. The row's first event is always among them, with None ``before``,
    and so is its deletion, with None ``after``. An update that gave the row its key is
    its first event with that key, with the value under the old key ``before``; None if
    another row had the same key at once, by a deferrable primary key. Events of updates
    that store the row before are left out where others store the row after. A value
    that was erased is ``ERASED``.

    :param target: an object, or a pair of a class or table and a key.
    :param attribute: the name of a tracked attribute, or the attribute itself.
    :return: the SELECT, for a ``Session`` or an ``AsyncSession``.
    :raises EventsError: the target or the attribute is not tracked.

    Example::

        for row in session.execute(history.changes(tea, "price")):
            print(row.pgh_created_at, row.pgh_context, row.before, row.after)
    """
    name = attribute if isinstance(attribute, str) else getattr(attribute, "key", None)
    if not isinstance(name, str):
        raise EventsError(
            "changes takes the name of an attribute, or the attribute, got "
            f"{attribute!r}"
        )
    if isinstance(target, type):
        raise EventsError(
            f"changes is about one row, got the class {target.__name__}; give an "
            f"object of it, or its key: ({target.__name__}, key)"
        )
    tracking = _tracking_of(target[0] if is_pair(target) else target, name)
    key = key_of_target(tracking, target)
    return _visible(_compared(tracking, name, key))


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
    tracking: Tracking, name: str, key: Sequence[Any], events: FromClause
) -> list[ColumnElement[bool]]:
    """Return the criteria of the events of a row that say what an attribute was.

    These are events of trackers that store it, deletions, and baselines.

    :param key: values, or columns of another event.
    :param events: the event table, or an alias of it.
    """
    op = events.c.pgh_op
    labels = _labels(tracking, name)
    return [
        *have_key(tracking, events, key),
        or_(events.c.pgh_label.in_(labels), op.in_(GONE), op == Op.BASELINE.value),
    ]


def _labels(tracking: Tracking, name: str) -> Sequence[str]:
    """Return the labels of the events that say what an attribute was.

    Those of updates that store the row before are left out, unless no others say it:
    among events with the row after, they would be changes back to what it was.
    """
    by_attribute = tracking.remembered("labels_of_attributes", _labels_of_attributes)
    return by_attribute[name]


def _labels_of_attributes(tracking: Tracking) -> Mapping[str, Sequence[str]]:
    columns = tracking.tracked_columns
    updates = [r for r in tracking.recordings() if r.operation is Operation.UPDATE]
    before = {r.label for r in updates if r.row == "old"}
    after = {r.label for r in updates if r.row == "new"}
    found: dict[str, Sequence[str]] = {}
    for name in columns.stored:
        labels = _labels_storing(tracking, name)
        left_out = before if after.intersection(labels) else ()
        found[name] = [label for label in labels if label not in left_out]
    return found


def _labels_storing(tracking: Tracking, name: str) -> list[str]:
    columns = tracking.tracked_columns
    return [t.event_label for t in tracking.trackers if name in t.stored(columns)]


def _counted(tracking: Tracking, name: str, key: Sequence[Any]) -> Subquery:
    """Return the events of a row, each with which one it is of those of its kind.

    Of a kind are those of a transaction, with an operation, a former key and a label.
    """
    events = tracking.event_table
    kind = (events.c[n] for n in ("pgh_xact_id", "pgh_op", OLD_KEY, "pgh_label"))
    count = func.row_number().over(partition_by=[*kind], order_by=events.c.pgh_id)
    return (
        select(events, count.label(_COUNT))
        .where(*_events(tracking, name, key, events))
        .subquery("pgh_events")
    )


def _compared(tracking: Tracking, name: str, key: Sequence[Any]) -> Subquery:
    """Return the events with the attribute's values before and after each.

    The column ``is_visible`` is true for events to show even if the two are equal: the
    first one, insertions and baselines, the first event of a deletion, and updates that
    gave the row its key. If values can be erased, ``before_erased`` and
    ``after_erased`` say whether these were.
    """
    events = _counted(tracking, name, key)
    column, op = events.c[_column_name(tracking, name)], events.c.pgh_op

    def previous(of: ColumnElement[Any]) -> ColumnElement[Any]:
        return func.lag(of, type_=of.type).over(order_by=events.c.pgh_id)

    is_other_change = _is_other_change(events, previous)
    begins = and_(op.in_(_BEGINS), is_other_change)
    is_moved = and_(events.c[OLD_KEY].is_not(None), is_other_change)
    is_gone, was_gone = op.in_(GONE), previous(op).in_(GONE)
    ends = and_(is_gone, is_other_change)
    is_first = previous(events.c.pgh_id).is_(None)
    shared = had_shared_key(tracking, events)
    is_unknown = false() if shared is None else and_(shared, is_other_change)
    stores_it = events.c.pgh_label.in_(_labels_storing(tracking, name))

    def before(value_of: Callable[[FromClause], ColumnElement[Any]]) -> Any:
        return case(
            (and_(ends, stores_it), value_of(events)),
            (is_unknown, null()),
            (is_moved, _before_move(tracking, name, value_of, events)),
            (or_(begins, was_gone), null()),
            else_=previous(value_of(events)),
        )

    def was_erased(of: FromClause) -> ColumnElement[bool]:
        return is_erased(column.name, of.c[ERASED_COLUMN])

    erased = (
        (
            func.coalesce(before(was_erased), false()).label("before_erased"),
            func.coalesce(case((~is_gone, was_erased(events))), false()).label(
                "after_erased"
            ),
        )
        if name in tracking.options.erasable
        else ()
    )
    return select(
        *(events.c[n] for n in _COLUMNS),
        tracking.context_storage.metadata_of(events).label("pgh_context"),
        or_(begins, is_first, is_moved, ends).label("is_visible"),
        type_coerce(before(lambda of: of.c[column.name]), column.type).label("before"),
        case((~is_gone, column)).label("after"),
        *erased,
    ).subquery("changes")


def _is_other_change(
    events: FromClause,
    previous: Callable[[ColumnElement[Any]], ColumnElement[Any]],
) -> ColumnElement[bool]:
    """Return whether an event is of another change than the one before it.

    One change may have left an event of each tracker, and of none two. An example, in
    which a row leaves the key 1 and comes back, twice in a transaction, with two
    trackers::

        pgh_id  key  pgh_old_key  pgh_label  pgh_count
        13      1    [2]          a          1
        14      1    [2]          b          1          of the change of 13
        17      1    [2]          a          2          of another one
        18      1    [2]          b          2          of the change of 17

    :param events: what :func:`_counted` returns.
    :param previous: returns the value of a column in the previous event of the key.
    """
    is_same = and_(
        *(previous(events.c[n]) == events.c[n] for n in ("pgh_xact_id", "pgh_op")),
        previous(events.c[OLD_KEY]).is_not_distinct_from(events.c[OLD_KEY]),
        previous(events.c[_COUNT]) >= events.c[_COUNT],
    )
    return is_same.is_not(True)


def _before_move(
    tracking: Tracking,
    name: str,
    value_of: Callable[[FromClause], ColumnElement[Any]],
    events: FromClause,
) -> ColumnElement[Any]:
    """Return a value of the row before an event gave it its key.

    :param value_of: returns the value of an event.
    :param events: what :func:`_counted` returns.
    """
    earlier = tracking.event_table.alias("earlier")
    return (
        select(case((earlier.c.pgh_op.not_in(GONE), value_of(earlier))))
        .where(
            *_events(tracking, name, old_keys_of(tracking, events), earlier),
            earlier.c.pgh_id < events.c.pgh_id,
        )
        .order_by(earlier.c.pgh_id.desc())
        .limit(1)
        .correlate(events)
        .scalar_subquery()
    )


def _column_name(tracking: Tracking, name: str) -> str:
    column: str = tracking.tracked_columns.by_attribute[name].name
    return column


class _ErasableValue(Bundle[Any]):
    """A value and whether it was erased, which rows have as one value."""

    def create_row_processor(
        self, query: Any, procs: Sequence[Callable[[Any], Any]], labels: Sequence[str]
    ) -> Callable[[Any], Any]:
        """Return what makes the value of a row."""
        value, has_mark = procs
        return lambda row: ERASED if has_mark(row) else value(row)


def _visible(compared: Subquery) -> Select[Any]:
    """Return the events to show: those that are marked, or changed the attribute."""
    columns = compared.c
    differs = stored_differs(columns.before, columns.after)
    shown: list[Any] = [columns[n] for n in (*_COLUMNS, "pgh_context")]
    if "before_erased" in columns:
        differs = or_(differs, columns.before_erased != columns.after_erased)
        for moment in ("before", "after"):
            pair = columns[moment], columns[f"{moment}_erased"]
            shown.append(_ErasableValue(moment, *pair))
    else:
        shown += [columns.before, columns.after]
    return (
        select(*shown).where(or_(columns.is_visible, differs)).order_by(columns.pgh_id)
    )
