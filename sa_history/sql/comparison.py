"""Whether two values of a column differ in what is stored."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BinaryExpression,
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

from sa_history.sql.expressions import POSTGRESQL


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
    wanted: ColumnElement[Any] = literal(value, column.type)
    if not _equality_is_identity(column.type):
        wanted = cast(wanted, column.type)
    return not_(stored_differs(column, wanted))


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


def _equality_is_identity(type_: types.TypeEngine[Any]) -> bool:
    """Whether values of the type that are equal are stored alike."""
    actual = type_.dialect_impl(POSTGRESQL)
    if isinstance(actual, types.TypeDecorator):
        return _equality_is_identity(actual.impl_instance)
    if isinstance(actual, types.String) and actual.collation:
        return False  # it may be a nondeterministic one
    if isinstance(actual, postgresql.CITEXT):
        return False
    return isinstance(actual, _IDENTITY_TYPES)
