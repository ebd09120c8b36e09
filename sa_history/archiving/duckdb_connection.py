"""A connection of DuckDB as SQLAlchemy takes one of a driver, and the values it sends.

Rows are read as Arrow, and become the values that psycopg would make of them.
"""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from itertools import islice
from typing import Any

from sa_history.archiving.packages import load
from sa_history.archiving.text_values import TEXT_OID, as_text
from sa_history.exc import ArchiveError

NUMERIC_OID = 1700
DOUBLE_OID = 701
_OIDS = {
    "int16": 21,
    "int32": 23,
    "int64": 20,
    "bool": 16,
    "float": 700,
    "double": DOUBLE_OID,
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
        return NUMERIC_OID
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
