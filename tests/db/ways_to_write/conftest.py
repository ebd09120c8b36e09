"""Accounts that are tracked, with or without rows, and their events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_history import AfterDelete, AfterInsert, AfterUpdate, Snapshot, new, track

Recorded = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def account(
    base: type[DeclarativeBase], create_all: Callable[[], None], level: str
) -> Any:
    @track(
        Snapshot,
        AfterInsert(label="create"),
        AfterUpdate(new.balance < 0, label="low"),
        AfterDelete,
        level=level,
    )
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        balance: Mapped[int]

    create_all()
    return Account


@pytest.fixture
def accounts(account: Any, pg_session: Session) -> Any:
    """The class, with three committed rows that have no history."""
    pg_session.add_all(account(id=n, balance=n * 10) for n in (1, 2, 3))
    pg_session.commit()
    pg_session.execute(text("TRUNCATE account_event"))
    pg_session.commit()
    return account


@pytest.fixture
def events_by_row(account: Any, recorded: Recorded) -> Callable[[], list[Any]]:
    """The events of each row in their order, the rows by their key.

    A trigger of statement level writes one tracker's events of all rows before the
    next tracker's; that is not what these tests are about.
    """
    return lambda: sorted(recorded(account, "id", "balance"), key=lambda e: e[2])
