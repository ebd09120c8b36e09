"""Events as JSON: the data of a row, and its difference to the previous event."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    FromClause,
    String,
    Text,
    and_,
    case,
    column,
    exists,
    func,
    literal,
    null,
    or_,
    select,
    true,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.expression import TableClause

from sa_history._types import Op
from sa_history.capture.event_table import PREFIX
from sa_history.capture.seal_tables import ERASED_COLUMN
from sa_history.query.json_values import as_jsonb
from sa_history.sql.column_types import holds_decimals
from sa_history.sql.comparison import stored_differs
from sa_history.sql.compose import pairs_by_call
from sa_history.tracking.completeness import comparable_events
from sa_history.tracking.erased import is_erased
from sa_history.tracking.event_keys import have_key, keys_of, old_keys_of
from sa_history.tracking.registry import Tracking
from sa_history.tracking.shared_keys import had_shared_key


class NamedTable(TableClause):
    """What a statement reads from by its name alone, such as its page of events."""

    inherit_cache = True


class EventTable(NamedTable):
    """An event table with some of its columns: each costs time in an alias."""

    _use_schema_map = True  # as tables do, for schema_translate_map


def event_alias(
    tracking: Tracking, name: str, whole: Sequence[str] | None
) -> FromClause:
    """Return an alias of the event table.

    :param whole: what :func:`names_in_whole_row` returns, if events are converted as a
        whole. The alias has no more columns than what identifies them then.
    """
    table = tracking.event_table
    if whole is None or _has_siblings(tracking):
        return table.alias(name)
    keys = {column.name for column in tracking.table.primary_key}
    columns = (c for c in table.c if c.name in keys or c.name.startswith(PREFIX))
    few = (column(c.name, c.type) for c in columns)
    return EventTable(table.name, *few, schema=table.schema).alias(name)


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


def stored_values(
    tracking: Tracking, event: FromClause, names: Sequence[str] | None
) -> list[ColumnElement[Any]]:
    """Return what :func:`data_of` and :func:`diff_of` are made of.

    These are the event's values as JSON, those of the row's previous event, and the
    names of the values to show. If events are converted as a whole, the statement does
    not name their columns, which PostgreSQL would have to parse and plan. For each
    event it costs more then, as columns are converted that are not shown.

    :param event: what :func:`event_alias` returns.
    :param names: what :func:`names_in_whole_row` returns, to convert events as a whole.
    """
    before: ColumnElement[Any] = sql_cast(null(), JSONB)
    if keys_of(tracking, event):
        previous = event_alias(tracking, "previous", names)
        shared = had_shared_key(tracking, event)
        before = (
            select(_values(tracking, previous, "previous", names))
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
    shown: Any = null() if names is None else literal(_array_literal(names), Text)
    return [
        _values(tracking, event, "event", names).label("stored"),
        before.label("before"),
        sql_cast(shown, ARRAY(Text)).label("names"),
    ]


def _array_literal(texts: Iterable[str]) -> str:
    """Return an array as PostgreSQL reads it from one text, which is compiled faster.

    https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
    """
    quoted = (re.sub(r'(["\\\\])', r"\\\1", text) for text in texts)
    return "{" + ",".join(f'"{text}"' for text in quoted) + "}"


def data_of(events: FromClause) -> ColumnElement[Any]:
    """Return the stored columns as a JSON object by attribute name.

    :param events: has the columns of :func:`stored_values`.
    """
    # Event tables keep columns that models have no more, so what to leave out is what
    # is left without the names. It takes a tenth of the time of an aggregate.
    others = func.jsonb_object_keys(events.c.stored.op("-")(events.c.names))
    key = others.table_valued("key", name="other").render_derived()
    left_out = func.array(select(key.c.key).correlate(events).scalar_subquery())
    shown = events.c.stored.op("-", return_type=JSONB())(left_out)
    return case((events.c.names.is_(None), events.c.stored), else_=shown)


def diff_of(events: FromClause) -> ColumnElement[Any]:
    """Return the changed attributes, ``{attribute: [before, after]}``.

    :param events: has the columns of :func:`stored_values`.
    """
    was = func.jsonb_each(events.c.before).table_valued("key", "value", name="was")
    now = func.jsonb_each(events.c.stored).table_valued("key", "value", name="now")
    # As text: 1.0 and 1.00 are equal as JSON, but not stored alike.
    differs = sql_cast(was.c.value, Text).is_distinct_from(sql_cast(now.c.value, Text))
    is_shown = or_(events.c.names.is_(None), now.c.key == func.any(events.c.names))
    pairs = func.jsonb_object_agg(
        now.c.key, func.jsonb_build_array(was.c.value, now.c.value), type_=JSONB
    ).filter(differs, is_shown)
    changes = func.coalesce(pairs, sql_cast(literal("{}", Text), JSONB), type_=JSONB)
    # Without an event before there is nothing to count, and so no diff.
    return (
        select(case((func.count() > 0, changes)))
        .select_from(was.join(now, now.c.key == was.c.key))
        .correlate(events)
        .scalar_subquery()
    )


def diff_of_attributes(
    events: FromClause, attributes: Iterable[str]
) -> ColumnElement[Any]:
    """Return what :func:`diff_of` does, without a subquery, which Citus cannot deparse.

    :param events: has the columns of :func:`stored_values`, of events that are not
        converted as a whole.
    :param attributes: the attributes that the events may store.
    """
    before, stored = events.c.before, events.c.stored
    empty = sql_cast(literal("{}", Text), JSONB)
    changes: ColumnElement[Any] = empty
    for name in attributes:
        was, now, key = before[name], stored[name], literal(name, Text)
        differs = and_(
            before.has_key(key),
            stored.has_key(key),
            sql_cast(was, Text).is_distinct_from(sql_cast(now, Text)),
        )
        pair = func.jsonb_build_object(
            key, func.jsonb_build_array(was, now), type_=JSONB
        )
        changed = case((differs, pair), else_=empty)
        changes = changes.op("||", return_type=JSONB())(changed)
    return case((before.is_not(None), changes))


def _not_siblings(
    tracking: Tracking, event: FromClause, previous: FromClause
) -> list[ColumnElement[bool]]:
    """Return criteria that leave out events of the same change under other labels."""
    if not _has_siblings(tracking):
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
            *_is_last_of_label(tracking, event, previous),
        )
    ]


def _is_last_of_label(
    tracking: Tracking, event: FromClause, previous: FromClause
) -> list[ColumnElement[bool]]:
    """Return whether no event with the label of a previous one is between the two.

    One change leaves no two events with a label, so an earlier one is of another change
    even if the values are the same.
    """
    if tracking.is_distributed:
        return []  # Citus might refuse a subquery in one that it has to push down
    nearer = tracking.event_table.alias("nearer")
    is_between = exists().where(
        *have_key(tracking, nearer, old_keys_of(tracking, event)),
        nearer.c.pgh_label == previous.c.pgh_label,
        nearer.c.pgh_id > previous.c.pgh_id,
        nearer.c.pgh_id < event.c.pgh_id,
    )
    return [~is_between.correlate(event, previous)]


def _has_siblings(tracking: Tracking) -> bool:
    """Return whether one change can leave events under several labels."""
    operations = [o for t in tracking.trackers for o in t.operations]
    return len(operations) > len(set(operations))


def names_in_whole_row(tracking: Tracking) -> Sequence[str] | None:
    """Return the attributes to take of ``to_jsonb`` of whole events.

    :return: None if that is not the same as the attributes one by one: attributes and
        columns have other names, a tracker stores less than all, or a value has to be
        made fit for jsonb.
    """
    columns = tracking.tracked_columns
    is_plain = all(
        columns.column_name(name) == name and as_jsonb(column) is column
        for name, column in columns.by_attribute.items()
        if name in columns.stored
    )
    stores_all = all(t.stored(columns) == columns.stored for t in tracking.trackers)
    return columns.stored if columns.stored and is_plain and stores_all else None


def _values(
    tracking: Tracking, events: FromClause, alias: str, names: Sequence[str] | None
) -> ColumnElement[Any]:
    """Return the values of events as a JSON object.

    :param events: an alias of the event table.
    :param alias: its name.
    :param names: None to name each attribute in the statement.
    """
    if names is not None:
        # With the asterisk, as a column may have the name of the alias.
        row = func.to_jsonb(column(f"{alias}.*", is_literal=True), type_=JSONB)
        return _with_erased(tracking, events, row)
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


def _with_erased(
    tracking: Tracking, events: FromClause, row: ColumnElement[Any]
) -> ColumnElement[Any]:
    """Return a row as JSON, with the word for what was erased in place of null."""
    if not tracking.options.erasable:
        return row
    erased = events.c[ERASED_COLUMN]
    names = func.unnest(erased).table_valued("name", name="erased").render_derived()
    words = (
        select(func.jsonb_object_agg(names.c.name, _erased_word(), type_=JSONB))
        .select_from(names)
        .correlate(events)
        .scalar_subquery()
    )
    with_words = row.op("||", return_type=JSONB())(words)
    return case((erased.is_not(None), with_words), else_=row)


def _value(
    tracking: Tracking, events: FromClause, name: str, column_name: str
) -> ColumnElement[Any]:
    """Return an attribute's value as JSON, or the word for one that was erased."""
    value = as_jsonb(events.c[column_name])
    if name not in tracking.options.erasable:
        return value
    has_no_value = is_erased(column_name, events.c[ERASED_COLUMN])
    return case((has_no_value, _erased_word()), else_=func.to_jsonb(value, type_=JSONB))


def _erased_word() -> ColumnElement[Any]:
    return func.jsonb_build_object(literal("erased", Text), true(), type_=JSONB)


def _object(
    tracking: Tracking, events: FromClause, stored: Sequence[str]
) -> ColumnElement[Any]:
    columns = tracking.tracked_columns.by_attribute
    pairs = [
        (literal(n, String), _value(tracking, events, n, columns[n].name))
        for n in stored
    ]
    chunks = [
        func.jsonb_build_object(*itertools.chain(*chunk), type_=JSONB)
        for chunk in pairs_by_call(pairs)
    ]
    whole: ColumnElement[Any] = chunks[0] if chunks else sql_cast("{}", JSONB)
    for chunk in chunks[1:]:
        whole = whole.op("||", return_type=JSONB())(chunk)
    return whole
