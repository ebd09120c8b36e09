"""A log, models that are audited into it, and what it holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, Table, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import Audit, attach, audit_table

Logged = Callable[..., list[Any]]
CreateAll = Callable[[], None]


@pytest.fixture
def log(base: type[DeclarativeBase]) -> Table:
    """A log as the library makes it."""
    return audit_table("audit_log", base.metadata)


@pytest.fixture
def logged(log: Table, pg_engine: Engine) -> Logged:
    """Return columns of the committed rows of the log, oldest first."""

    def read(*names: str) -> list[Any]:
        names = names or ("operation", "key", "old_row", "new_row")
        rows = select(*(log.c[name] for name in names)).order_by(log.c.id)
        with pg_engine.connect() as connection:
            found = [tuple(row) for row in connection.execute(rows)]
        return found if len(names) > 1 else [value for (value,) in found]

    return read


@pytest.fixture
def make(base: type[DeclarativeBase], log: Table, level: str) -> Callable[..., Any]:
    """Make a model with the columns id, owner and balance whose changes are logged."""

    def audited(**options: Any) -> Any:
        @attach(Audit(into=log, level=level, **options))
        class Account(base):  # type: ignore[misc, valid-type]
            __tablename__ = "account"
            id: Mapped[int] = mapped_column(primary_key=True)
            owner: Mapped[str]
            balance: Mapped[int]

        return Account

    return audited


@pytest.fixture
def account(make: Callable[..., Any], create_all: CreateAll) -> Any:
    """The model, created; all of its changes are logged."""
    model = make()
    create_all()
    return model


@pytest.fixture
def accounts(account: Any, pg_session: Session) -> Any:
    """The model, with two committed rows that are not in the log."""
    with history.ignore(pg_session, account):
        pg_session.add_all(account(id=n, owner="ann", balance=n) for n in (1, 2))
        pg_session.commit()
    return account
