"""Digests of events in SQL: of one event, and of the events of a range of numbers.

The digest of an event is made of its number, of its values as text, and its context::

    leaf = number || sha256(context) || content
    content = sha256(values that are kept || commitment to those that can be erased)
    commitment = sha256(salt of the object || these values)

An erasure replaces these values by NULL and keeps the commitment in their place, which
without the salt tells nothing of them. Leaves stay as they were. A range's digest is
that of its leaves in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    FromClause,
    LargeBinary,
    Select,
    Subquery,
    TableClause,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    exists,
    false,
    func,
    literal,
    literal_column,
    or_,
    select,
    true,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by

from sa_history.capture.context_storage import CONTEXT_COLUMN, CONTEXT_ID_COLUMN
from sa_history.capture.partitioning import FIRST_ID, KEPT_OFFSET
from sa_history.capture.seal_tables import ERASED_COLUMN
from sa_history.sealing.sources import AsBytes, LeafColumns, Ledger, SealedTable, utf8

RANGE = 1_000
"""The number of events of a range."""

ID_BYTES, CONTENT_BYTES, CONTEXT_BYTES = 4, 4, 2
MARK = ID_BYTES + CONTENT_BYTES + CONTEXT_BYTES
"""The bytes that a seal keeps of each event, to tell which events are others."""

_EMPTY: ColumnElement[Any] = literal_column("''::bytea", LargeBinary)
_NO_CONTEXT: ColumnElement[Any] = literal_column(
    rf"'\x{'00' * 32}'::bytea", LargeBinary
)
_WRONG: ColumnElement[Any] = literal_column(r"'\x00'::bytea", LargeBinary)


@dataclass(frozen=True)
class RangeDigest:
    """The digest of the events with numbers from one to another.

    :param first_id: the number of the first of the events; None if there are none.
    :param last_id: the number of the last of the events; None if there are none.
    :param events: how many events there are.
    :param digest: the digest of their leaves; None if there are none.
    :param marks: for each event ``MARK`` bytes: the beginning of the digest of its
        values; and after these of all events, for each the end of its number and the
        beginning of its context's digest.
    """

    first_id: int | None
    last_id: int | None
    events: int
    digest: bytes | None
    marks: bytes

    @classmethod
    def of_row(cls, row: Any) -> RangeDigest:
        """Return the digest that a row has in columns of these names."""
        return cls(
            row.first_id, row.last_id, row.events, bytes(row.digest), bytes(row.marks)
        )


NO_EVENTS = RangeDigest(None, None, 0, None, b"")
"""The digest of a range without events."""


@dataclass(frozen=True)
class KeptEvents:
    """Which events have lower numbers than they had, as others were removed.

    :param until: the number that they had at most. What has a low number and had a
        higher one is an event that somebody added.
    :param removed: the first and the last number of each range whose removal is
        recorded. Until its partition is dropped, an event of it is there twice.
    """

    until: int
    removed: Sequence[tuple[int, int]] = ()


def range_digests(
    ledger: Ledger,
    sealed: SealedTable,
    leaf_columns: LeafColumns,
    areas: Sequence[tuple[int, int]],
    kept: KeptEvents | None,
    *,
    with_marks: bool,
) -> list[RangeDigest]:
    """Return the digests of the events in areas of numbers, one for each area.

    :param areas: the first and the last number of each area, in their order; each
        begins where the one before it has ended.
    :param kept: which events are sealed as others than they are; None for none.
    :param with_marks: False to leave out the marks, which takes less time.
    """
    used = used_contexts(ledger, sealed, leaf_columns, areas, kept)
    query = select_ranges(
        ledger, sealed, leaf_columns, areas, used, kept, with_marks=with_marks
    )
    rows = ledger.connection.execute(query)
    found = {row.area: RangeDigest.of_row(row) for row in rows}
    return [found.get(number, NO_EVENTS) for number in range(1, len(areas) + 1)]


def select_ranges(
    ledger: Ledger,
    sealed: SealedTable,
    leaf_columns: LeafColumns,
    areas: Sequence[tuple[int, int]],
    used: Any,
    kept: KeptEvents | None,
    *,
    with_marks: bool = True,
) -> Select[Any]:
    """Return a SELECT of the digests of the events in areas of numbers.

    :param used: what :func:`used_contexts` returns for these areas.
    :return: a SELECT with the columns of ``RangeDigest``, the place of the area as
        ``area``, from 1 on, and as ``unsalted`` whether the object of an event should
        have a salt and has none; without areas that have no events.
    """
    bounds = bounds_of(areas)
    # A statement of the database does not know how many salts there are.
    has_many = ledger.has_many_salts(len(areas) * RANGE)
    each = _leaves(ledger, sealed, leaf_columns, bounds, used, kept, has_many)
    # Parts of the leaf: the beginning of the content; and the end of the number and the
    # beginning of the context, which are side by side.
    content = func.substr(each.c.leaf, 41, CONTENT_BYTES)
    others = func.substr(each.c.leaf, 9 - ID_BYTES, ID_BYTES + CONTEXT_BYTES)
    # The contents first: what begins at random is not compressed, which takes more time
    # than all digests, and saves little.
    marks = _joined(_in_order(content, each.c.id), _in_order(others, each.c.id))
    starts = bindparam("starts", [start for start, _ in areas], ARRAY(BigInteger))
    area = func.width_bucket(each.c.id, sql_cast(starts, ARRAY(BigInteger)))
    return select(
        area.label("area"),
        func.min(each.c.id).label("first_id"),
        func.max(each.c.id).label("last_id"),
        func.count().label("events"),
        sha256(_in_order(each.c.leaf, each.c.id)).label("digest"),
        (marks if with_marks else _EMPTY).label("marks"),
        func.bool_or(each.c.unsalted).label("unsalted"),
    ).group_by(literal_column("area"))


_FEW = 10_000
"""So many ids of contexts are given to statements, and no more."""


def used_contexts(
    ledger: Ledger,
    sealed: SealedTable,
    leaf_columns: LeafColumns,
    areas: Sequence[tuple[int, int]],
    kept: KeptEvents | None,
) -> Any:
    """Return the ids of the contexts of some events.

    :return: a list, or a SELECT if they are many; an empty list if the contexts are no
        rows of the context table.
    """
    if not leaf_columns.refers_to_contexts:
        return []
    events = ledger.place(sealed.table, [sealed.id, CONTEXT_ID_COLUMN])
    is_meant = are_meant(events, sealed, bounds_of(areas), kept)
    used = select(events.c[CONTEXT_ID_COLUMN]).where(
        is_meant, events.c[CONTEXT_ID_COLUMN].is_not(None)
    )
    few = list(ledger.connection.scalars(used.distinct().limit(_FEW + 1)))
    return few if len(few) <= _FEW else used.distinct()


def contexts_in_use(ledger: Ledger, used: Any) -> Subquery:
    """Return the rows of contexts.

    :param used: what :func:`used_contexts` returns of their ids.
    """
    contexts = ledger.place(ledger.history.shared.context_table)
    if isinstance(used, list):
        given = sql_cast(bindparam("used", used, ARRAY(Uuid)), ARRAY(Uuid))
        return select(contexts).where(contexts.c.id == func.any(given)).subquery()
    ids = used.subquery()
    row = _found_one_by_one(
        select(contexts).where(contexts.c.id == ids.c[CONTEXT_ID_COLUMN])
    )
    return select(row).select_from(ids.join(row, true())).subquery()


def _found_one_by_one(query: Select[Any]) -> FromClause:
    """Return a row for each row before it in FROM, looked up in an index.

    A join would read all rows of a table for a few of them, again for each seal.
    """
    return query.limit(literal_column("1")).lateral()


def with_salts(
    ledger: Ledger, source: Any, name: str, key: ColumnElement[Any], has_many: bool
) -> tuple[Any, FromClause]:
    """Return a FROM clause with the salts joined to it, and the salts.

    :param name: the table that the salts are of.
    :param key: the key as text, of a row of the FROM clause.
    :param has_many: whether the table of salts has many more than are joined.
    """
    salts = ledger.place(ledger.tables.salt)
    query = select(salts.c.key, salts.c.salt).where(salts.c.table_name == name)
    if has_many:
        own = _found_one_by_one(query.where(salts.c.key == key))
        return source.outerjoin(own, true()), own
    of_table = query.subquery()
    return source.outerjoin(of_table, of_table.c.key == key), of_table


def bounds_of(areas: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the first and the last number of areas that follow one another."""
    return areas[0][0], areas[-1][1]


def are_meant(
    events: TableClause,
    sealed: SealedTable,
    bounds: tuple[int, int],
    kept: KeptEvents | None,
) -> ColumnElement[bool]:
    """Return which events have, or had, the numbers of an area.

    :param kept: as :func:`range_digests` has it.
    """
    if kept is not None:
        return _with_kept(events, sealed, bounds, kept)
    return events.c[sealed.id].between(*bounds)


def _leaves(
    ledger: Ledger,
    sealed: SealedTable,
    leaf_columns: LeafColumns,
    bounds: tuple[int, int],
    used: Any,
    kept: KeptEvents | None,
    has_many_salts: bool,
) -> Subquery:
    """Return a SELECT of events with the number and the leaf of each."""
    erased_names = [ERASED_COLUMN] if leaf_columns.can_be_erased else []
    names = [sealed.id, *leaf_columns.columns, *sealed.key, *erased_names]
    events = ledger.place(sealed.table, names)
    position: ColumnElement[int] = events.c[sealed.id]
    is_meant = are_meant(events, sealed, bounds, kept)
    if kept is not None:
        position = sealed.number(position)
    source: Any = events
    as_bytes = ledger.bytes_of_text()
    parts = [as_bytes(row_text(_kept(events.c, leaf_columns)))]
    unsalted: ColumnElement[bool] = false()
    is_told: ColumnElement[bool] | None = None
    if leaf_columns.can_be_erased:
        erased, key = _erased(ledger, sealed.name), key_text(events, sealed)
        source, salt = with_salts(ledger, source, sealed.name, key, has_many_salts)
        unsalted = salt.c.salt.is_(None)
        made = commitment(events, salt, leaf_columns, as_bytes)
        is_told = events.c[ERASED_COLUMN].is_(None)
        # In most tables nothing was ever erased, and so nothing is joined.
        if ledger.connection.scalar(select(exists(select(erased.c.id)))):
            number = sql_cast(position, Text)
            source = source.outerjoin(erased, erased.c.id == number)
            is_empty = [
                *(events.c[name].is_(None) for name in leaf_columns.erasable),
                *_keys_are_null(events, leaf_columns),
            ]
            made = _erased_or(erased, is_empty, made)
            is_told = events.c[ERASED_COLUMN].is_not_distinct_from(erased.c.columns)
        parts.append(made)
    context: ColumnElement[Any] = _NO_CONTEXT
    if leaf_columns.refers_to_contexts:
        keys = leaf_columns.context_keys
        digests = _context_digests(ledger, used, keys, has_many_salts)
        source = source.outerjoin(digests, digests.c.id == events.c[CONTEXT_ID_COLUMN])
        context = func.coalesce(digests.c.digest, _NO_CONTEXT)
    content = sha256(_joined(*parts))
    if is_told is not None:
        content = case((is_told, content), else_=sha256(_joined(*parts, _WRONG)))
    leaf = _joined(func.int8send(position, type_=LargeBinary), context, content)
    return (
        select(position.label("id"), leaf.label("leaf"), unsalted.label("unsalted"))
        .select_from(source)
        .where(is_meant)
        # It keeps PostgreSQL from making the same digest for each use of it.
        .offset(literal_column("0"))
        .subquery("each_event")
    )


def _with_kept(
    events: TableClause, sealed: SealedTable, bounds: tuple[int, int], kept: KeptEvents
) -> ColumnElement[bool]:
    """Return which events are meant, where some have lower numbers than they had."""
    number, (first_id, last_id) = events.c[sealed.id], bounds
    is_kept = number <= kept.until - KEPT_OFFSET
    own = number.between(max(first_id, FIRST_ID) - KEPT_OFFSET, last_id - KEPT_OFFSET)
    is_removed = or_(
        false(),
        *(
            number.between(first - KEPT_OFFSET, last - KEPT_OFFSET)
            for first, last in kept.removed
        ),
    )
    original = events.alias()
    is_there = exists().where(original.c[sealed.id] == number + KEPT_OFFSET)
    return or_(
        and_(number.between(first_id, last_id), ~is_kept),
        and_(is_kept, own, ~and_(is_removed, is_there)),
    )


def _erased(ledger: Ledger, name: str) -> Subquery:
    erased = ledger.place(ledger.tables.erased)
    return (
        select(erased.c.id, erased.c.columns, erased.c.commitment)
        .where(erased.c.table_name == name)
        .subquery()
    )


def commitment(
    events: Any, salt: Any, leaf_columns: LeafColumns, as_bytes: AsBytes = utf8
) -> ColumnElement[Any]:
    """Return the commitment to the values of an event that can be erased.

    :param events: the event table.
    :param salt: the table of salts, joined.
    :param as_bytes: makes the bytes of a text in UTF-8.
    """
    values = [events.c[name] for name in leaf_columns.erasable]
    if leaf_columns.stores_context and leaf_columns.context_keys:
        values += picked(events.c[CONTEXT_COLUMN], leaf_columns.context_keys)
    return sha256(_joined(_salt_of(salt), as_bytes(row_text(values))))


def context_commitment(
    contexts: Any, salt: Any, context_keys: Sequence[str]
) -> ColumnElement[Any]:
    """Return the commitment to the values of a context that can be erased."""
    values = picked(contexts.c.metadata, context_keys)
    return sha256(_joined(_salt_of(salt), utf8(row_text(values))))


def _salt_of(salt: Any) -> ColumnElement[Any]:
    """Return a salt; an empty one for a context that has nothing to erase."""
    return func.coalesce(salt.c.salt, _EMPTY)


def has_keys(metadata: Any, keys: Sequence[str]) -> ColumnElement[bool]:
    """Return whether the metadata of a context has a value that can be erased."""
    is_there = [func.jsonb_typeof(value) != "null" for value in picked(metadata, keys)]
    return func.coalesce(or_(*is_there), literal_column("false"))


def key_text(events: Any, sealed: SealedTable) -> ColumnElement[Any]:
    """Return the key of an event's row as text, as it is with salts."""
    keys = [events.c[name] for name in sealed.key]
    return sql_cast(keys[0] if len(keys) == 1 else func.row(*keys), Text)


def row_text(values: Sequence[ColumnElement[Any]]) -> ColumnElement[Any]:
    """Return values as one text, which no other values have."""
    return sql_cast(func.row(*values), Text)


def _context_digests(
    ledger: Ledger, used: Any, keys: Sequence[str], has_many_salts: bool
) -> Any:
    """Return the digests of contexts by their ids, each made once.

    :param used: what :func:`used_contexts` returns.
    :param keys: the keys whose values can be erased.
    """
    table = ledger.history.shared.context_table
    contexts = contexts_in_use(ledger, used)
    source: Any = contexts
    metadata = contexts.c.metadata
    kept = _without(metadata, keys) if keys else metadata
    others = ("id", "created_at", "updated_at", "parent_id")
    parts = [utf8(row_text([*(contexts.c[name] for name in others), kept]))]
    if keys:
        erased, number = _erased(ledger, table.fullname), sql_cast(contexts.c.id, Text)
        is_few = isinstance(used, list)
        source, salt = with_salts(
            ledger, source, table.fullname, number, is_few or has_many_salts
        )
        source = source.outerjoin(erased, erased.c.id == number)
        is_empty = [_is_null(value) for value in picked(metadata, keys)]
        made = context_commitment(contexts, salt, keys)
        parts.append(_erased_or(erased, is_empty, made))
    return (
        select(contexts.c.id, sha256(_joined(*parts)).label("digest"))
        .select_from(source)
        .cte("context_digest")
        .prefix_with("MATERIALIZED")
    )


def _erased_or(
    erased: Any, is_empty: Sequence[ColumnElement[bool]], made: ColumnElement[Any]
) -> ColumnElement[Any]:
    """Return the commitment of what was erased, or else the one that is made now.

    A value that somebody puts back into what was erased makes it another one.
    """
    return case(
        (erased.c.commitment.is_(None), made),
        (and_(*is_empty), erased.c.commitment),
        else_=_EMPTY,
    )


def _kept(columns: Any, leaf_columns: LeafColumns) -> list[ColumnElement[Any]]:
    """Return what is never erased of an event."""
    keys = leaf_columns.context_keys
    return [
        _without(columns[name], keys)
        if name == CONTEXT_COLUMN and keys
        else columns[name]
        for name in leaf_columns.columns
        if name not in leaf_columns.erasable
    ]


def _keys_are_null(events: Any, leaf_columns: LeafColumns) -> list[ColumnElement[bool]]:
    if not leaf_columns.stores_context:
        return []
    return [
        _is_null(value)
        for value in picked(events.c[CONTEXT_COLUMN], leaf_columns.context_keys)
    ]


def _is_null(value: ColumnElement[Any]) -> ColumnElement[bool]:
    return func.coalesce(func.jsonb_typeof(value), "null") == "null"


def picked(metadata: Any, keys: Sequence[str]) -> list[ColumnElement[Any]]:
    """Return the values of some keys of a context's metadata, as JSON."""
    arrow = sql_cast(metadata, JSONB).op("->", return_type=JSONB())
    return [arrow(literal(key, Text)) for key in keys]


def _without(metadata: Any, keys: Sequence[str]) -> ColumnElement[Any]:
    minus = sql_cast(metadata, JSONB).op("-", return_type=JSONB())
    return minus(sql_cast(literal(list(keys), ARRAY(Text)), ARRAY(Text)))


def sha256(value: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the digest of bytes."""
    return func.sha256(value, type_=LargeBinary)


def _in_order(value: ColumnElement[Any], number: Any) -> ColumnElement[Any]:
    return func.string_agg(value, aggregate_order_by(_EMPTY, number), type_=LargeBinary)


def _joined(*parts: ColumnElement[Any]) -> ColumnElement[Any]:
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.op("||", return_type=LargeBinary())(part)
    return whole
