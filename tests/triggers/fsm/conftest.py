"""Models and tables that have a state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Column, Integer, Table
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sa_history import FSM, attach

CreateAll = Callable[[], None]


@pytest.fixture
def article(base: type[DeclarativeBase], create_all: CreateAll) -> Callable[..., Any]:
    """Make a model with these triggers."""

    def make(*triggers: Any) -> Any:
        @attach(*triggers)
        class Article(base):  # type: ignore[misc, valid-type]
            __tablename__ = "article"
            id: Mapped[int] = mapped_column(primary_key=True)
            status: Mapped[str | None] = mapped_column(server_default="draft")
            words: Mapped[int] = mapped_column(default=0)

        create_all()
        return Article

    return make


@pytest.fixture
def thing(base: type[DeclarativeBase], create_all: CreateAll) -> Callable[..., Table]:
    """Make a table with a state of some type, and a machine for it."""

    def make(type_: Any, **options: Any) -> Table:
        table = Table(
            "thing",
            base.metadata,
            Column("id", Integer, primary_key=True),
            Column("state", type_),
        )
        attach(FSM("state", **options))(table)
        create_all()
        return table

    return make
