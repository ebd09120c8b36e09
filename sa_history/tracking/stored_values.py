"""Values as they are stored, which Python does not always tell apart.

Two values that Python calls equal may be stored differently: 1 and ``true`` of JSON,
intervals of 30 days and of a month, infinity and the last date. Where values are
compared, an image comes along for such a column: its value as text, as the database has
it.

It is also what is written where a value is to be what it was. Of JSON nothing else is
read: not all that PostgreSQL stores can be a value of Python.

A value can be None in Python without being NULL: ``null`` of JSON, or any other that a
type of the application reads as None. It is :data:`NOT_NULL` here, and None is NULL.
"""

from __future__ import annotations

import datetime
import enum
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Date, Text, case, cast, literal, null, types

from sa_history.sql.column_types import (
    has_infinity,
    holds_json,
    is_read_exactly,
    postgresql_type,
)
from sa_history.sql.readable_json import loads


class NotNull(enum.Enum):
    """The type of :data:`NOT_NULL`."""

    NOT_NULL = "not null"

    def __repr__(self) -> str:
        return "None (not NULL)"


NOT_NULL = NotNull.NOT_NULL
"""A value that is None in Python, and not NULL in the database."""


@dataclass(frozen=True)
class Image:
    """A value as text, as the database has it."""

    text: str


@dataclass(frozen=True, eq=False)
class StoredRow(Mapping[str, Any]):
    """The values of a row by the names of its columns, None for NULL.

    :param values_by_name: the values; :data:`NOT_NULL` for None that is not NULL.
    :param images: the images of columns that have one.
    """

    values_by_name: Mapping[str, Any]
    images: Mapping[str, str | None]

    def __getitem__(self, name: str) -> Any:
        return self.values_by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_name)

    def __len__(self) -> int:
        return len(self.values_by_name)

    def to_write(self, name: str) -> Any:
        """Return the value of a column as :func:`value_to_write` takes it."""
        text, value = self.images.get(name), self[name]
        if text is None and isinstance(value, float):
            text = repr(value)  # psycopg2 writes 0 for -0.0
        return value if text is None else Image(text)

    def only(self, names: Iterable[str]) -> StoredRow:
        """Return the row with some of its columns."""
        values = {name: self[name] for name in names}
        return StoredRow(values, _of_columns(self.images, values))

    def updated(self, other: StoredRow) -> StoredRow:
        """Return the row with the values of another one, where that has some."""
        kept = self.without({*other})
        return StoredRow({**self, **other}, {**kept.images, **other.images})

    def without(self, names: set[str]) -> StoredRow:
        """Return the row without some columns."""
        return self.only(name for name in self if name not in names)

    def differs(self, name: str, other: StoredRow) -> bool:
        """Return whether a column is stored differently in another row."""
        if name in self.images and name in other.images:
            return self.images[name] != other.images[name]
        return not is_same_value(self[name], other[name])

    def is_same(self, other: StoredRow) -> bool:
        """Return whether another row has the same columns, and the same in each."""
        return self.keys() == other.keys() and not any(
            self.differs(name, other) for name in self
        )


def _of_columns(
    images: Mapping[str, str | None], names: Collection[str]
) -> dict[str, str | None]:
    return {name: image for name, image in images.items() if name in names}


def is_same_value(one: Any, other: Any) -> bool:
    """Return whether two values of a column are one and the same.

    Unlike ``==``, this tells ``1`` from ``True``, ``1.0`` from ``1.00``, and an hour
    that a change of the clocks repeats from the first one; and NaN is NaN.
    """
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            is_same_value(value, other[key]) for key, value in one.items()
        )
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(is_same_value, one, other))
    if isinstance(one, float):
        return repr(one) == repr(other)
    if isinstance(one, Decimal):
        return bool(one.as_tuple() == other.as_tuple())
    if isinstance(one, datetime.datetime):
        return bool(_instant(one) == _instant(other))
    if isinstance(one, datetime.time):
        return bool(one.isoformat() == other.isoformat())
    return bool(one is other or one == other)


_USUAL = datetime.date(1, 1, 3), datetime.date(9999, 12, 29)
"""Between these a date or a time is stored as Python has it, in any time zone.

psycopg2 and asyncpg read infinity as the first or last one that Python has, and asyncpg
writes that one as infinity.
"""


def may_be_infinity(value: Any) -> bool:
    """Return whether a driver may have read infinity as a value, or may write it so."""
    if not isinstance(value, datetime.date):
        return False
    day = datetime.date(value.year, value.month, value.day)
    return not _USUAL[0] <= day <= _USUAL[1]


def _instant(value: datetime.datetime) -> tuple[bool, datetime.timedelta]:
    """Return what is the same for one instant in different zones.

    ``==`` goes by the clock if both have one zone, whose clock may show a time twice.
    """
    offset = value.utcoffset()
    since = value.replace(tzinfo=None) - datetime.datetime.min
    return offset is not None, since - (offset or datetime.timedelta())


def image(column: ColumnElement[Any]) -> ColumnElement[str | None]:
    """Return the image of a column: its value as text, NULL for NULL."""
    as_text: ColumnElement[Any] = cast(column, Text)
    return as_text


def selected(
    columns: Iterable[ColumnElement[Any]], prefix: str
) -> Iterator[ColumnElement[Any]]:
    """Yield columns for a SELECT whose rows :func:`stored_values` reads.

    :param columns: columns of a table, or of an alias of it.
    :param prefix: the beginning of their labels, to tell two rows in one SELECT apart.
    """
    for column in columns:
        if not holds_json(column.type):
            yield column.label(f"{prefix}_{column.name}")
        if not is_read_exactly(column.type):
            yield image(column).label(f"image_{prefix}_{column.name}")
        elif has_infinity(column.type):
            usual = column.between(literal(_USUAL[0], Date), literal(_USUAL[1], Date))
            found = case((usual, null()), else_=image(column))
            yield found.label(f"image_{prefix}_{column.name}")


def stored_values(
    found: Mapping[Any, Any], names: Iterable[str], prefix: str
) -> StoredRow:
    """Return the values of columns that :func:`selected` made the SELECT of.

    :param found: the row as a mapping.
    :param names: the names of the columns.
    :param prefix: the prefix of the labels.
    """
    names = list(names)
    images = {
        name: found[label]
        for name in names
        if (label := f"image_{prefix}_{name}") in found
        # Of a usual date there is no image.
        and (found[label] is not None or found.get(f"{prefix}_{name}") is None)
    }
    values = {
        name: found[label]
        if (label := f"{prefix}_{name}") in found
        else _readable(images[name])
        for name in names
    }
    for name, value in values.items():
        if value is None and images.get(name) is not None:
            values[name] = NOT_NULL
    return StoredRow(values, images)


def _readable(image: str | None) -> Any:
    """Return a value of JSON from its image; the image itself of an array of JSON."""
    if image is None:
        return None
    try:
        return loads(image)
    except ValueError:
        return image


def value_to_write(type_: types.TypeEngine[Any], value: Any) -> Any:
    """Return what to write into a column, so that the value is stored as it was.

    :param type_: the type of the column.
    :param value: a value of :meth:`StoredRow.to_write`.
    """
    if value is None:
        return null()  # None would be null of JSON in a column of JSON
    if isinstance(value, Image):
        return cast(literal(value.text, Text), postgresql_type(type_))
    return value
