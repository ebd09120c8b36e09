"""Values that a definition compares a column with, or sets it to."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, types

from sa_history.exc import DefinitionError


def check_value(subject: str, column: Column[Any], value: Any) -> None:
    """Refuse a value that a column cannot hold.

    :param subject: whose definition it is, for messages.
    :raises DefinitionError: says why.
    """
    if value is None:
        if not column.nullable:
            raise DefinitionError(
                f"{subject}: the column {column.name!r} is not nullable, so it cannot "
                "be None"
            )
        return
    wrong = _wrong(column.type, value)
    if wrong is not None:
        raise DefinitionError(
            f"{subject}: the column {column.name!r} cannot be {value!r}: {wrong}"
        )


def shown(value: Any) -> str:
    """Return a value as messages of the database show it."""
    if value is None:
        return "NULL"
    return str(value.value if isinstance(value, enum.Enum) else value)


def _wrong(type_: types.TypeEngine[Any], value: Any) -> str | None:
    if isinstance(type_, types.Enum):
        # By name or by member, as SQLAlchemy takes it.
        members: Sequence[Any] = [*(type_.enum_class or ())]
        if value in type_.enums or value in members:
            return None
        return f"it has {', '.join(map(repr, members or type_.enums))}"
    try:
        expected = type_.python_type
    except NotImplementedError:
        return None
    if not isinstance(value, expected) or (
        isinstance(value, bool) and expected is not bool
    ):
        return f"its values are of type {expected.__name__}"
    length = getattr(type_, "length", None)
    if isinstance(value, str) and length is not None and len(value) > length:
        return f"it has {length} characters at most"
    return None
