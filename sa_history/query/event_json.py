"""Events as JSON: the data of a row, and its difference to the previous event."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    String,
    Subquery,
    Text,
    and_,
    case,
    func,
    literal,
    null,
    select,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import JSONB

from sa_history._types import Op
from sa_history.query.json_values import as_jsonb
from sa_history.query.row_keys import have_key, keys_of, old_keys_of
from sa_history.sql.column_types import holds_decimals
from sa_history.sql.comparison import stored_differs
from sa_history.sql.compose import pairs_by_call
from sa_history.tracking.completeness import comparable_events
from sa_history.tracking.registry import Tracking
from sa_history.tracking.shared_keys import had_shared_key


def event_details(page: Subquery, index: int, tracking: Tracking) -> Select[Any]:
    """Return a SELECT of data and diff of an event of the page, if it is of this table.

    The criterion on ``source`` is constant for the event, so PostgreSQL does not run
    the branches of other tables.

    :param page: the events of the page.
    :param index: the ``source`` of the page's events of this table.
    """
    event, data, diff = tracking.remembered("event_details", _event_details)
    return select(data.label("pgh_data"), diff.label("pgh_diff")).where(
        event.c.pgh_id == page.c.pgh_id, page.c.source == index
    )


def decimal_attributes(trackings: Iterable[Tracking]) -> frozenset[str]:
    """Return the attributes whose values in data and diff are decimal numbers.

    An attribute of one model may have the name of one of another, which has floats.
    These are decimal numbers as well then, as they lose nothing by it.
    """
    return frozenset().union(
        *(t.remembered("decimal_attributes", _decimal_attributes) for t in trackings)
    )


def _decimal_attributes(tracking: Tracking) -> frozenset[str]:
    columns = tracking.tracked_columns.by_attribute
    return frozenset(name for name, c in columns.items() if holds_decimals(c.type))


def _event_details(
    tracking: Tracking,
) -> tuple[FromClause, ColumnElement[Any], ColumnElement[Any]]:
    """Return an alias of the event table, with the data and the diff of its events."""
    event = tracking.event_table.alias("event")
    data = _data(tracking, event)
    diff: ColumnElement[Any] = sql_cast(null(), JSONB)
    if keys_of(tracking, event):
        previous = tracking.event_table.alias("previous")
        shared = had_shared_key(tracking, event)
        before = (
            select(_data(tracking, previous).label("data"))
            .where(
                *have_key(tracking, previous, old_keys_of(tracking, event)),
                previous.c.pgh_id < event.c.pgh_id,
                event.c.pgh_op.not_in([Op.INSERT.value, Op.BASELINE.value]),
                *comparable_events(tracking, previous),
                *_not_siblings(tracking, event, previous),
                *([] if shared is None else [~shared]),
            )
            .order_by(previous.c.pgh_id.desc())
            .limit(1)
            .correlate(event)
            .scalar_subquery()
        )
        diff = _diff(event, before, data)
    return event, data, diff


def _not_siblings(
    tracking: Tracking, event: FromClause, previous: FromClause
) -> list[ColumnElement[bool]]:
    """Return criteria that leave out events of the same change under other labels."""
    operations = [o for t in tracking.trackers for o in t.operations]
    if len(operations) == len(set(operations)):
        return []
    columns = tracking.tracked_columns
    common = set(columns.stored).intersection(
        *(tracker.stored(columns) for tracker in tracking.trackers)
    )
    names = [columns.column_name(name) for name in columns.stored if name in common]
    same_row = and_(
        *(~stored_differs(previous.c[name], event.c[name]) for name in names)
    )
    return [
        ~and_(
            previous.c.pgh_xact_id == event.c.pgh_xact_id,
            previous.c.pgh_op == event.c.pgh_op,
            previous.c.pgh_label != event.c.pgh_label,
            same_row,
        )
    ]


def _data(tracking: Tracking, events: FromClause) -> ColumnElement[Any]:
    """Return the stored columns as a JSON object by attribute name."""
    columns = tracking.tracked_columns
    by_label: Mapping[str, tuple[str, ...]] = {
        tracker.event_label: tracker.stored(columns) for tracker in tracking.trackers
    }
    if all(stored == columns.stored for stored in by_label.values()):
        return _object(tracking, events, columns.stored)
    return case(
        {
            label: _object(tracking, events, stored)
            for label, stored in by_label.items()
        },
        value=events.c.pgh_label,
        else_=_object(tracking, events, columns.stored),
    )


def _object(
    tracking: Tracking, events: FromClause, stored: Sequence[str]
) -> ColumnElement[Any]:
    columns = tracking.tracked_columns.by_attribute
    pairs = [(literal(n, String), as_jsonb(events.c[columns[n].name])) for n in stored]
    chunks = [
        func.jsonb_build_object(*itertools.chain(*chunk), type_=JSONB)
        for chunk in pairs_by_call(pairs)
    ]
    whole: ColumnElement[Any] = chunks[0] if chunks else sql_cast("{}", JSONB)
    for chunk in chunks[1:]:
        whole = whole.op("||", return_type=JSONB())(chunk)
    return whole


def _diff(
    event: FromClause, before: ColumnElement[Any], after: ColumnElement[Any]
) -> ColumnElement[Any]:
    was = func.jsonb_each(before).table_valued("key", "value", name="was")
    now = func.jsonb_each(after).table_valued("key", "value", name="now")
    # As text: 1.0 and 1.00 are equal as JSON, but not stored alike.
    differs = sql_cast(was.c.value, Text).is_distinct_from(sql_cast(now.c.value, Text))
    pairs = func.jsonb_object_agg(
        now.c.key, func.jsonb_build_array(was.c.value, now.c.value), type_=JSONB
    ).filter(differs)
    changes = func.coalesce(pairs, sql_cast(literal("{}", Text), JSONB), type_=JSONB)
    # Without an event before there is nothing to count, and so no diff.
    return (
        select(case((func.count() > 0, changes)))
        .select_from(was.join(now, now.c.key == was.c.key))
        .correlate(event)
        .scalar_subquery()
    )
