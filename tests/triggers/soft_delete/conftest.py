"""A model whose rows are marked in place of being deleted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_history import SoftDelete, attach


@pytest.fixture
def account(base: type[DeclarativeBase], create_all: Callable[[], None]) -> Any:
    """A model whose rows are marked."""

    @attach(SoftDelete("is_active"))
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(default="a")
        is_active: Mapped[bool] = mapped_column(default=True)

    create_all()
    return Account


@pytest.fixture
def accounts(account: Any, pg_session: Session) -> Any:
    """The class, with three committed rows."""
    pg_session.add_all(account(id=n) for n in (1, 2, 3))
    pg_session.commit()
    return account
