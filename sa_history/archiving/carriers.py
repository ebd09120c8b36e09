"""How a file carries the columns of a table: their types, and their values in SQL.

A value of a type that Parquet, DuckDB and Apache Spark all hold exactly is stored in
that type, any other as the text that PostgreSQL writes. What such a type cannot hold of
a PostgreSQL type, as ``infinity`` of a timestamp, is NULL in its column and stands in
:data:`~sa_history.archiving.manifest.EXACT`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from sa_history.archiving.manifest import EXACT, ArchivedColumn
from sa_history.archiving.packages import load
from sa_history.sql.catalog_queries import TABLE_COLUMNS
from sa_history.sql.compose import (
    Fragment,
    Ident,
    Joined,
    Literal,
    Qualified,
    Raw,
    join,
    pairs_by_call,
)

TEXT = "string"
"""The carrier of text, and of all that is stored as text."""

_NATIVE = {
    "int2": "int16",
    "int4": "int32",
    "int8": "int64",
    "bool": "bool",
    "float4": "float",
    "float8": "double",
    "text": TEXT,
    "varchar": TEXT,
    "bpchar": TEXT,
    "bytea": "binary",
    "date": "date32[day]",
    "timestamp": "timestamp[us]",
    "timestamptz": "timestamp[us, tz=UTC]",
}
"""By the name of a type of PostgreSQL, that in files, as Arrow writes it."""

_TIMES = ("date", "timestamp", "timestamptz")
_MOST_DIGITS = 38
"""The digits of a decimal of Arrow, DuckDB and Apache Spark."""


@dataclass(frozen=True)
class CarriedColumn:
    """A column of a table, and what carries it.

    :param column: the column, as a manifest has it.
    :param base: the name of its type in ``pg_catalog``; empty for a type that is none
        of PostgreSQL's own.
    """

    column: ArchivedColumn
    base: str

    @property
    def is_native(self) -> bool:
        """True if it is carried in a type of its own, and not as text."""
        return self.base != ""

    @property
    def is_odd(self) -> Fragment | None:
        """The condition of values that the type in the file cannot hold, if any."""
        name = Ident(self.column.name)
        if self.base in _TIMES:
            type_ = Raw(f"::{self.base}")
            first, last = (Literal(f"{y}-01-01") + type_ for y in ("0001", "10000"))
            return Joined(
                (Raw("("), name, Raw(" < "), first, Raw(" OR "), name, Raw(" >= "))
            ) + Joined((last, Raw(")")))
        if self.base == "numeric":
            return Joined((name, Raw(" = "), Literal("NaN")))
        return None

    def selected(self) -> Fragment:
        """Return the value for the file, with the name of the column."""
        name = Ident(self.column.name)
        as_text = not self.is_native or self.base == "numeric"
        value = Joined((name, Raw("::text"))) if as_text else name
        if self.column.type == "inet":  # whose cast to text adds /32
            value = Joined((Raw("textin(inet_out("), name, Raw("))")))
        if self.is_odd is not None:
            value = Joined(
                (Raw("CASE WHEN NOT "), self.is_odd, Raw(" THEN "), value, Raw(" END"))
            )
        return Joined((value, Raw(" AS "), name))

    def exact(self) -> tuple[Fragment, Fragment]:
        """Return the column's name, and the text of a value that is odd."""
        assert self.is_odd is not None
        name = self.column.name
        when, then = Raw("CASE WHEN "), Raw(" THEN ")
        value = Joined((when, self.is_odd, then, Ident(name), Raw("::text END")))
        return Literal(name), value


def read_columns(connection: Connection, table: Qualified) -> list[CarriedColumn]:
    """Read the columns of a table, in their order.

    :param table: with its schema in the database.
    """
    rows = connection.execute(
        text(TABLE_COLUMNS), {"schema": table.schema, "table": table.name}
    )
    return [_carried(row) for row in rows]


def _carried(row: Any) -> CarriedColumn:
    base = row.type_name if row.type_schema == "pg_catalog" else ""
    carrier = _NATIVE.get(base)
    if base == "numeric" and row.modifier >= 0:
        precision, scale = _precision_and_scale(row.modifier)
        if precision <= _MOST_DIGITS and 0 <= scale <= precision:
            carrier = f"decimal128({precision}, {scale})"
    column = ArchivedColumn(row.name, row.type, carrier or TEXT)
    return CarriedColumn(column, base if carrier else "")


def _precision_and_scale(modifier: int) -> tuple[int, int]:
    """Return what ``numeric(10, 2)`` has in parentheses; a scale may be negative."""
    packed = modifier - 4
    scale = packed & 0x7FF
    return packed >> 16 & 0xFFFF, scale - 0x800 if scale & 0x400 else scale


def select_rows(
    columns: Sequence[CarriedColumn],
    table: Qualified,
    order_by: Sequence[str],
    where: Fragment | None = None,
) -> Fragment:
    """Return the SELECT of a table's rows as a file has them.

    :param order_by: the names of columns.
    :param where: a condition of the rows; None for all.
    """
    parts: list[Fragment] = [
        Raw("SELECT "),
        join(", ", [*(c.selected() for c in columns), _exact(columns)]),
        Raw(" FROM "),
        table,
    ]
    if where is not None:
        parts += [Raw(" WHERE "), where]
    return Joined((*parts, Raw(" ORDER BY "), join(", ", map(Ident, order_by))))


def _exact(columns: Sequence[CarriedColumn]) -> Fragment:
    """Return the column of values that other columns cannot hold."""
    carried = [column for column in columns if column.is_odd is not None]
    odd = [column.exact() for column in carried]  # each table has a time, at least
    # Nearly all rows have none, and go without the making of JSON.
    has_some = join(" OR ", (c.is_odd for c in carried if c.is_odd is not None))
    objects = join(
        " || ",
        (
            Joined(
                (
                    Raw("jsonb_build_object("),
                    join(", ", (part for pair in pairs for part in pair)),
                    Raw(")"),
                )
            )
            for pairs in pairs_by_call(odd)
        ),
    )
    return Joined(
        (
            Raw("CASE WHEN "),
            has_some,
            Raw(" THEN jsonb_strip_nulls("),
            objects,
            Raw(")::text END AS "),
            Ident(EXACT),
        )
    )


def arrow_schema(columns: Sequence[ArchivedColumn]) -> Any:
    """Return the schema of a file, as pyarrow has it."""
    pa = load("pyarrow")
    fields = [pa.field(column.name, arrow_type(column.carrier)) for column in columns]
    return pa.schema([*fields, pa.field(EXACT, pa.string())])


def arrow_type(carrier: str) -> Any:
    """Return the type of pyarrow that a manifest calls by its name."""
    pa = load("pyarrow")
    if carrier.startswith("decimal128("):
        precision, scale = carrier[len("decimal128(") : -1].split(",")
        return pa.decimal128(int(precision), int(scale))
    if carrier == "timestamp[us]":
        return pa.timestamp("us")
    if carrier == "timestamp[us, tz=UTC]":
        return pa.timestamp("us", tz="UTC")
    return pa.type_for_alias(carrier)
