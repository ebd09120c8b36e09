"""DuckDB as a database of SQLAlchemy, which reads the events of an archive.

It is PostgreSQL as psycopg reaches it, but for the connection: statements are
PostgreSQL's, most of which DuckDB takes, and values become those of Python as they do
there. So sessions return the same objects with the same values.
"""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from itertools import islice
from typing import Any, TypeAlias

from sqlalchemy import (
    BinaryExpression,
    Column,
    Engine,
    StaticPool,
    Table,
    Tuple,
    and_,
    not_,
    null,
    or_,
    types,
)
from sqlalchemy.dialects.postgresql import CIDR, INET, INTERVAL
from sqlalchemy.dialects.postgresql.base import PGDDLCompiler, PGTypeCompiler
from sqlalchemy.dialects.postgresql.psycopg import (
    PGDialect_psycopg,
    PGExecutionContext_psycopg,
)
from sqlalchemy.dialects.postgresql.ranges import AbstractRange
from sqlalchemy.engine import make_url
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import CollectionAggregate, Grouping, UnaryExpression
from sqlalchemy.sql.functions import FunctionElement

from sa_history.archiving.packages import load
from sa_history.archiving.text_values import TEXT_OID, as_text, oid_of, text_reader
from sa_history.exc import ArchiveError, PastError
from sa_history.query.as_of_compiler import AsOfCompiler, NoDDL, NoText
from sa_history.query.as_of_rows import PointInTime
from sa_history.query.past_erasures import ErasedOr
from sa_history.sql.column_types import POSTGRESQL, postgresql_type
from sa_history.sql.compose import quote_literal
from sa_history.sql.readable_json import READABLE_JSON
from sa_history.tracking.registry import Tracking

# SQLAlchemy's compiler has no types; what it is given is passed on as it is.
# mypy: disable-error-code="override, no-untyped-call"

_NUMERIC = 1700
_DOUBLE = 701
_OIDS = {
    "int16": 21,
    "int32": 23,
    "int64": 20,
    "bool": 16,
    "float": 700,
    "double": _DOUBLE,
    "date32[day]": 1082,
    "binary": 17,
}
"""The numbers of PostgreSQL's types, by which psycopg and SQLAlchemy know them."""


@dataclass(frozen=True)
class OutOfRange:
    """A time that PostgreSQL has and Python has not.

    :param text: the time as PostgreSQL writes it.
    """

    text: str


class Connection:
    """A connection as SQLAlchemy uses it.

    :param connection: a connection of DuckDB.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.autocommit = True

    def cursor(self) -> Cursor:
        """Return a new cursor."""
        return Cursor(self._connection)

    def commit(self) -> None:
        """Do nothing: what is read does not change."""

    rollback = close = commit


class Cursor:
    """A cursor as SQLAlchemy uses it.

    :param connection: a connection of DuckDB.
    """

    arraysize = 1
    rowcount = -1

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.description: list[tuple[Any, ...]] | None = None
        self._rows: Any = iter(())

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> None:
        """Execute a statement.

        :raises ArchiveError: DuckDB refuses it.
        """
        values = [_to_duckdb(value) for value in parameters]
        duckdb = load("duckdb")
        try:
            found = self._connection.sql(statement, params=values or None)
            table = found.to_arrow_table()
        except duckdb.ConversionException as error:
            raise ArchiveError(
                f"the archive has a value that its column does not take: {error}; the "
                "column may have got another type since, so read it as one that takes "
                "earlier values, too, such as text"
            ) from error
        except duckdb.Error as error:
            raise ArchiveError(
                f"DuckDB, which reads the archive, refuses a statement: {error}; it "
                "has no operators of PostgreSQL's own types"
            ) from error
        self.description = [
            (field.name, _oid(field.type), *(None,) * 5) for field in table.schema
        ]
        columns = [_to_python(column) for column in table.columns]
        self._rows = iter(zip(*columns, strict=True)) if columns else iter(())

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""
        return list(self._rows)

    def fetchone(self) -> Any:
        """Return the next row, None after the last one."""
        return next(self._rows, None)

    def fetchmany(self, size: int = 1) -> list[Any]:
        """Return some rows."""
        return list(islice(self._rows, size))

    def close(self) -> None:
        """Forget the rows."""
        self._rows = iter(())


def _oid(type_: Any) -> int:
    name = str(type_)
    if name.startswith("decimal128"):
        return _NUMERIC
    if name.startswith("timestamp"):
        return 1184 if "tz=" in name else 1114
    return _OIDS.get(name, TEXT_OID)


def _to_python(column: Any) -> list[Any]:
    """Return the values of a column of Arrow."""
    name = str(column.type)
    pa = load("pyarrow")
    if name.startswith("timestamp[us"):
        zone = datetime.timezone.utc if "tz=" in name else None
        epoch = datetime.datetime(1970, 1, 1, tzinfo=zone)
        micros = column.cast(pa.int64()).to_pylist()
        return [_time(epoch, datetime.timedelta.resolution, n, 2**63) for n in micros]
    if name == "date32[day]":
        day, first = datetime.timedelta(days=1), datetime.date(1970, 1, 1)
        days = column.cast(pa.int32()).to_pylist()
        return [_time(first, day, n, 2**31) for n in days]
    found: list[Any] = column.to_pylist()
    return [*map(_interval, found)] if name == "month_day_nano_interval" else found


def _interval(value: Any) -> datetime.timedelta | None:
    """Return an interval as psycopg does: a year has 365 days, and a month 30."""
    if value is None:
        return None
    years, months = divmod(abs(value.months), 12)
    days = 365 * years + 30 * months
    days = value.days + (days if value.months > 0 else -days)
    return datetime.timedelta(days=days, microseconds=value.nanoseconds // 1000)


def _time(first: Any, unit: datetime.timedelta, count: int | None, end: int) -> Any:
    """Return a time by what has passed since another.

    :param end: the number that no count reaches; the last one before it is infinity.
    """
    if count is None:
        return None
    try:
        return first + count * unit
    except OverflowError:
        if abs(count) >= end - 1:
            return OutOfRange("infinity" if count > 0 else "-infinity")
        return OutOfRange("a year below 1" if count < 0 else "a year over 9999")


_AS_THEY_ARE = (
    bool,
    int,
    float,
    str,
    bytes,
    decimal.Decimal,
    datetime.date,
    datetime.time,
    datetime.timedelta,
)


def _to_duckdb(value: Any) -> Any:
    """Return a parameter as DuckDB takes it: what it does not know, as text.

    :raises ArchiveError: its text need not be that of PostgreSQL for an equal value.
    """
    if isinstance(value, load("psycopg").Binary):
        # What the type of a column makes of bytes.
        value = value.obj
    if value is None or isinstance(value, _AS_THEY_ARE):
        return value
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_to_duckdb(item) for item in value]
    if isinstance(value, _ranges()) and not _is_as_written(value):
        raise ArchiveError(
            f"{value!r} cannot be compared with the ranges of an archive, which are "
            "text; compare cast(..., Text) with what PostgreSQL writes, such as '[1,5)'"
        )
    if isinstance(value, (IPv4Interface, IPv6Interface)):
        is_host = value.network.prefixlen == value.max_prefixlen
        return str(value.ip if is_host else value)
    return as_text(value)


def _ranges() -> tuple[type, type]:
    """Return what psycopg has for ranges, of which SQLAlchemy makes its own."""
    range_, multirange = (load(f"psycopg.types.{n}") for n in ("range", "multirange"))
    return range_.Range, multirange.Multirange


def _is_as_written(value: Any) -> bool:
    """Return whether PostgreSQL writes a range as psycopg does, and no equal one so.

    It does if the range is empty, and of integers and dates as it stores them.
    """
    if isinstance(value, _ranges()[1]):
        return False
    ends = [end for end in (value.lower, value.upper) if end is not None]
    is_stored_so = value.bounds == ("(" if value.lower is None else "[") + ")"
    return value.isempty or (
        is_stored_so
        and all(isinstance(end, int) or type(end) is datetime.date for end in ends)
    )


class _NoDDL(NoDDL, PGDDLCompiler):
    """Refuses to create anything."""


class _Context(NoText, PGExecutionContext_psycopg):
    """Reads the values of results as psycopg reads what PostgreSQL sends as text."""

    def get_result_processor(self, type_: Any, colname: str, coltype: Any) -> Any:
        """Return the function that makes a value of Python, None for as it is."""
        if isinstance(type_, ErasedOr):
            own = self.get_result_processor(type_.type_, colname, coltype)
            return type_.processor(own)
        if isinstance(type_, types.NullType):
            return None
        if isinstance(type_, type(READABLE_JSON)):
            return type_.result_processor(self.dialect, coltype)
        if coltype in (1082, 1114, 1184):
            return _in_turn(_require_time, self._processor(type_, coltype))
        if coltype == _NUMERIC and isinstance(postgresql_type(type_), types.Integer):
            return _in_turn(int, self._processor(type_, 20))
        if coltype == _DOUBLE and _is_numeric(type_):
            # What was reckoned; SQLAlchemy would round it to the digits of a column.
            return _in_turn(_decimal, self._processor(type_, _NUMERIC))
        if coltype != TEXT_OID:
            return self._processor(type_, coltype)
        oid = _oid_of(type_)
        loader = _loader(self.dialect, oid)
        return _in_turn(loader, self._processor(type_, oid))

    def _processor(self, type_: Any, coltype: int) -> Any:
        return super().get_result_processor(type_, "", coltype)


def _is_numeric(type_: Any) -> bool:
    plain = postgresql_type(type_)
    return isinstance(plain, types.Numeric) and not isinstance(plain, types.Float)


def _decimal(value: float) -> decimal.Decimal:
    return decimal.Decimal(repr(value))


def _in_turn(
    first: Callable[[Any], Any] | None, second: Callable[[Any], Any] | None
) -> Callable[[Any], Any] | None:
    """Return two functions as one, of which the first does not see None."""
    if first is None:
        return second

    def process(value: Any) -> Any:
        found = None if value is None else first(value)
        return found if second is None else second(found)

    return process


def _require_time(value: Any) -> Any:
    if isinstance(value, OutOfRange):
        raise ArchiveError(
            f"a time is {value.text}, which Python cannot hold; select it as text"
        )
    return value


def _oid_of(type_: Any) -> int:
    """Return the number of PostgreSQL's type for one of SQLAlchemy's."""
    try:
        name = POSTGRESQL.type_compiler_instance.process(type_).lower()
    except Exception:  # a type of the application, which says what it likes
        return TEXT_OID
    plain, _, _ = name.partition("(")
    is_array = name.endswith("[]") and not plain.endswith("[]")
    return oid_of(f"{plain}[]" if is_array else plain) or TEXT_OID


def _loader(dialect: Any, oid: int) -> Callable[[Any], Any] | None:
    """Return the function that reads text of a type as psycopg does."""
    if oid == TEXT_OID:
        return None
    read_text = text_reader(oid, dialect._psycopg_adapters_map)

    def read(value: Any) -> Any:
        return read_text(value) if isinstance(value, str) else value

    return read


class _Types(PGTypeCompiler):
    """The types of a CAST: what PostgreSQL alone has is text."""

    def visit_JSON(self, type_: Any, **_: Any) -> str:
        return "VARCHAR"

    visit_JSONB = visit_UUID = visit_uuid = visit_INET = visit_CIDR = visit_JSON
    visit_CITEXT = visit_ARRAY = visit_user_defined = visit_JSON
    visit_INT4RANGE = visit_INT8RANGE = visit_NUMRANGE = visit_JSON
    visit_DATERANGE = visit_TSRANGE = visit_TSTZRANGE = visit_JSON
    visit_INT4MULTIRANGE = visit_INT8MULTIRANGE = visit_NUMMULTIRANGE = visit_JSON
    visit_DATEMULTIRANGE = visit_TSMULTIRANGE = visit_TSTZMULTIRANGE = visit_JSON
    visit_MACADDR = visit_MACADDR8 = visit_BIT = visit_HSTORE = visit_JSON

    def visit_ENUM(self, type_: Any, *_: Any, **__: Any) -> str:
        return "VARCHAR"

    visit_DOMAIN = visit_ENUM

    def visit_BYTEA(self, type_: Any, **_: Any) -> str:
        return "BLOB"

    def visit_FLOAT(self, type_: Any, **_: Any) -> str:
        return "DOUBLE"  # as PostgreSQL means it, where DuckDB has 32 bits

    def visit_NUMERIC(self, type_: Any, **kw: Any) -> str:
        # Without a precision DuckDB has three digits after the point.
        if type_.precision is None:
            return "DECIMAL(38, 10)"
        return str(super().visit_NUMERIC(type_, **kw))


@dataclass(frozen=True)
class Past:
    """A point in time, and the rows of then.

    :param point: the event column that decides which events are seen.
    :param value: the point in time, as text.
    :param rows_of: returns the SELECT of the rows of a tracked table.
    """

    point: PointInTime
    value: str
    rows_of: Callable[[Tracking], str]


class ArchiveCompiler(AsOfCompiler):
    """Renders statements for DuckDB, and tracked tables as their rows of then."""

    allowed = frozenset()
    keys_stayed = frozenset()
    past: Past | None = None
    """What a session of the past reads; None if it reads events."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        # Before the statement is compiled, which is done there.
        self.read: list[Table] = []
        self.trackings: list[Tracking] = []
        super().__init__(*arguments, **options)

    def visit_table(self, table: Any, asfrom: bool = False, **kw: Any) -> str:
        """Render a table, and keep in mind that it is read."""
        if asfrom and isinstance(table, Table):
            table_ = table.metadata.tables.get(table.key, table)
            tracking = self.tracking_of(table)
            self.read.append(table_ if tracking is None else tracking.event_table)
        return super().visit_table(table, asfrom=asfrom, **kw)

    def render_rows(self, tracking: Tracking, **kw: Any) -> str:
        """Return the SELECT of a table's rows as of the point in time."""
        if self.past is None:
            raise PastError(
                f"an archive has the events of {tracking.table.name!r} and not its "
                "rows, which change; read them as of a time: archive.as_of(...)"
            )
        self.trackings.append(tracking)
        self.point = self.past.point
        if tracking.table.primary_key.deferrable:
            # What the database is asked, of which there is no view.
            return super().render_rows(tracking, **kw)
        return self.past.rows_of(tracking)

    def visit_current_setting_func(self, function: Any, **_: Any) -> str:
        """Render the point in time, which is a setting in PostgreSQL."""
        assert self.past is not None
        return quote_literal(self.past.value)

    def render_bind_cast(self, type_: Any, dbapi_type: Any, sqltext: str) -> str:
        """Leave out the cast: DuckDB knows the types of parameters."""
        return sqltext

    def visit_cast(self, cast: Any, **kw: Any) -> str:
        """Render a cast to text as PostgreSQL writes what DuckDB writes otherwise."""
        if isinstance(cast.type, types.String) and isinstance(cast.clause, Column):
            value = self.process(cast.clause, **kw)
            type_ = postgresql_type(cast.clause.type)
            if isinstance(type_, types.LargeBinary):
                return rf"('\x' || lower(hex({value})))"
            if isinstance(type_, INET):
                bits = f"CASE WHEN contains({value}, ':') THEN '/128' ELSE '/32' END"
                has_bits = f"contains({value}, '/')"
                return f"CASE WHEN {has_bits} THEN {value} ELSE {value} || {bits} END"
        written: str = super().visit_cast(cast, **kw)
        length = getattr(cast.type, "length", None)
        if not isinstance(cast.type, types.String) or length is None:
            return written
        # DuckDB takes no notice of it.
        cut = f"left({written}, {length:d})"
        is_char = isinstance(cast.type, types.CHAR)
        return f"rpad({cut}, {length:d}, ' ')" if is_char else cut

    def visit_binary(self, binary: Any, *arguments: Any, **kw: Any) -> str:
        """Refuse to compare or reckon with what DuckDB has as text of other order."""
        row = _row_of(binary.left)
        if row is not None or _row_of(binary.right) is not None:
            members = _by_members(binary, row)
            if members is not None:
                return f"({self.process(members, **kw)})"
            _require_numbers(*(row or ()))
        if binary.operator in _OF_ORDER:
            _require_order(binary.left, binary.right)
        elif binary.operator not in _OF_TEXT:
            _require_numbers(binary.left, binary.right)
        written: str = super().visit_binary(binary, *arguments, **kw)
        array = _array_of(binary.right)
        if array is None:
            return written
        # DuckDB finds nothing in NULL, where PostgreSQL does not know.
        return f"CASE WHEN {self.process(array, **kw)} IS NOT NULL THEN {written} END"

    def visit_function(self, func: Any, *arguments: Any, **kw: Any) -> str:
        """Refuse what would be another one in DuckDB."""
        name = func.name.lower()
        if name in ("max", "min", "greatest", "least"):
            _require_order(*func.clauses)
        if name in _OTHER_FUNCTIONS:
            raise ArchiveError(
                f"DuckDB, which reads the archive, means something else by {name!r}; "
                "select the values, and do it in Python"
            )
        written: str = super().visit_function(func, *arguments, **kw)
        return written

    def order_by_clause(self, select: Any, **kw: Any) -> str:
        """Refuse to sort by what DuckDB has as text of another order."""
        _require_order(*select._order_by_clauses)
        written: str = super().order_by_clause(select, **kw)
        return written

    def visit_over(self, over: Any, **kw: Any) -> str:
        """Refuse to sort by what DuckDB has as text of another order."""
        _require_order(*(over.order_by if over.order_by is not None else ()))
        written: str = super().visit_over(over, **kw)
        return written

    def visit_extract(self, extract: Any, **kw: Any) -> str:
        """Render a part of a time; of seconds, DuckDB gives whole ones."""
        parts = {"second": 1_000_000, "seconds": 1_000_000}
        parts |= {"millisecond": 1000, "milliseconds": 1000}
        part = parts.get(extract.field.lower())
        if part is None:
            written: str = super().visit_extract(extract, **kw)
            return written
        micros = f"EXTRACT(microsecond FROM {self.process(extract.expr, **kw)})"
        return f"(CAST({micros} AS DECIMAL(18, 6)) / {part})"

    def visit_round_func(self, function: Any, **kw: Any) -> str:
        """Render a rounded number; PostgreSQL rounds a half of a float to even."""
        values = [self.process(value, **kw) for value in function.clauses]
        first = next(iter(function.clauses))
        if len(values) == 1 and isinstance(postgresql_type(first.type), types.Float):
            return f"round_even({values[0]}, 0)"
        return f"round({', '.join(values)})"

    def visit_substring_func(self, function: Any, **kw: Any) -> str:
        """Render a part of a text; for DuckDB, numbers below 1 count from its end."""
        text_, start, *length = (self.process(v, **kw) for v in function.clauses)
        end = [f"greatest(({start}) + ({n}) - greatest({start}, 1), 0)" for n in length]
        return f"substring({', '.join([text_, f'greatest({start}, 1)', *end])})"

    visit_substr_func = visit_substring_func

    def visit_date_trunc_func(self, function: Any, **kw: Any) -> str:
        """Render the beginning of a period; that of a date has a time zone."""
        part, time, *zone = (self.process(value, **kw) for value in function.clauses)
        if isinstance(postgresql_type([*function.clauses][1].type), types.Date):
            time = f"CAST({time} AS TIMESTAMPTZ)"
        return f"date_trunc({', '.join([part, time, *zone])})"

    def visit_date_part_func(self, function: Any, **kw: Any) -> str:
        """Render a part of a time; of seconds, DuckDB gives whole ones."""
        part, time = (self.process(value, **kw) for value in function.clauses)
        micros = f"CAST(date_part('microsecond', {time}) AS DOUBLE)"
        return (
            f"CASE WHEN {part} IN ('second', 'seconds') THEN {micros} / 1000000"
            f" WHEN {part} IN ('millisecond', 'milliseconds') THEN {micros} / 1000"
            f" ELSE date_part({part}, {time}) END"
        )

    def visit_concat_func(self, function: Any, **kw: Any) -> str:
        """Render texts after one another; PostgreSQL writes t and f for booleans."""
        values = [self.process(value, **kw) for value in function.clauses]
        texts = [
            f"CASE {value} WHEN true THEN 't' WHEN false THEN 'f' END"
            if isinstance(postgresql_type(clause.type), types.Boolean)
            else value
            for clause, value in zip(function.clauses, values, strict=True)
        ]
        return f"{function.name}({', '.join(texts)})"

    visit_concat_ws_func = visit_concat_func

    def visit_getitem_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        """Render an item of an array, which files have as PostgreSQL writes it."""
        index = binary.right
        if not isinstance(postgresql_type(index.type), types.Integer):
            raise ArchiveError(
                "DuckDB, which reads the archive, has arrays as text, and no parts of "
                "them; select the array, and take its part in Python"
            )
        return f"({self._items(binary.left, **kw)})[{self.process(index, **kw)}]"

    def visit_any_op_unary_operator(
        self, element: Any, operator: Any, **kw: Any
    ) -> str:
        """Render ANY of an array."""
        return f"ANY ({self._items(element.element, **kw)})"

    def visit_ilike_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        """Render ILIKE with the character that PostgreSQL takes to escape others."""
        written: str = super().visit_ilike_op_binary(binary, operator, **kw)
        is_given = binary.modifiers.get("escape") is not None
        return written if is_given else rf"{written} ESCAPE '\'"

    def visit_like_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        """Render LIKE with the character that PostgreSQL takes to escape others."""
        written: str = super().visit_like_op_binary(binary, operator, **kw)
        is_given = binary.modifiers.get("escape") is not None
        return written if is_given else rf"{written} ESCAPE '\'"

    def visit_row_func(self, function: Any, **kw: Any) -> str:
        """Render a row of one column as this column, which is compared as text."""
        written = str(self.process(function.clauses, **kw))
        return written if len(function.clauses) == 1 else f"row({written})"

    def visit_jsonb_build_array_func(self, function: Any, **kw: Any) -> str:
        """Render a list of JSON with the blanks that PostgreSQL writes."""
        values = [self.process(value, **kw) for value in function.clauses]
        parts = ", ".join(f"CAST(to_json({value}) AS VARCHAR)" for value in values)
        return f"('[' || concat_ws(', ', {parts}) || ']')"

    def visit_to_jsonb_func(self, function: Any, **kw: Any) -> str:
        """Render a value as JSON."""
        return f"to_json({self.process(function.clauses, **kw)})"

    def visit_any_func(self, function: Any, **kw: Any) -> str:
        """Render ANY of an array."""
        (array,) = function.clauses
        return f"ANY ({self._items(array, **kw)})"

    def _items(self, element: Any, **kw: Any) -> str:
        """Return the items of an array, which files have as PostgreSQL writes it.

        https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
        """
        array = self.process(element, **kw)
        item_type = getattr(postgresql_type(element.type), "item_type", types.Text())
        items = f"""regexp_extract_all({array}, '"([^"\\\\]|\\\\.)*"|[^,{{}}"]+')"""
        quoted = r"regexp_replace(item[2:-2], '\\(.)', '\1', 'g')"
        item = (
            f"CASE WHEN item[1] = '\"' THEN {quoted} "
            "WHEN upper(item) <> 'NULL' THEN item END"
        )
        type_ = self.dialect.type_compiler_instance.process(item_type)
        return f"CAST(list_transform({items}, lambda item: {item}) AS {type_}[])"

    def visit_record_image_ne_func(self, function: Any, **kw: Any) -> str:
        """Render whether two rows differ."""
        left, right = (self.process(e, **kw) for e in function.clauses)
        return f"({left} IS DISTINCT FROM {right})"

    def visit_custom_op_binary(self, element: Any, operator: Any, **kw: Any) -> str:
        """Render the operators that DuckDB has under other names."""
        left, right = (self.process(e, **kw) for e in (element.left, element.right))
        if operator.opstring.upper() in ("SIMILAR TO", "NOT SIMILAR TO"):
            raise ArchiveError(
                "DuckDB, which reads the archive, means something else by SIMILAR TO; "
                "write it as LIKE, or as a regular expression: regexp_match(...)"
            )
        if operator.opstring == "@>":
            return f"json_contains({left}, {right})"
        written: str = super().visit_custom_op_binary(element, operator, **kw)
        return written


_OF_TEXT = (
    operators.is_,
    operators.is_not,
    operators.is_distinct_from,
    operators.is_not_distinct_from,
)
"""The operators that are right for numbers that are text."""


_OF_ORDER = (
    *(operators.lt, operators.le, operators.gt, operators.ge),
    *(operators.between_op, operators.not_between_op),
)

_OTHER_FUNCTIONS = ("format", "row_to_json", "sha256")
"""Functions of PostgreSQL that are others in DuckDB, or give other text."""

_OTHER_ORDER = (
    types.Enum,
    types.JSON,
    types.ARRAY,
    types.Interval,
    INTERVAL,
    INET,
    CIDR,
    AbstractRange,
)
"""The types whose values are text in an archive, of another order than they have."""


def _row_of(element: Any) -> list[Any] | None:
    """Return the members of a row, as ``tuple_`` makes it; None for anything else."""
    while isinstance(element, Grouping):
        element = element.element
    if isinstance(element, Tuple):
        return [*element.clauses]
    is_row = isinstance(element, FunctionElement) and element.name.lower() == "row"
    return [*element.clauses] if is_row and len(element.clauses) > 1 else None


_STRICT = {
    operators.lt: operators.lt,
    operators.le: operators.lt,
    operators.gt: operators.gt,
    operators.ge: operators.gt,
}
"""The operators that sort rows, each with the one for all members but the last."""


def _by_members(binary: Any, row: list[Any] | None) -> Any:
    """Return a comparison of a row as one of its members.

    To DuckDB a NULL in a row is a value like others, and PostgreSQL does not know.
    https://www.postgresql.org/docs/current/functions-comparisons.html

    :param row: the members of the left side; None if it is no row.
    :return: None if DuckDB means the same by it.
    :raises ArchiveError: the other side is no row whose members are known.
    """
    operator, right = binary.operator, binary.right
    if row is not None:
        if operator in (operators.is_, operators.is_not):
            return and_(*(_compared(operator, one, null()) for one in row))
        if operator in (operators.in_op, operators.not_in_op):
            if not isinstance(right, Grouping):
                return None  # a SELECT, or values, which it takes for one
            items: Any = right.element
            found = or_(
                *(_rows_compared(operators.eq, row, one) for one in items.clauses)
            )
            return found if operator is operators.in_op else not_(found)
        if operator in (operators.between_op, operators.not_between_op):
            low, high = right.clauses
            found = _between(row, low, high)
            if binary.modifiers.get("symmetric"):
                found = or_(found, _between(row, high, low))
            return found if operator is operators.between_op else not_(found)
    if operator in (operators.eq, operators.ne, *_STRICT):
        return _rows_compared(operator, row, right)
    return None


def _between(row: list[Any], low: Any, high: Any) -> Any:
    return and_(
        _rows_compared(operators.ge, row, low),
        _rows_compared(operators.le, row, high),
    )


def _rows_compared(operator: Any, row: list[Any] | None, other: Any) -> Any:
    """Return the comparison of a row with another, member by member.

    :raises ArchiveError: the other is no row with as many members.
    """
    members = _row_of(other)
    if row is None or members is None or len(row) != len(members):
        raise ArchiveError(
            "DuckDB, which reads the archive, means something else by the comparison "
            "of a row with what is none of as many values; compare tuple_(...) with "
            "tuple_(...), or write it as IN"
        )
    pairs = [*zip(row, members, strict=True)]
    if operator in (operators.eq, operators.ne):
        joined = and_ if operator is operators.eq else or_
        return joined(*(_compared(operator, *pair) for pair in pairs))
    *first, last = pairs
    found = _compared(operator, *last)
    for pair in reversed(first):
        equal = _compared(operators.eq, *pair)
        found = or_(_compared(_STRICT[operator], *pair), and_(equal, found))
    return found


def _compared(operator: Any, left: Any, right: Any) -> Any:
    # Not by the operators of Python, which make "IS NULL" of "= NULL".
    return BinaryExpression(
        left.self_group(against=operator),
        right.self_group(against=operator),
        operator,
        types.Boolean(),
    )


def _array_of(element: Any) -> Any:
    """Return the array of ANY, or None."""
    if isinstance(element, CollectionAggregate):
        array = element.element
    elif isinstance(element, FunctionElement) and element.name.lower() == "any":
        (array,) = element.clauses
    else:
        return None
    return array if isinstance(postgresql_type(array.type), types.ARRAY) else None


def _require_numbers(*elements: Any) -> None:
    for element in elements:
        if not isinstance(element, Column):
            continue
        type_ = postgresql_type(element.type)
        if _is_numeric(type_) and getattr(type_, "precision", None) is None:
            raise ArchiveError(
                f"{element.table.name}.{element.name} is a numeric without a precision,"
                " which DuckDB has as text; cast it to compare it or to reckon with "
                "it: cast(..., Float)"
            )


def _require_order(*elements: Any) -> None:
    """Refuse what is text in an archive, and has another order than its text."""
    for element in elements:
        column = element
        while isinstance(column, (UnaryExpression, Grouping)):
            column = column.element
        _require_numbers(column)
        if not isinstance(column, Column):
            continue
        type_ = postgresql_type(column.type)
        if isinstance(type_, _OTHER_ORDER) and getattr(type_, "native_enum", True):
            raise ArchiveError(
                f"{column.table.name}.{column.name} is text for DuckDB, which reads "
                "the archive, and has another order than in PostgreSQL; cast it to be "
                "sorted and compared as text: cast(..., Text)"
            )


Prepare: TypeAlias = Callable[[ArchiveCompiler, Sequence[Any], Any], None]
"""Makes what a statement reads."""


class DuckDBDialect(PGDialect_psycopg):
    """PostgreSQL by psycopg, with statements for DuckDB.

    :param prepare: is called before a statement is executed: with the compiled one, its
        parameters, and the statement itself.
    :param past: what a session of the past reads; None for one that reads events.
    """

    supports_statement_cache = True
    supports_server_side_cursors = False
    statement_compiler: Any = ArchiveCompiler
    execution_ctx_cls = _Context
    ddl_compiler = _NoDDL
    type_compiler_cls = _Types
    _has_native_hstore = False
    _backslash_escapes = False
    _supports_jsonb_subscripting = False
    # Of rows in a list, DuckDB would take NULL for a value like others.
    tuple_in_values = True

    def __init__(
        self,
        prepare: Prepare,
        past: Past | None,
        **options: Any,
    ) -> None:
        super().__init__(dbapi=load("psycopg"), paramstyle="qmark", **options)
        self._prepare = prepare
        self.statement_compiler = type(
            "ArchiveCompiler",
            (ArchiveCompiler,),
            {"past": past},
        )

    def do_execute(
        self, cursor: Any, statement: str, parameters: Any, context: Any = None
    ) -> None:
        """Make what a statement reads, and execute it."""
        self._prepare(context.compiled, parameters, context.invoked_statement)
        cursor.execute(statement, parameters)


def duckdb_engine(connection: Any, dialect: DuckDBDialect) -> Engine:
    """Return an engine whose only connection is one of DuckDB.

    It does not ask the database for what it is.
    """
    connected: Any = Connection(connection)
    pool = StaticPool(lambda: connected)
    pool._dialect = dialect
    return Engine(pool, dialect, make_url("postgresql+psycopg://"))
