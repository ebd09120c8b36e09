"""Event columns that cannot hold each value of the column whose values they store.

A column that was altered by hand, and its event column not, is such a pair. PostgreSQL
converts a value as an assignment does: it rounds a number to the digits of the event
column, and takes a time for one of another zone, without an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ARRAY, Connection, Text, bindparam, text

from sa_history.sql import catalog_queries as catalog
from sa_history.sql.compose import Qualified

ANY = -1
"""The modifier of a type without a length or precision."""

_TEXTS = ("text", "varchar", "bpchar", "citext")
_WITH_LENGTH = ("varchar", "bpchar", "varbit")
_WITH_FRACTION = ("timestamp", "timestamptz", "time", "timetz")
_DIGITS_OF_FRACTION = 6
_HEADER = 4  # what PostgreSQL adds to a length, or to precision and scale

_WIDER = {
    "int2": ("int4", "int8", "numeric", "float4", "float8"),
    "int4": ("int8", "numeric", "float8"),
    "int8": ("numeric",),
    "float4": ("float8",),
    "date": ("timestamp",),
    "json": ("jsonb",),
    "jsonb": ("json",),
}


@dataclass(frozen=True)
class ColumnType:
    """The type of a column, as the catalog has it.

    :param name: the name of the type, or of that under a domain; an array has the
        name of its elements with an underscore before it.
    :param modifier: as in ``pg_attribute.atttypmod``, :data:`ANY` for none.
    :param sql: the type as it stands in CREATE TABLE.
    """

    name: str
    modifier: int
    sql: str

    def holds(self, other: ColumnType) -> bool:
        """Return whether it can hold each value of another type.

        Text can hold whatever PostgreSQL can write as text. Types that are not known
        here hold their own values.
        """
        name, source = self.name, other.name
        if name[:1] == source[:1] == "_":
            name, source = name[1:], source[1:]
        if name in _TEXTS:
            if self.modifier == ANY:
                return True
            has_length = source in _WITH_LENGTH and other.modifier != ANY
            return has_length and self.modifier >= other.modifier
        if name != source:
            return name in _WIDER.get(source, ()) and self.modifier == ANY
        if self.modifier in (ANY, other.modifier):
            return True
        if name in _WITH_FRACTION:
            given = other.modifier
            return self.modifier >= (_DIGITS_OF_FRACTION if given == ANY else given)
        if other.modifier == ANY:
            return False
        if name == "numeric":
            digits, scale = _digits(self.modifier)
            other_digits, other_scale = _digits(other.modifier)
            return scale >= other_scale and digits >= other_digits
        return name in _WITH_LENGTH and self.modifier >= other.modifier


def _digits(modifier: int) -> tuple[int, int]:
    """Return how many digits of a number are before the point, and how many after."""
    # As numeric_typmod_precision() and numeric_typmod_scale() of PostgreSQL do.
    precision = ((modifier - _HEADER) >> 16) & 0xFFFF
    scale = (((modifier - _HEADER) & 0x7FF) ^ 1024) - 1024
    return precision - scale, scale


@dataclass(frozen=True)
class NarrowColumn:
    """An event column that cannot hold each value of its tracked column.

    :param pair: the number of its pair of tables, from 0.
    :param name: the name of both columns.
    :param tracked: the type of the tracked column.
    :param event: the type of the event column.
    """

    pair: int
    name: str
    tracked: ColumnType
    event: ColumnType


def read_narrow_columns(
    connection: Connection, pairs: Sequence[tuple[Qualified, Qualified]]
) -> list[NarrowColumn]:
    """Read the event columns that cannot hold each value of their tracked columns.

    :param pairs: the tracked tables, each with its event table.
    :return: in the order of the pairs.
    """
    parameters = {
        "schemas": [str(tracked.schema) for tracked, _ in pairs],
        "tables": [tracked.name for tracked, _ in pairs],
        "event_schemas": [str(events.schema) for _, events in pairs],
        "event_tables": [events.name for _, events in pairs],
    }
    statement = text(catalog.COLUMNS_OF_OTHER_TYPES).bindparams(
        *(bindparam(name, type_=ARRAY(Text)) for name in parameters)
    )
    columns = (
        NarrowColumn(
            row.number - 1,
            row.name,
            ColumnType(row.base, row.modifier, row.type),
            ColumnType(row.event_base, row.event_modifier, row.event_type),
        )
        for row in connection.execute(statement, parameters)
    )
    return [column for column in columns if not column.event.holds(column.tracked)]
