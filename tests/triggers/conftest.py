"""An account with triggers, and what becomes of a change to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, Executable, Table, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_history import attach
from sa_history.exc import RefusedError


@pytest.fixture
def account(base: type[DeclarativeBase], create_all: Callable[[], None]) -> Any:
    """Make a model with these triggers, and its table."""

    def make(*triggers: Any) -> Any:
        @attach(*triggers)
        class Account(base):  # type: ignore[misc, valid-type]
            __tablename__ = "account"
            id: Mapped[int] = mapped_column(primary_key=True)
            owner: Mapped[str]
            balance: Mapped[int | None]

        create_all()
        return Account

    return make


@pytest.fixture
def fill(pg_engine: Engine) -> Callable[[str], None]:
    """Execute statements that no trigger of the table ``account`` looks at."""

    def write(*statements: str) -> None:
        with pg_engine.begin() as connection:
            connection.execute(text("ALTER TABLE account DISABLE TRIGGER USER"))
            for statement in statements:
                connection.execute(text(statement))
            connection.execute(text("ALTER TABLE account ENABLE TRIGGER USER"))

    return write


@pytest.fixture
def attempt(pg_session: Session) -> Callable[..., type[RefusedError] | None]:
    """Execute a statement and commit; return by which error it was refused, if any."""

    def run(statement: str | Executable, *args: Any) -> type[RefusedError] | None:
        if isinstance(statement, str):
            statement = text(statement)
        try:
            pg_session.execute(statement, *args)
            pg_session.commit()
        except RefusedError as error:
            pg_session.rollback()
            return type(error)
        return None

    return run


@pytest.fixture
def rows(pg_engine: Engine) -> Callable[[Any], list[tuple[Any, ...]]]:
    """Return the committed rows of a model or a table, ordered by its first column."""

    def read(target: Any) -> list[tuple[Any, ...]]:
        table = target if isinstance(target, Table) else target.__table__
        with pg_engine.connect() as connection:
            found = connection.execute(select(table).order_by(*table.c[:1]))
            return [tuple(row) for row in found]

    return read
