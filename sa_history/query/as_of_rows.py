"""The rows of a tracked table as of a point in time, as a SELECT from its events."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    and_,
    case,
    exists,
    func,
    null,
    or_,
    select,
    text,
    tuple_,
)
from sqlalchemy import cast as sql_cast

from sa_history._types import Op
from sa_history.capture.event_table import OLD_KEY, PREFIX
from sa_history.capture.seal_tables import ERASED_COLUMN
from sa_history.sql.naming import AS_OF
from sa_history.sql.output_settings import output_settings, type_of_json_text
from sa_history.tracking.completeness import GONE, full_row_events, is_one_of
from sa_history.tracking.event_keys import are_together, have_key, keys_of
from sa_history.tracking.registry import Tracking


class PointInTime(enum.Enum):
    """The event column that a point in time is compared with.

    The value to compare with is in the setting ``AS_OF``, so the SQL is the same for
    all points in time.
    """

    EVENT = "pgh_id"
    TIME = "pgh_created_at"
    TRANSACTION = "pgh_xact_id"

    def includes(self, events: FromClause) -> ColumnElement[bool]:
        """Return the criterion of events that are not after the point in time.

        :param events: the event table, or an alias of it.
        """
        column = events.c[self.value]
        # A subquery is evaluated once for the statement, a function for each row.
        value = select(sql_cast(func.current_setting(AS_OF), column.type))
        return column <= value.scalar_subquery()


def rows_as_of(
    tracking: Tracking,
    point: PointInTime,
    *,
    keys_stayed: bool = False,
    is_by_key: bool = False,
    has_order_of_json: bool = True,
) -> Select[Any]:
    """Return a SELECT of the rows of a table as of a point in time.

    A row is its last event by then, which is the event that has no later one. Written
    with NOT EXISTS and not with DISTINCT ON, PostgreSQL can push a condition on any
    column into the SELECT.

    :param keys_stayed: True if no row is known to have got another key. It spares
        PostgreSQL half of the plan, which is long if there are many partitions.
    :param is_by_key: True if the row with one key is read. A condition on the key is
        pushed into DISTINCT ON, too, and then PostgreSQL reads the row's events from
        the newest on, and no partition after the one that has the last event.
    :param has_order_of_json: False if what runs the statement does not order JSON.
    :return: a SELECT with the columns of the table, those that are not tracked being
        NULL; and with ``pgh_erased``, if values can be erased.
    """
    event, criteria = (_last_of_keys if is_by_key else _last_events)(
        tracking, point.includes
    )
    known: dict[Any, ColumnElement[Any]] = {
        column.name: column for column in event.c if not column.name.startswith(PREFIX)
    }
    if tracking.tracked_columns.object_id is not None:
        # The copy of the key is the column that has an index.
        (key,) = tracking.table.primary_key
        (known[key.name],) = keys_of(tracking, event)
    columns: list[ColumnElement[Any]] = [
        known.get(c.name, sql_cast(null(), c.type)).label(c.name)
        for c in tracking.table.columns
    ]
    if tracking.options.erasable:
        columns.append(event.c[ERASED_COLUMN])
    if not keys_stayed:
        left = _left_its_key(tracking, event, point.includes, has_order_of_json)
        criteria.append(~left)
    return select(*columns).where(*criteria)


def has_left_keys(tracking: Tracking) -> Select[tuple[bool]]:
    """Return a SELECT of whether a row has ever got another key."""
    return select(_has_any_left(tracking))


def last_events(tracking: Tracking, lower: int, upper: int) -> Select[Any]:
    """Return a SELECT of the last event of each row of then, among some events.

    Their numbers are in the statement, so that PostgreSQL reads their partitions only.

    :param lower: the lowest number of these events.
    :param upper: the first number after them.
    :return: a SELECT with the columns of the event table.
    """

    def includes(events: FromClause) -> ColumnElement[bool]:
        return and_(events.c.pgh_id >= lower, events.c.pgh_id < upper)

    event, criteria = _last_events(tracking, includes)
    return select(event).where(*criteria, ~_left_its_key(tracking, event, includes))


def are_last_no_more(
    tracking: Tracking, event: FromClause, lower: int, upper: int
) -> list[ColumnElement[bool]]:
    """Return criteria of which events meet one that were last ones, and are none now.

    Each is for a statement of its own, whose time depends on the events that came.

    :param event: events that were the last ones of their rows before others came.
    :param lower: the lowest number of those that came.
    :param upper: the first number after them.
    """
    (later,) = _aliases(tracking, "later")

    def includes(events: FromClause) -> ColumnElement[bool]:
        return events.c.pgh_id < upper

    has_later = exists().where(
        *have_key(tracking, later, keys_of(tracking, event)),
        later.c.pgh_id >= lower,
        includes(later),
        *full_row_events(tracking, later),
    )
    # The first counts events where keys are deferrable, and the second does not.
    return [_left_its_key(tracking, event, includes), has_later]


def _last_events(
    tracking: Tracking, includes: Callable[[FromClause], ColumnElement[bool]]
) -> tuple[FromClause, list[ColumnElement[bool]]]:
    """Return the event table, and the criteria of the last events with their keys.

    :param includes: returns the criterion of the events that are looked at.
    """
    event, later = _aliases(tracking, "then", "later")
    return event, [
        includes(event),
        ~is_one_of(event.c.pgh_op, GONE),
        *full_row_events(tracking, event),
        ~exists().where(
            *have_key(tracking, later, keys_of(tracking, event)),
            later.c.pgh_id > event.c.pgh_id,
            includes(later),
            *full_row_events(tracking, later),
        ),
    ]


def _last_of_keys(
    tracking: Tracking, includes: Callable[[FromClause], ColumnElement[bool]]
) -> tuple[FromClause, list[ColumnElement[bool]]]:
    """Return a subquery of the last events with their keys, and that they are rows.

    :param includes: returns the criterion of the events that are looked at.
    """
    (each,) = _aliases(tracking, "each")
    keys = keys_of(tracking, each)
    last = (
        select(each)
        # SQLAlchemy 2.0 writes it as distinct(...), which 2.1 has deprecated.
        .prefix_with(text("DISTINCT ON"), tuple_(*keys))
        .where(includes(each), *full_row_events(tracking, each))
        .order_by(*keys, each.c.pgh_id.desc())
        .subquery("pgh_then")
    )
    return last, [~is_one_of(last.c.pgh_op, GONE)]


def _left_key(
    tracking: Tracking, moved: FromClause, event: FromClause
) -> list[ColumnElement[bool]]:
    """Return whether the row of an event has left the key of another event's row.

    :param moved: the events of rows that have another key now.
    :param event: the event with the key.
    """
    keys = keys_of(tracking, event)
    together = are_together(tracking, moved, event)
    if not output_settings(key.type for key in keys):
        return [*together, moved.c[OLD_KEY] == func.jsonb_build_array(*keys)]
    return [
        *together,
        moved.c[OLD_KEY].is_not(None),
        *(_is_value(moved.c[OLD_KEY][n], key) for n, key in enumerate(keys)),
    ]


def _is_value(stored: Any, value: ColumnElement[Any]) -> ColumnElement[bool]:
    """Return whether a part of ``pgh_old_key`` is JSON of a value.

    As JSON the two cannot be compared if the session that reads has settings by which
    it writes the value otherwise than the trigger has.
    """
    type_ = type_of_json_text(value.type)
    if type_ is None:
        return cast(ColumnElement[bool], stored == func.to_jsonb(value))
    return sql_cast(stored.astext, type_) == value


def _left_its_key(
    tracking: Tracking,
    event: FromClause,
    includes: Callable[[FromClause], ColumnElement[bool]],
    has_order_of_json: bool = True,
) -> ColumnElement[bool]:
    """Return whether the row of an event got another key later, by the point in time.

    An example, in which a row is inserted with the key 1 and gets the key 2::

        pgh_id  pgh_op  key  pgh_old_key
        11      I       1                 event: the last one with the key 1
        12      U       2    [1]          moved: its row had the key 1 before
    """
    moved, any_ = _aliases(tracking, "moved", "any")
    criteria = [
        *_left_key(tracking, moved, event),
        moved.c.pgh_id > event.c.pgh_id,
        includes(moved),
    ]
    if tracking.table.primary_key.deferrable:
        # Only within a transaction several rows have one key.
        is_later = event.c.pgh_xact_id != moved.c.pgh_xact_id
        criteria.append(or_(is_later, ~_has_key_at_end(tracking, event, includes)))
    together = are_together(tracking, any_, event)
    if together or not has_order_of_json:
        # Citus looks for one event on one node, and has no least one of all nodes. In
        # an archive JSON is text, which has another order.
        is_any = exists().where(*together, any_.c[OLD_KEY].is_not(None))
        return and_(is_any, exists().where(*criteria))
    if tracking.options.partition_by is not None:
        # To begin a range in each partition takes longer than a look at some events.
        return and_(_has_any_left(tracking), exists().where(*criteria))
    # In most tables no key has ever changed. The bounds are evaluated once for the
    # statement, and if they are NULL no event is read. Of a table that nobody has
    # analysed, PostgreSQL takes a range for few events, and any key for nearly all.
    old_key = moved.c[OLD_KEY]
    within = [old_key >= _end(any_, is_last=False), old_key <= _end(any_, is_last=True)]
    return exists().where(*criteria, *within)


def _end(events: FromClause, *, is_last: bool) -> ColumnElement[Any]:
    """Return the least or the greatest key that a row has ever left, NULL if none has.

    PostgreSQL looks for it in the index.
    """
    old_key = events.c[OLD_KEY]
    order = old_key.desc() if is_last else old_key
    ends = select(old_key).where(old_key.is_not(None)).order_by(order).limit(1)
    return ends.scalar_subquery()


def _has_any_left(tracking: Tracking) -> ColumnElement[bool]:
    """Return whether a row has ever got another key.

    Of a table that nobody has analysed, PostgreSQL thinks that nearly all events have
    an old key. With EXISTS it would go through the table for one, and there is none.
    So it is asked for the least one, which it looks for in the index.
    """
    (any_,) = _aliases(tracking, "any")
    return _end(any_, is_last=False).is_not(None)


def _has_key_at_end(
    tracking: Tracking,
    event: FromClause,
    includes: Callable[[FromClause], ColumnElement[bool]],
) -> ColumnElement[bool]:
    """Return whether a row has the key of an event, by the point in time.

    With a deferrable primary key two rows can have one key until the transaction ends.
    An example, in which one UPDATE exchanges the keys of row a (1) and row b (2)::

        pgh_id  pgh_op  key  pgh_old_key
        1       I       2                 row b gets the key 2
        12      U       2    [1]          event: row a gets it, too
        13      U       1    [2]          row b leaves it

    Which row left the key is not recorded, but how many did: two got it and one left
    it, so one has it. A row that had it before its first event is counted, too.
    """
    each, first = _aliases(tracking, "each", "first")

    def gets(events: FromClause) -> ColumnElement[bool]:
        is_update = events.c.pgh_op == Op.UPDATE.value
        return and_(
            *have_key(tracking, events, keys_of(tracking, event)),
            ~is_one_of(events.c.pgh_op, GONE),
            or_(~is_update, events.c[OLD_KEY].is_not(None)),
        )

    def of_key(events: FromClause) -> list[ColumnElement[bool]]:
        has_key = have_key(tracking, events, keys_of(tracking, event))
        return [
            or_(and_(*has_key), and_(*_left_key(tracking, events, event))),
            *full_row_events(tracking, events),
        ]

    is_in_place = and_(
        *have_key(tracking, each, keys_of(tracking, event)),
        ~is_one_of(each.c.pgh_op, GONE),
    )
    change = case((gets(each), 1), (is_in_place, 0), else_=-1)
    changes = select(func.sum(change)).where(*of_key(each), includes(each))
    begins = select(case((gets(first), 0), else_=1)).where(*of_key(first))
    begins = begins.order_by(first.c.pgh_id).limit(1)
    counts = [s.correlate(event).scalar_subquery() for s in (begins, changes)]
    return counts[0] + counts[1] > 0


def _aliases(tracking: Tracking, *names: str) -> list[FromClause]:
    return [tracking.event_table.alias(f"pgh_{name}") for name in names]
