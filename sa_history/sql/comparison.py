"""Comparisons of what is stored, which ``=`` of some types does not tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BinaryExpression,
    Column,
    ColumnElement,
    cast,
    func,
    literal,
    not_,
    null,
    types,
)
from sqlalchemy.sql import operators

from sa_history.sql.column_types import (
    equality_is_identity,
    postgresql_type,
    without_domain,
)
from sa_history.sql.expressions import quoted


def stored_differs(
    before: ColumnElement[Any], after: ColumnElement[Any]
) -> ColumnElement[bool]:
    """Return whether two values of one column differ in what is stored."""
    if equality_is_identity(after.type):
        # Not before.is_distinct_from(after), which a type may have made to mean
        # something else, such as a comparison in lower case.
        return BinaryExpression(
            before,
            after,
            operators.is_distinct_from,
            types.Boolean(),
            negate=operators.is_not_distinct_from,
        )
    return image_differs(before, after)


def any_differs(columns: Sequence[Column[Any]]) -> str:
    """Return the SQL that ``or_`` of :func:`stored_differs` has for OLD and NEW.

    To make expressions and to compile them takes a hundred times longer.

    :param columns: the columns that are compared, one at least.
    """
    parts = []
    for column in columns:
        name = quoted(column.name)
        if equality_is_identity(column.type):
            parts.append(f"OLD.{name} IS DISTINCT FROM NEW.{name}")
            continue
        parts.append(f"pg_catalog.record_image_ne(row(OLD.{name}), row(NEW.{name}))")
    return " OR ".join(parts)


def image_differs(
    before: ColumnElement[Any], after: ColumnElement[Any]
) -> ColumnElement[bool]:
    """Return whether the stored bytes of two values differ.

    The function is the same for every type, and no ``search_path`` replaces it; ``=``
    of a type that comes with an extension is found by the path.
    """
    # Not by its operator, *<>: PostgreSQL compares two rows by an operator member by
    # member, unless they are cast to records, and it leaves those casts out where it
    # shows a trigger's condition, as pg_dump writes it.
    # https://www.postgresql.org/docs/current/functions-comparisons.html
    return func.pg_catalog.record_image_ne(
        func.row(before), func.row(after), type_=types.Boolean
    )


def stored_equals(column: ColumnElement[Any], value: Any) -> ColumnElement[bool]:
    """Return whether a value is what a column stores.

    :param column: a column of any row.
    :param value: a value of the column's type, or None for NULL.
    """
    if value is None:
        # Not column.is_(None), which the column's type may have replaced.
        return BinaryExpression(
            column, null(), operators.is_, types.Boolean(), negate=operators.is_not
        )
    wanted = value_of(column.type, value)
    if equality_is_identity(column.type):
        return not_(stored_differs(column, wanted))
    actual = postgresql_type(column.type)
    if isinstance(actual, types.String):
        # As text: a function whose path is pinned does not find the type citext.
        comparable: types.TypeEngine[Any] = types.Text()
    else:
        inner = without_domain(actual)
        comparable = column.type if inner is actual else inner
    same = column if comparable is column.type else cast(column, comparable)
    return not_(image_differs(same, cast(wanted, comparable)))


def value_of(type_: types.TypeEngine[Any], value: Any) -> ColumnElement[Any]:
    """Return a value of a column's type, as an expression."""
    # A DOMAIN has no literals of its own.
    return literal(value, without_domain(type_))
