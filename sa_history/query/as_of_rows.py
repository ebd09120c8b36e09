"""The rows of a tracked table as they were, from its events."""

from __future__ import annotations

import enum
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    and_,
    exists,
    func,
    null,
    select,
)
from sqlalchemy import cast as sql_cast

from sa_history.capture.event_table import key_columns
from sa_history.capture.recording import OLD_KEY
from sa_history.sql.naming import AS_OF
from sa_history.sql.output_settings import output_settings, type_of_json_text
from sa_history.tracking.completeness import GONE, full_row_events, is_one_of
from sa_history.tracking.registry import Tracking


class Moment(enum.Enum):
    """The column that tells a moment; the moment itself stands in a setting."""

    EVENT = "pgh_id"
    TIME = "pgh_created_at"
    TRANSACTION = "pgh_xact_id"

    def has(self, events: FromClause) -> ColumnElement[bool]:
        """Return whether an event had happened by then."""
        column = events.c[self.value]
        # A subquery is asked once for the statement, a function for each row.
        moment = select(sql_cast(func.current_setting(AS_OF), column.type))
        return column <= moment.scalar_subquery()


def rows_as_of(tracking: Tracking, moment: Moment) -> Select[object]:
    """Return the rows of a table as they were, as columns of the table.

    The last event of each row, by then, is the one that no other comes after. Said so,
    and not by DISTINCT ON, PostgreSQL can look for rows by any column. What is not
    tracked is NULL.
    """
    event, later = _aliases(tracking, "then", "later")
    known: dict[Any, ColumnElement[Any]] = {
        column.name: column for column in event.c if not _is_own(column.name)
    }
    if tracking.tracked_columns.object_id is not None:
        # The copy of the key is the one that has an index.
        (key,) = tracking.table.primary_key
        (known[key.name],) = _keys(tracking, event)
    columns = [
        known.get(c.name, sql_cast(null(), c.type)).label(c.name)
        for c in tracking.table.columns
    ]
    return select(*columns).where(
        moment.has(event),
        ~is_one_of(event.c.pgh_op, GONE),
        *full_row_events(tracking, event),
        ~exists().where(
            *same_row(tracking, later, event),
            later.c.pgh_id > event.c.pgh_id,
            moment.has(later),
            *full_row_events(tracking, later),
        ),
        ~_has_another_key(tracking, event, moment),
    )


def same_row(
    tracking: Tracking, one: FromClause, other: FromClause
) -> list[ColumnElement[bool]]:
    """Return whether two events are of rows with the same key."""
    pairs = zip(_keys(tracking, one), _keys(tracking, other), strict=True)
    return [key == same for key, same in pairs]


def _left_key(
    tracking: Tracking, moved: FromClause, event: FromClause
) -> list[ColumnElement[bool]]:
    """Return whether the row of an event has left the key of another event's row.

    :param moved: the events of rows that have another key now.
    :param event: the event with the key.
    """
    keys = _keys(tracking, event)
    if not output_settings(key.type for key in keys):
        return [moved.c[OLD_KEY] == func.jsonb_build_array(*keys)]
    return [
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


def _keys(tracking: Tracking, events: FromClause) -> list[ColumnElement[Any]]:
    keys = key_columns(tracking.tracked_columns, tracking.event_table)
    return [events.c[key.name] for key in keys]


def _has_another_key(
    tracking: Tracking, event: FromClause, moment: Moment
) -> ColumnElement[bool]:
    moved, any_ = _aliases(tracking, "moved", "any")
    left = [
        *_left_key(tracking, moved, event),
        moved.c.pgh_id > event.c.pgh_id,
        moment.has(moved),
    ]
    if tracking.table.primary_key.deferrable:
        # One statement may give a row the key of another that gets one itself.
        left.append(~_was_that_of_another(tracking, event, moved))
    # Whether a key has ever changed is asked once; where none has, as is usual, no key
    # is made a list of.
    return and_(exists().where(any_.c[OLD_KEY].is_not(None)), exists().where(*left))


def _was_that_of_another(
    tracking: Tracking, event: FromClause, moved: FromClause
) -> ColumnElement[bool]:
    """Return whether the row that left a key had it before the event's row took it."""
    owner, between, gone = _aliases(tracking, "owner", "between", "gone")
    is_other = owner.c[OLD_KEY].is_distinct_from(event.c[OLD_KEY])
    return and_(
        event.c[OLD_KEY].is_not(None),
        event.c.pgh_xact_id == moved.c.pgh_xact_id,
        exists().where(
            *same_row(tracking, owner, event),
            owner.c.pgh_id < event.c.pgh_id,
            ~is_one_of(owner.c.pgh_op, GONE),
            is_other,
            ~exists().where(
                *same_row(tracking, between, owner),
                between.c.pgh_id > owner.c.pgh_id,
                between.c.pgh_id < event.c.pgh_id,
                is_one_of(between.c.pgh_op, GONE),
            ),
            ~exists().where(
                *_left_key(tracking, gone, owner),
                gone.c.pgh_id > owner.c.pgh_id,
                gone.c.pgh_id < event.c.pgh_id,
            ),
        ),
    )


def _aliases(tracking: Tracking, *names: str) -> list[FromClause]:
    return [tracking.event_table.alias(f"pgh_{name}") for name in names]


def _is_own(name: str) -> bool:
    return name.startswith("pgh_")
