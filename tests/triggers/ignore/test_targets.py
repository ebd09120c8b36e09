"""What ``ignore`` is bound to: sessions and connections of each kind, or a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, insert
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

import sa_history as history
from sa_history.exc import DialectError, IgnoreError

Add = Callable[[Session, str], None]
Seen = Callable[[], list[tuple[str, str]]]


def test_block_of_an_async_session_ends_with_either_kind_of_with(
    pg_async_engine: AsyncEngine, note: Any, seen: Seen
) -> None:
    async def main() -> None:
        async with AsyncSession(pg_async_engine) as session:
            async with history.ignore(session, note, "x"):
                session.add(note("a"))
                await session.flush()
            with history.ignore(session, note, "y"):
                session.add(note("b"))
                await session.flush()
            session.add(note("c"))
            await session.commit()

    asyncio.run(main())
    assert seen() == [("a", "y"), ("b", "x"), ("c", "xy")]


def test_block_of_a_scoped_session_holds_in_its_session(
    pg_engine: Engine, note: Any, seen: Seen
) -> None:
    scoped = scoped_session(sessionmaker(pg_engine))
    with history.ignore(scoped, note, "x"):
        scoped.add(note("a"))
        scoped.commit()
    scoped.add(note("b"))
    scoped.commit()
    scoped.remove()
    assert seen() == [("a", "y"), ("b", "xy")]


def test_scoped_session_is_the_one_there_is_when_the_block_is_entered(
    pg_engine: Engine, note: Any, seen: Seen
) -> None:
    scoped = scoped_session(sessionmaker(pg_engine))

    @history.ignore(scoped, note, "x")
    def work(body: str) -> None:
        scoped.add(note(body))
        scoped.commit()

    assert not scoped.registry.has()
    work("a")
    scoped.remove()
    work("b")
    scoped.add(note("c"))
    scoped.commit()
    scoped.remove()
    assert seen() == [("a", "y"), ("b", "y"), ("c", "xy")]


def test_async_scoped_session_that_is_decorated_with_outside_of_a_loop(
    pg_async_engine: AsyncEngine, note: Any, seen: Seen
) -> None:
    scoped = async_scoped_session(
        async_sessionmaker(pg_async_engine), scopefunc=asyncio.current_task
    )

    @history.ignore(scoped, note, "x")
    async def work(body: str) -> None:
        scoped.add(note(body))
        await scoped.commit()
        await scoped.remove()

    async def main() -> None:
        for body in "ab":
            await asyncio.create_task(work(body))

    asyncio.run(main())
    assert seen() == [("a", "y"), ("b", "y")]


def test_block_of_a_connection_holds_in_its_sessions_too(
    pg_engine: Engine, note: Any, seen: Seen
) -> None:
    with pg_engine.connect() as connection:
        with history.ignore(connection, note, "x"):
            connection.execute(insert(note).values(body="a"))
            with Session(connection) as session:
                session.add(note("b"))
                session.commit()
        connection.execute(insert(note).values(body="c"))
        connection.commit()
        with history.ignore(connection, note, "y"):
            connection.execute(insert(note).values(body="d"))
            connection.commit()
    assert seen() == [("a", "y"), ("b", "y"), ("c", "xy"), ("d", "x")]


def test_block_of_an_async_connection_holds_until_it_ends(
    pg_async_engine: AsyncEngine, note: Any, seen: Seen
) -> None:
    async def main() -> None:
        async with pg_async_engine.connect() as connection:
            async with history.ignore(connection, note, "x"):
                await connection.execute(insert(note).values(body="a"))
            await connection.execute(insert(note).values(body="b"))
            await connection.commit()

    asyncio.run(main())
    assert seen() == [("a", "y"), ("b", "xy")]


def test_block_of_a_thread_holds_in_all_sessions_of_this_thread_alone(
    pg_engine: Engine, note: Any, add: Add, seen: Seen
) -> None:
    def elsewhere() -> None:
        with Session(pg_engine) as session:
            add(session, "other thread")
            session.commit()

    with history.ignore(note, "x"):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        for body in "ab":
            with Session(pg_engine) as session:
                add(session, body)
                session.commit()
        with pg_engine.begin() as connection:
            connection.execute(insert(note).values(body="c"))
    with Session(pg_engine) as session:
        add(session, "after")
        session.commit()
    assert seen() == [
        ("other thread", "xy"),
        *[("a", "y"), ("b", "y"), ("c", "y")],
        ("after", "xy"),
    ]


def test_thread_is_refused_inside_a_running_loop(
    pg_async_engine: AsyncEngine, note: Any, seen: Seen
) -> None:
    @history.ignore("x")
    async def decorated() -> None:
        pytest.fail("it was entered")

    async def main() -> None:
        for what in ((note,), (note, "x"), ("x",)):
            with pytest.raises(IgnoreError, match=r"ignore\(session, \.\.\.\)"):
                history.ignore(*what).__enter__()
        with pytest.raises(IgnoreError, match="pass the session"):
            await decorated()
        async with AsyncSession(pg_async_engine) as session:
            session.add(note("a"))
            await session.commit()

    asyncio.run(main())
    with history.ignore(note, "x"):  # what was entered before holds in the loop
        asyncio.run(pg_async_engine_writes(pg_async_engine, note))
    assert seen() == [("a", "xy"), ("b", "y")]


async def pg_async_engine_writes(engine: AsyncEngine, note: Any) -> None:
    async with AsyncSession(engine) as session:
        session.add(note("b"))
        await session.commit()


def test_targets_that_have_no_blocks_are_refused(
    pg_engine: Engine, pg_async_engine: AsyncEngine, note: Any
) -> None:
    for target in (
        *(pg_engine, sessionmaker(), note(body=""), None, 7, object()),
        pg_async_engine.connect(),
    ):
        with (
            pytest.raises(IgnoreError, match=r"is bound to a session or .*, got "),
            history.ignore(target, note),
        ):
            pytest.fail("it was entered")
    engine = create_engine("sqlite://")
    with (
        engine.connect() as connection,
        pytest.raises(DialectError, match="history.ignore needs PostgreSQL"),
        history.ignore(connection, note),
    ):
        pass
    engine.dispose()
