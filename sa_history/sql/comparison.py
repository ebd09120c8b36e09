"""Whether two values of a column differ in what is stored."""

from __future__ import annotations

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
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql import operators

from sa_history.sql.expressions import POSTGRESQL, quoted


class _Record(types.UserDefinedType[Any]):
    """The type of a row of any columns."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "record"


def stored_differs(
    before: ColumnElement[Any], after: ColumnElement[Any]
) -> ColumnElement[bool]:
    """Return whether two values of one column differ in what is stored."""
    if _equality_is_identity(after.type):
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


def plain_differs(column: Column[Any]) -> str | None:
    """Return the SQL of :func:`stored_differs` for the OLD and the NEW row.

    None where the type needs more than an operator.
    """
    if not _equality_is_identity(column.type):
        return None
    name = quoted(column.name)
    return f"OLD.{name} IS DISTINCT FROM NEW.{name}"


def image_differs(
    before: ColumnElement[Any], after: ColumnElement[Any]
) -> ColumnElement[bool]:
    """Return whether the stored bytes of two values differ.

    It is the same for every type and every search_path; "=" is found through the path
    where an extension has it.
    """
    # Without the casts PostgreSQL would compare the rows member by member.
    # https://www.postgresql.org/docs/current/functions-comparisons.html
    differs = cast(func.row(before), _Record).op(
        "OPERATOR(pg_catalog.*<>)", is_comparison=True
    )
    return differs(cast(func.row(after), _Record))


def stored_equals(column: ColumnElement[Any], value: Any) -> ColumnElement[bool]:
    """Return whether what is stored in a column is a value, which may be None."""
    if value is None:
        # Not column.is_(None), see above.
        return BinaryExpression(
            column, null(), operators.is_, types.Boolean(), negate=operators.is_not
        )
    wanted = value_of(column.type, value)
    if _equality_is_identity(column.type):
        return not_(stored_differs(column, wanted))
    actual = postgresql_type(column.type)
    if isinstance(actual, types.String):
        # As text: a function whose path is pinned does not find the type citext.
        comparable: types.TypeEngine[Any] = types.Text()
    elif isinstance(actual, postgresql.DOMAIN):
        comparable = actual.data_type
    else:
        comparable = column.type
    same = column if comparable is column.type else cast(column, comparable)
    return not_(image_differs(same, cast(wanted, comparable)))


def value_of(type_: types.TypeEngine[Any], value: Any) -> ColumnElement[Any]:
    """Return a value of a column's type."""
    if isinstance(type_, postgresql.DOMAIN):  # which has no literals of its own
        type_ = type_.data_type
    return literal(value, type_)


_IDENTITY_TYPES = (
    types.Integer,
    types.Boolean,
    types.Uuid,
    types.Date,
    types.DateTime,
    types.LargeBinary,
    types.Enum,
    types.String,
)


def postgresql_type(type_: types.TypeEngine[Any]) -> types.TypeEngine[Any]:
    """Return what a type is on PostgreSQL, without a decorator around it."""
    actual = type_.dialect_impl(POSTGRESQL)
    if isinstance(actual, types.TypeDecorator):
        return postgresql_type(actual.impl_instance)
    return actual


def _equality_is_identity(type_: types.TypeEngine[Any]) -> bool:
    """Whether values of the type that are equal are stored alike."""
    actual = postgresql_type(type_)
    if isinstance(actual, types.String) and actual.collation:
        return False  # it may be a nondeterministic one
    if isinstance(actual, postgresql.CITEXT):
        return False
    return isinstance(actual, _IDENTITY_TYPES)
