"""Events of several models in one list, as PostgreSQL makes it of live events.

DuckDB has other JSON than PostgreSQL, so data and diffs are made in Python here, of the
values as they are stored.
"""

from __future__ import annotations

import datetime
import json
import math
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Table,
    and_,
    select,
    tuple_,
    type_coerce,
    types,
)
from sqlalchemy.dialects.postgresql import INET
from sqlalchemy.orm import Session

from sa_history._types import Op
from sa_history.archiving.duckdb_connection import OutOfRange
from sa_history.archiving.text_values import TEXT_OID, oid_of, text_reader
from sa_history.capture.event_table import OLD_KEY
from sa_history.capture.seal_tables import ERASED_COLUMN
from sa_history.query.aggregate import AggregateRow
from sa_history.query.event_json import decimal_attributes
from sa_history.query.pages import CriteriaOf
from sa_history.query.sources import EventSource
from sa_history.sql.column_types import POSTGRESQL, postgresql_type, without_domain
from sa_history.sql.compose import quote_ident, quote_literal
from sa_history.sql.readable_json import loads
from sa_history.tracking.completeness import StoredAttributes, stored_attributes
from sa_history.tracking.event_keys import keys_of
from sa_history.tracking.registry import Tracking
from sa_history.tracking.shared_keys import had_shared_key
from sa_history.tracking.stored_values import is_same_value

Covering: TypeAlias = Callable[
    [Mapping[Table, ColumnElement[bool] | str | None]], AbstractContextManager[None]
]
"""Begins a block whose first statement needs some live rows of tables, or all."""

Stored: TypeAlias = Mapping[str, Any]
"""The columns of an event as they are stored, by their names."""

MANY_KEYS = 1000
"""Of how many rows the events are asked for by their keys."""


def aggregate_rows(
    session: Session,
    sources: Sequence[EventSource],
    criteria: CriteriaOf,
    limit: int | None,
    newest_first: bool,
    covering: Covering,
) -> list[AggregateRow]:
    """Return the events of several tables, as ``AggregateEvent`` selects them.

    :param session: reads the archive.
    :param criteria: returns further criteria for the events of a table.
    :param covering: reads the live rows that a statement needs.
    """
    found: list[tuple[Stored, EventSource]] = []
    for source in sources:
        table = source.tracking.event_table
        order = table.c.pgh_id.desc() if newest_first else table.c.pgh_id
        wanted = [*source.criteria(), *criteria(source)]
        statement = _stored(source.tracking).where(*wanted).order_by(order)
        with covering({table: and_(*wanted) if wanted else None}):
            rows = _rows(session, statement.limit(limit))
        found += [(row, source) for row in rows]
    found.sort(key=lambda pair: pair[0]["pgh_id"], reverse=newest_first)
    by_source: dict[EventSource, list[Stored]] = defaultdict(list)
    for row, source in found[:limit]:
        by_source[source].append(row)
    decimals = decimal_attributes(source.tracking for source in sources)
    made = [
        row
        for source, rows in by_source.items()
        for row in _Maker(session, source.tracking, decimals, covering).rows(rows)
    ]
    return sorted(made, key=lambda row: row.pgh_id, reverse=newest_first)


def _stored(tracking: Tracking) -> Any:
    """Return the SELECT of events whose values are not made objects of Python."""
    columns = tracking.event_table.c
    return select(*(type_coerce(c, types.NullType()).label(c.name) for c in columns))


def _rows(session: Session, statement: Any) -> list[Stored]:
    return [dict(row) for row in session.execute(statement).mappings()]


@dataclass(frozen=True)
class _Maker:
    """Makes the rows of the events of one table.

    :param decimals: the attributes whose values are decimal numbers.
    """

    session: Session
    tracking: Tracking
    decimals: frozenset[str]
    covering: Covering

    def rows(self, events: Sequence[Stored]) -> list[AggregateRow]:
        """Return the rows of events."""
        stored = stored_attributes(self.tracking)
        contexts = self._contexts(events)
        before = self._before(events, stored)
        return [
            self._row(event, stored, contexts, before.get(event["pgh_id"]))
            for event in events
        ]

    def _row(
        self,
        event: Stored,
        stored: StoredAttributes,
        contexts: Mapping[Any, Any],
        before: Stored | None,
    ) -> AggregateRow:
        tracking = self.tracking
        data = self._data(event, stored)
        diff = None
        if before is not None:
            was = self._data(before, stored)
            diff = {
                name: [was[name], value]
                for name, value in data.items()
                if name in was and not is_same_value(was[name], value)
            }
        context_id = event.get("pgh_context_id")
        inline = event.get("pgh_context")
        return AggregateRow(
            pgh_id=event["pgh_id"],
            pgh_model=tracking.event_class.__name__,
            pgh_obj_model=tracking.subject,
            pgh_obj_id=self._object_id(event),
            pgh_label=event["pgh_label"],
            pgh_op=event["pgh_op"],
            pgh_created_at=event["pgh_created_at"],
            pgh_xact_id=event["pgh_xact_id"],
            pgh_context_id=None if context_id is None else uuid.UUID(context_id),
            pgh_context=contexts.get(context_id) if inline is None else loads(inline),
            pgh_data=data,
            pgh_diff=diff,
        )

    def _data(self, event: Stored, stored: StoredAttributes) -> dict[str, Any]:
        columns = stored.columns
        erased = _erased(event)
        names = stored.by_label.get(event["pgh_label"], columns.stored)
        found = {}
        for name in sorted(names, key=lambda name: (len(name.encode()), name)):
            column = columns.by_attribute[name]
            if column.name in erased:
                found[name] = {"erased": True}
                continue
            is_decimal = name in self.decimals
            found[name] = as_json(column.type, event[column.name], is_decimal)
        return found

    def _object_id(self, event: Stored) -> str | None:
        keys = keys_of(self.tracking, self.tracking.event_table)
        values = [as_json(key.type, event[key.name], True) for key in keys]
        if not values:
            return None
        if len(values) > 1:
            return _json_text(values)
        (value,), (key,) = values, keys
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, str) and isinstance(
            postgresql_type(key.type), types.DateTime
        ):
            return value.replace("T", " ").replace("+00:00", "+00")
        if isinstance(postgresql_type(key.type), INET) and "/" not in value:
            # What its cast to text adds.
            return f"{value}/{128 if ':' in value else 32}"
        return str(value)

    def _contexts(self, events: Sequence[Stored]) -> dict[Any, Any]:
        if self.tracking.options.context != "reference":
            return {}
        ids = {event["pgh_context_id"] for event in events} - {None}
        if not ids:
            return {}
        table = self.tracking.history.shared.context_table
        text = types.NullType()
        statement = select(
            type_coerce(table.c.id, text).label("id"),
            type_coerce(table.c.metadata, text).label("metadata"),
        )
        wanted = None
        if len(ids) <= MANY_KEYS:
            statement = statement.where(type_coerce(table.c.id, text).in_(ids))
            wanted = f"id IN ({', '.join(map(key_literal, sorted(ids)))})"
        with self.covering({table: wanted}):
            rows = _rows(self.session, statement)
        return {r["id"]: loads(r["metadata"]) for r in rows if r["id"] in ids}

    def _before(
        self, events: Sequence[Stored], stored: StoredAttributes
    ) -> dict[int, Stored]:
        """Return the event before each one, by its number."""
        keys = keys_of(self.tracking, self.tracking.event_table)
        asked = [e for e in events if e["pgh_op"] not in (Op.INSERT, Op.BASELINE)]
        if not keys or not asked:
            return {}
        names = [key.name for key in keys]
        wanted = {event["pgh_id"]: self._key_before(event, keys) for event in asked}
        by_key: dict[Any, list[Stored]] = defaultdict(list)
        for event in self._events_of(set(wanted.values()), keys):
            if _is_comparable(event, stored):
                by_key[tuple(event[name] for name in names)].append(event)
        shared = self._shared(list(wanted))
        found = {}
        for event in asked:
            number = event["pgh_id"]
            if number in shared:
                continue
            rows = reversed(by_key[wanted[number]])
            before = self._last_of_another_change(
                event, (row for row in rows if row["pgh_id"] < number)
            )
            if before is not None:
                found[number] = before
        return found

    def _key_before(
        self, event: Stored, keys: Sequence[ColumnElement[Any]]
    ) -> tuple[Any, ...]:
        if event[OLD_KEY] is None:
            return tuple(event[key.name] for key in keys)
        old = json.loads(event[OLD_KEY], parse_float=Decimal)
        return tuple(
            as_stored(value, event[key.name])
            for value, key in zip(old, keys, strict=True)
        )

    def _events_of(
        self, wanted: set[tuple[Any, ...]], keys: Sequence[ColumnElement[Any]]
    ) -> list[Stored]:
        table = self.tracking.event_table
        statement = _stored(self.tracking).order_by(table.c.pgh_id)
        live = None
        if len(wanted) <= MANY_KEYS:
            plain = [type_coerce(key, types.NullType()) for key in keys]
            statement = statement.where(
                plain[0].in_([key for (key,) in wanted])
                if len(plain) == 1
                else tuple_(*plain).in_(list(wanted))
            )
            names = ", ".join(quote_ident(key.name) for key in keys)
            values = (f"({', '.join(map(key_literal, key))})" for key in wanted)
            live = f"({names}) IN ({', '.join(sorted(values))})"
        with self.covering({table: live}):
            return _rows(self.session, statement)

    def _shared(self, numbers: Sequence[int]) -> set[int]:
        """Return the events of which it is not known what was before them."""
        events = self.tracking.event_table
        is_shared = had_shared_key(self.tracking, events)
        if is_shared is None:
            return set()
        statement = select(events.c.pgh_id).where(
            events.c.pgh_id.in_(numbers), is_shared
        )
        return set(self.session.scalars(statement))

    def _last_of_another_change(
        self, event: Stored, earlier: Iterable[Stored]
    ) -> Stored | None:
        """Return the last event that is not of the change that an event is of.

        :param earlier: the events before it, the newest first.
        """
        labels = {event["pgh_label"]}
        for other in earlier:
            # One change leaves no two events with a label.
            if other["pgh_label"] in labels or not self._is_sibling(other, event):
                return other
            labels.add(other["pgh_label"])
        return None

    def _is_sibling(self, one: Stored, other: Stored) -> bool:
        """Return whether two events with two labels may be of one change."""
        if (
            one["pgh_op"] != other["pgh_op"]
            or one["pgh_xact_id"] != other["pgh_xact_id"]
        ):
            return False
        columns = self.tracking.tracked_columns
        common = set(columns.stored).intersection(
            *(tracker.stored(columns) for tracker in self.tracking.trackers)
        )
        names = [columns.column_name(name) for name in common]
        return all(is_same_value(one[name], other[name]) for name in names)


def key_literal(value: Any) -> str:
    """Return a part of a key as a literal, of a type that PostgreSQL finds out."""
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        text = rf"\x{value.hex()}" if isinstance(value, bytes) else str(value)
        return quote_literal(text)
    return str(value)


def _is_comparable(event: Stored, stored: StoredAttributes) -> bool:
    return stored.is_comparable(_Attributes(event))


class _Attributes:
    """An event's columns as the attributes of an object."""

    def __init__(self, event: Stored) -> None:
        self.pgh_label = event["pgh_label"]
        self.pgh_op = event["pgh_op"]


def _erased(event: Stored) -> Iterable[str]:
    erased = event.get(ERASED_COLUMN)
    return [] if erased is None else _load(erased, "text[]")


def as_stored(value: Any, like: Any) -> Any:
    """Return a value of JSON as a column stores it, by another value of the column."""
    if isinstance(like, datetime.datetime):
        return datetime.datetime.fromisoformat(value)
    if isinstance(like, datetime.date):
        return datetime.date.fromisoformat(value)
    if isinstance(like, Decimal):
        return Decimal(value)
    if isinstance(like, float):
        return float(value)
    if isinstance(like, bytes):
        return bytes.fromhex(value[2:])
    if isinstance(like, str) and not isinstance(value, str):
        return _json_text(value)
    return value


def as_json(type_: Any, value: Any, is_decimal: bool) -> Any:
    """Return a stored value as ``to_jsonb`` gives it, and Python reads that.

    :param type_: the type of the column.
    :param value: as a file of the archive has it.
    :param is_decimal: whether numbers are to be ``Decimal``.
    """
    if value is None or isinstance(value, (bool, int)):
        return Decimal(str(value)) if _is_number(value) and is_decimal else value
    if isinstance(value, OutOfRange):
        return value.text
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, Decimal):
        return _decimal(value, is_decimal)
    if isinstance(value, datetime.datetime):
        return _iso(value)
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, bytes):
        return rf"\x{value.hex()}"
    return _of_text(without_domain(postgresql_type(type_)), value, is_decimal)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _float(value: float) -> Any:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "-Infinity"[value > 0 :]
    return int(value) if value.is_integer() and abs(value) < 1e15 else value


def _decimal(value: Decimal, is_decimal: bool) -> Any:
    if not value.is_finite():
        return "NaN" if value.is_nan() else "-Infinity"[value > 0 :]
    return value if is_decimal else loads(format(value, "f"))


def _iso(value: datetime.datetime) -> str:
    text = value.isoformat()
    if value.microsecond:
        head, dot, tail = text.partition(".")
        digits, zone = tail[:6], tail[6:]
        text = f"{head}{dot}{digits.rstrip('0')}{zone}"
    return text


def _of_text(type_: Any, text: str, is_decimal: bool) -> Any:
    """Return what is stored as PostgreSQL's text."""
    if isinstance(type_, types.JSON):
        return loads(text)
    if isinstance(type_, types.Numeric) and not isinstance(type_, types.Float):
        return _decimal(Decimal(text), is_decimal)
    if isinstance(type_, types.ARRAY):
        item = without_domain(postgresql_type(type_.item_type))
        name = POSTGRESQL.type_compiler_instance.process(item)
        return _items(item, _load(text, f"{name.partition('(')[0].lower()}[]"))
    return text


def _items(type_: Any, value: Any) -> Any:
    if isinstance(value, list):
        return [_items(type_, item) for item in value]
    if isinstance(value, (str, Decimal, float, bool, int, datetime.date, bytes)):
        return as_json(type_, value, isinstance(value, Decimal))
    return value if value is None or isinstance(value, dict) else str(value)


def _load(text: str, name: str) -> Any:
    """Return text as psycopg reads it.

    :param name: the type, with brackets for an array.
    """
    array = "[]" if name.endswith("[]") else ""
    return text_reader(oid_of(name) or oid_of(f"text{array}") or TEXT_OID)(text)


def _json_text(value: Any) -> str:
    """Return JSON as PostgreSQL writes it, with all digits of numbers."""
    if isinstance(value, list):
        return f"[{', '.join(map(_json_text, value))}]"
    if isinstance(value, Decimal):
        return format(value, "f")
    return json.dumps(value, ensure_ascii=False)
