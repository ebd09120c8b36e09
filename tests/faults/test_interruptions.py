"""A statement that is stopped while a trigger records what it has written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from psycopg import errors
from sqlalchemy import URL, Connection, Engine, create_engine, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

import sa_history as history

Story = Callable[[], list[tuple[str, int, int, Any]]]
InSession = Callable[[Callable[[Session], None]], None]

HOLD = """
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(13) WHERE NEW.balance = 13;
  RETURN NEW;
END $$;
CREATE TRIGGER hold BEFORE INSERT ON account_event
  FOR EACH ROW EXECUTE FUNCTION hold();
"""


@pytest.fixture(params=["sync", "async"])
def in_session(request: pytest.FixtureRequest, pg_url: URL) -> InSession:
    """Run a function with a session that has one connection for all it does."""

    def run_sync(function: Callable[[Session], None]) -> None:
        engine = create_engine(pg_url, pool_size=1, max_overflow=0)
        with Session(engine) as session:
            function(session)
        engine.dispose()

    def run_async(function: Callable[[Session], None]) -> None:
        async def main() -> None:
            engine = create_async_engine(pg_url, pool_size=1, max_overflow=0)
            async with AsyncSession(engine) as session:
                await session.run_sync(function)
            await engine.dispose()

        asyncio.run(main())

    return run_sync if request.param == "sync" else run_async


@pytest.fixture
def holding(account: Any, pg_engine: Engine) -> Iterator[Connection]:
    """Have everybody wait who records an account with a balance of 13."""
    with pg_engine.connect() as connection:
        connection.exec_driver_sql(HOLD)
        connection.commit()
        connection.execute(text("SELECT pg_advisory_xact_lock(13)"))
        yield connection


@pytest.fixture(params=["statement timeout", "cancel"])
def stopping(
    request: pytest.FixtureRequest,
    pg_engine: Engine,
    blocked: Callable[[], int],
) -> Iterator[Callable[[Session], None]]:
    """See to it that the next statement is stopped once it waits."""

    def set_timeout(session: Session) -> None:
        session.execute(text("SET LOCAL statement_timeout = 250"))

    def cancel() -> None:
        pid = blocked()
        with pg_engine.connect() as connection:
            connection.execute(text("SELECT pg_cancel_backend(:pid)"), {"pid": pid})

    with ThreadPoolExecutor(1) as thread:
        if request.param == "cancel":
            yield lambda session: thread.submit(cancel)
        else:
            yield set_timeout


def add(session: Session, account: Any, key: int) -> None:
    session.add(account(id=key, balance=key))
    session.flush()


def test_a_write_that_is_stopped_while_it_is_recorded_did_not_happen(
    in_session: InSession,
    holding: Connection,
    stopping: Callable[[Session], None],
    account: Any,
    story: Story,
) -> None:
    def stop(session: Session) -> None:
        stopping(session)
        with pytest.raises(OperationalError) as caught:
            session.execute(update(account).values(balance=12 + account.id))
        assert isinstance(caught.value.orig, errors.QueryCanceled)
        assert "hold()" in caught.value.orig.diag.context

    def work(session: Session) -> None:
        with history.context(session, user="first"):
            add(session, account, 1)
            add(session, account, 2)
            session.commit()
        add(session, account, 3)
        point = session.begin_nested()
        add(session, account, 4)  # it begins the savepoint, outside of the block
        with history.context(session, user="savepoint"):
            add(session, account, 10)
            stop(session)
            point.rollback()
            add(session, account, 5)
        add(session, account, 6)
        session.commit()
        with history.context(session, user="lost"):
            add(session, account, 7)
            with history.context(session, user="lost as well"):
                stop(session)
            session.rollback()
        add(session, account, 8)
        with history.context(session, user="last"):
            add(session, account, 9)
        session.commit()

    in_session(work)
    assert story() == [
        ("I", 1, 1, {"user": "first"}),
        ("I", 2, 2, {"user": "first"}),
        ("I", 3, 3, None),
        ("I", 5, 5, {"user": "savepoint"}),
        ("I", 6, 6, None),
        ("I", 8, 8, None),
        ("I", 9, 9, {"user": "last"}),
    ]


@pytest.mark.parametrize("isolation_level", ["READ COMMITTED", "AUTOCOMMIT"])
def test_a_task_that_is_cancelled_while_its_write_is_recorded_wrote_nothing(
    isolation_level: Any,
    pg_url: URL,
    holding: Connection,
    blocked: Callable[[], int],
    account: Any,
    story: Story,
) -> None:
    async def main() -> None:
        engine = create_async_engine(
            pg_url, pool_size=1, max_overflow=0, isolation_level=isolation_level
        )
        async with AsyncSession(engine) as session:
            async with history.context(session, user="cancelled"):
                session.add_all(account(id=key, balance=10 + key) for key in (1, 2, 3))
                task = asyncio.create_task(session.flush())
                await asyncio.to_thread(blocked)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await session.rollback()
            session.add(account(id=4, balance=4))
            await session.commit()
            async with history.context(session, user="last"):
                session.add(account(id=5, balance=5))
                await session.commit()
        await engine.dispose()

    asyncio.run(main())
    holding.rollback()
    assert story() == [("I", 4, 4, None), ("I", 5, 5, {"user": "last"})]
