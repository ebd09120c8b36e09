"""Values as they are stored, so that NULL is told from other values that are None.

A value can be None in Python without being NULL: ``null`` of JSON, or any other that a
type of the application reads as None. Where such a value is to be written again, it is
:data:`NOT_NULL` here, and None is NULL.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import ColumnElement, literal, null, types

from sa_history.sql.column_types import postgresql_type
from sa_history.sql.comparison import stored_equals


class NotNull(enum.Enum):
    """The type of :data:`NOT_NULL`."""

    NOT_NULL = "not null"

    def __repr__(self) -> str:
        return "None (not NULL)"


NOT_NULL = NotNull.NOT_NULL
"""A value that is None in Python, and not NULL in the database."""


def selected(
    columns: Iterable[ColumnElement[Any]], prefix: str
) -> Iterator[ColumnElement[Any]]:
    """Yield columns for a SELECT whose rows :func:`stored_values` reads.

    :param columns: columns of a table, or of an alias of it.
    :param prefix: the beginning of their labels, to tell two rows in one SELECT apart.
    """
    for column in columns:
        yield column.label(f"{prefix}_{column.name}")
        if may_read_none(column.type):
            is_null = stored_equals(column, None)
            yield is_null.label(f"null_{prefix}_{column.name}")


def stored_values(
    found: Mapping[Any, Any], names: Iterable[str], prefix: str
) -> dict[str, Any]:
    """Return the values of columns that :func:`selected` made the SELECT of.

    :param found: the row as a mapping.
    :param names: the names of the columns.
    :param prefix: the prefix of the labels.
    :return: the values by name; None is NULL.
    """
    return {
        name: (
            NOT_NULL
            if found[f"{prefix}_{name}"] is None
            and found.get(f"null_{prefix}_{name}") is False
            else found[f"{prefix}_{name}"]
        )
        for name in names
    }


def value_to_write(type_: types.TypeEngine[Any], value: Any) -> Any:
    """Return what to write into a column, so that the value is stored as it was.

    :param type_: the type of the column.
    :param value: a value of :func:`stored_values`.
    """
    if value is None:
        return null()  # None would be null of JSON in a column of JSON
    if value is not NOT_NULL:
        return value
    actual = postgresql_type(type_)
    if isinstance(actual, types.JSON):
        # Without the type that the application made of it, which may take None only.
        return literal(types.JSON.NULL, actual)
    return literal(None, type_)


def may_read_none(type_: types.TypeEngine[Any]) -> bool:
    """Return whether values of a type may be None in Python without being NULL."""
    own = (types.TypeDecorator, types.UserDefinedType)
    return isinstance(type_, own) or isinstance(postgresql_type(type_), types.JSON)
