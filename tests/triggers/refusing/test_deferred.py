"""Refusals at the end of the transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, delete, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from sa_history import Delete, Protect, ReadOnly, old
from sa_history.exc import ProtectedError, ReadOnlyError, RefusedError
from tests.triggers.refusing.helpers import ROWS, THREE

Account = Callable[..., Any]
Attempt = Callable[..., "type[RefusedError] | None"]
Fill = Callable[..., None]
Rows = Callable[[Any], list[tuple[Any, ...]]]


def test_deferred_refusal_comes_with_the_commit(
    account: Account,
    fill: Fill,
    pg_engine: Engine,
    pg_async_engine: AsyncEngine,
    rows: Rows,
) -> None:
    model = account(
        Protect(Delete, deferrable="deferred", condition=old.balance > 0),
        ReadOnly("owner", deferrable="deferred"),
    )
    fill(THREE)
    with Session(pg_engine) as session:
        session.execute(delete(model).where(model.id == 2))
        assert session.scalar(select(func.count()).select_from(model)) == 2
        with pytest.raises(ProtectedError):
            session.commit()

    async def main() -> None:
        async with AsyncSession(pg_async_engine) as session:
            ann = await session.get_one(model, 1)
            ann.owner = "x"
            await session.flush()
            with pytest.raises(ReadOnlyError):
                await session.commit()

    asyncio.run(main())
    with (
        pytest.raises(ProtectedError),
        Session(pg_engine) as session,
        session.begin(),
    ):
        session.execute(delete(model))
    assert rows(model) == ROWS


def test_deferred_refusal_remembers_what_was_changed_back(
    account: Account, fill: Fill, pg_session: Session
) -> None:
    """Each change of the transaction is looked at, not what comes of all of them."""
    model = account(ReadOnly("owner", deferrable="deferred"))
    fill(THREE)
    pg_session.execute(update(model).values(owner="x").where(model.id == 1))
    pg_session.execute(update(model).values(owner="ann").where(model.id == 1))
    with pytest.raises(ReadOnlyError):
        pg_session.commit()


def test_deferred_refusal_is_forgotten_with_a_savepoint(
    account: Account, fill: Fill, pg_session: Session, rows: Rows
) -> None:
    model = account(Protect(Delete, deferrable="deferred"))
    fill(THREE)
    nested = pg_session.begin_nested()
    pg_session.execute(delete(model))
    nested.rollback()
    pg_session.commit()
    assert rows(model) == ROWS


def test_immediate_refusal_can_be_deferred(
    account: Account, fill: Fill, pg_session: Session, attempt: Attempt, rows: Rows
) -> None:
    model = account(Protect(Delete, deferrable="immediate"))
    fill(THREE)
    assert attempt(delete(model)) is ProtectedError
    pg_session.execute(text("SET CONSTRAINTS account_protect_delete DEFERRED"))
    pg_session.execute(delete(model))
    with pytest.raises(ProtectedError):
        pg_session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
    pg_session.rollback()
    # TRUNCATE has no rows to come back to later.
    pg_session.execute(text("SET CONSTRAINTS ALL DEFERRED"))
    with pytest.raises(ProtectedError):
        pg_session.execute(text("TRUNCATE account"))
    pg_session.rollback()
    assert rows(model) == ROWS


def test_deferrable_triggers_are_made_anew(
    account: Account, fill: Fill, attempt: Attempt, base: Any, pg_engine: Engine
) -> None:
    model = account(Protect(Delete, deferrable="deferred"))
    base.metadata.create_all(pg_engine)
    base.metadata.drop_all(pg_engine)
    base.metadata.create_all(pg_engine)
    fill(THREE)
    assert attempt(delete(model)) is ProtectedError
