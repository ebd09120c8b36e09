"""The states of an article, and of columns of other types."""

from __future__ import annotations

import datetime
import enum
from typing import Any

from sqlalchemy import CHAR, TypeDecorator

WAY = [("draft", "published"), ("published", "archived"), ("published", "draft")]


class Plain(enum.Enum):
    """Stored by name."""

    ONE = "the first"
    TWO = "it's 100% two"
    END = "end"


def values_of(members: type[enum.Enum]) -> list[str]:
    return [str(member.value) for member in members]


class Coded(TypeDecorator[Plain]):
    """Stores a member as the first letter of its name."""

    impl = CHAR(1)
    cache_ok = True

    def process_bind_param(self, value: Plain | None, dialect: Any) -> str | None:
        return None if value is None else value.name[0]

    def process_result_value(self, value: str | None, dialect: Any) -> Plain | None:
        return next((member for member in Plain if member.name[0] == value), None)


DAYS = [datetime.date(2020, 1, n) for n in (1, 2, 3)]
