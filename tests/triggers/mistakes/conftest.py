"""A model to attach triggers to."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Computed, Enum, MetaData, String, Text, TypeDecorator
from sqlalchemy.dialects.postgresql import DOMAIN, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sa_history import attach
from tests.triggers.mistakes.helpers import Status


class Shout(TypeDecorator[str]):
    """Takes strings only, and raises of others what a decorator may."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> str | None:
        return None if value is None else value.upper()


@pytest.fixture
def make() -> Callable[..., Any]:
    """Make a class with these triggers, each time a new one."""

    def attached(*triggers: Any) -> Any:
        class Base(DeclarativeBase):
            metadata = MetaData()

        @attach(*triggers)
        class Thing(Base):
            __tablename__ = "thing"
            id: Mapped[int] = mapped_column(primary_key=True)
            title: Mapped[str] = mapped_column(String(5))
            status: Mapped[Status]
            kind: Mapped[str] = mapped_column(Enum("a", "b", name="kind"))
            size: Mapped[int]
            is_active: Mapped[bool]
            deleted_at: Mapped[datetime.datetime | None]
            data: Mapped[Any] = mapped_column(JSONB)
            loud: Mapped[str] = mapped_column(Shout)
            place: Mapped[str] = mapped_column(DOMAIN("place", String(4)))
            area: Mapped[int] = mapped_column(Computed("size * size", persisted=True))
            half: Mapped[int] = mapped_column(Computed("size / 2", persisted=False))

        return Thing

    return attached
