"""Values in a definition that a column is compared with, or set to."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column
from sqlalchemy.exc import SQLAlchemyError

from sa_history.exc import DefinitionError
from sa_history.sql.column_types import POSTGRESQL, wrong_value
from sa_history.sql.comparison import value_of
from sa_history.sql.expressions import expression_sql


def check_value(subject: str, column: Column[Any], value: Any) -> None:
    """Refuse a value that a column cannot hold.

    :param subject: the definition, for messages.
    :param column: the column.
    :param value: the value; None for NULL.
    :raises DefinitionError: the column cannot hold it; the message says why.
    """
    if value is None:
        if not column.nullable:
            raise DefinitionError(
                f"{subject}: the column {column.name!r} is not nullable, so it cannot "
                "be None"
            )
        return
    wrong = wrong_value(column.type, value)
    if wrong is not None:
        raise DefinitionError(
            f"{subject}: the column {column.name!r} cannot be {value!r}: {wrong}"
        )
    try:
        expression_sql(value_of(column.type, value)).encode()
    except (SQLAlchemyError, *_OF_A_DECORATOR) as error:
        # SQLAlchemy's own says only that there was one.
        reason = error.__cause__ or error
        raise DefinitionError(
            f"{subject}: the column {column.name!r} cannot be {value!r}, which cannot "
            f"be written as SQL: {reason}"
        ) from error


# The errors by which a TypeDecorator may refuse a value.
_OF_A_DECORATOR = (AttributeError, LookupError, TypeError, ValueError)


def value_as_text(column: Column[Any], value: Any) -> str:
    """Return a value as its column has it when cast to text; ``NULL`` for None."""
    if value is None:
        return "NULL"
    processor = column.type.dialect_impl(POSTGRESQL).bind_processor(POSTGRESQL)
    stored = processor(value) if processor else value
    return str(stored).lower() if isinstance(stored, bool) else str(stored)
