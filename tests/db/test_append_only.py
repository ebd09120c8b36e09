"""Events of append-only histories cannot be changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import AfterDelete, Manual, Snapshot, track
from sa_history.exc import AppendOnlyError

Recorded = Callable[..., list[tuple[Any, ...]]]
CreateAll = Callable[[], None]


@pytest.fixture
def sealed(base: type[DeclarativeBase], create_all: CreateAll, level: str) -> Any:
    @track(Snapshot, AfterDelete, Manual("seen"), level=level, append_only=True)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    return Account


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE account_event SET pgh_label = 'forged'",
        "DELETE FROM account_event",
        "TRUNCATE account_event",
        "DELETE FROM account_event WHERE false",
        "INSERT INTO account_event SELECT * FROM account_event"
        " ON CONFLICT (pgh_id) DO UPDATE SET pgh_label = 'forged'",
    ],
)
def test_append_only_events_cannot_be_changed(
    sealed: Any, pg_session: Session, recorded: Recorded, statement: str
) -> None:
    pg_session.add(sealed(id=1))
    pg_session.commit()
    with pytest.raises(AppendOnlyError, match="append-only") as caught:
        pg_session.execute(text(statement))
    pg_session.rollback()
    assert isinstance(caught.value, DBAPIError)
    original = caught.value.orig
    assert isinstance(original, psycopg.Error)
    assert original.sqlstate == AppendOnlyError.sqlstate
    assert original.diag.table_name == "account_event"
    assert original.diag.constraint_name == "account_event_append_only"
    assert recorded(sealed, "id") == [("snapshot", "I", 1, None)]


def test_append_only_events_cannot_be_changed_through_the_session(
    sealed: Any, pg_session: Session
) -> None:
    account = sealed(id=1)
    pg_session.add(account)
    pg_session.commit()
    event = pg_session.scalars(account.events.select()).one()
    event.pgh_label = "forged"
    with pytest.raises(AppendOnlyError):
        pg_session.flush()
    pg_session.rollback()
    pg_session.delete(event)
    with pytest.raises(AppendOnlyError):
        pg_session.flush()
    pg_session.rollback()


def test_append_only_events_are_still_added(
    sealed: Any, pg_session: Session, recorded: Recorded
) -> None:
    account = sealed(id=1)
    pg_session.add(account)
    history.create_event(pg_session, account, label="seen")
    pg_session.delete(account)
    pg_session.commit()
    assert [event[0] for event in recorded(sealed)] == ["snapshot", "seen", "delete"]


def test_refusal_is_the_same_error_for_an_async_session(
    sealed: Any, pg_async_engine: AsyncEngine
) -> None:
    async def forge() -> None:
        async with AsyncSession(pg_async_engine) as session:
            await session.execute(text("DELETE FROM account_event"))

    with pytest.raises(AppendOnlyError) as caught:
        asyncio.run(forge())
    assert isinstance(caught.value.orig, psycopg.Error)
