"""What a block can be bound to: sessions and connections of all kinds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, insert, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

import sa_history as history
from sa_history.exc import ContextError, DialectError

Add = Callable[[Session, str], None]
Seen = Callable[[], list[tuple[str, Any]]]


def test_session_can_be_a_target(pg_session: Session, add: Add, seen: Seen) -> None:
    with history.context(pg_session, a=1):
        add(pg_session, "x")
        pg_session.commit()
    assert seen() == [("x", {"a": 1})]


def test_scoped_session_can_be_a_target(
    pg_engine: Engine, note: Any, seen: Seen
) -> None:
    scoped = scoped_session(sessionmaker(pg_engine))
    with history.context(scoped, a=1):
        history.annotate(scoped, b=2)
        scoped.add(note("x"))
        scoped.commit()
    scoped.remove()
    scoped.add(note("y"))
    scoped.commit()
    scoped.remove()
    assert seen() == [("x", {"a": 1, "b": 2}), ("y", None)]


def test_scoped_session_may_be_removed_in_the_block(
    pg_engine: Engine, note: Any, seen: Seen
) -> None:
    scoped = scoped_session(sessionmaker(pg_engine))
    with history.context(scoped, a=1):
        scoped.remove()
        scoped.add(note("x"))  # through another session
        scoped.commit()
    scoped.remove()
    assert seen() == [("x", None)]


def test_async_session_can_be_a_target(
    pg_async_engine: AsyncEngine, note: Any, seen: Seen
) -> None:
    async def main() -> None:
        async with AsyncSession(pg_async_engine) as session:
            async with history.context(session, a=1):
                history.annotate(session, b=2)
                session.add(note("x"))
                await session.flush()
            session.add(note("y"))
            await session.commit()

    asyncio.run(main())
    assert seen() == [("x", {"a": 1, "b": 2}), ("y", None)]


def test_async_scoped_session_can_be_a_target(
    pg_async_engine: AsyncEngine, note: Any, seen: Seen
) -> None:
    async def main() -> None:
        scoped = async_scoped_session(
            async_sessionmaker(pg_async_engine), scopefunc=asyncio.current_task
        )
        async with history.context(scoped, a=1):
            scoped.add(note("x"))
            await scoped.commit()
        await scoped.remove()

    asyncio.run(main())
    assert seen() == [("x", {"a": 1})]


def test_connection_can_be_a_target(pg_engine: Engine, note: Any, seen: Seen) -> None:
    with pg_engine.connect() as connection:
        with history.context(connection, a=1):
            history.annotate(connection, b=2)
            connection.execute(insert(note).values(body="x"))
        connection.execute(insert(note).values(body="y"))
        connection.commit()
        with history.context(connection, c=3):
            connection.execute(insert(note).values(body="z"))
            connection.commit()
    assert seen() == [("x", {"a": 1, "b": 2}), ("y", None), ("z", {"c": 3})]


def test_async_connection_can_be_a_target(
    pg_async_engine: AsyncEngine, note: Any, seen: Seen
) -> None:
    async def main() -> None:
        async with pg_async_engine.connect() as connection:
            async with history.context(connection, a=1):
                await connection.execute(insert(note).values(body="x"))
            await connection.execute(insert(note).values(body="y"))
            await connection.commit()

    asyncio.run(main())
    assert seen() == [("x", {"a": 1}), ("y", None)]


def test_context_of_a_connection_is_that_of_the_sessions_bound_to_it(
    pg_engine: Engine, add: Add, seen: Seen
) -> None:
    with pg_engine.begin() as connection, history.context(connection, a=1):
        with Session(connection) as first:
            with history.context(first, b=2):
                add(first, "x")
            first.commit()
        with Session(connection) as second:
            add(second, "y")
            second.commit()
    with pg_engine.begin() as connection:
        with history.context(connection, a=1):
            pass
        with Session(connection) as third, history.context(third, c=3):
            add(third, "z")
            third.commit()
    assert seen() == [("x", {"a": 1, "b": 2}), ("y", {"a": 1}), ("z", {"c": 3})]


def test_session_on_two_engines_has_its_context_on_both(
    pg_engine: Engine, note: Any, seen: Seen
) -> None:
    other = create_engine(pg_engine.url)
    with Session() as session, history.context(session, a=1):
        for engine in (pg_engine, other):
            session.execute(
                insert(note).values(body="x"), bind_arguments={"bind": engine}
            )
        session.commit()
    other.dispose()
    assert seen() == [("x", {"a": 1})] * 2


@pytest.mark.parametrize("target", [None, 7, "session", sessionmaker()])
def test_other_targets_are_refused(target: Any) -> None:
    with (
        pytest.raises(ContextError, match="bound to a session or a connection, got"),
        history.context(target, a=1),
    ):
        pass


def test_engine_is_refused_as_a_target(pg_engine: Engine) -> None:
    with pytest.raises(ContextError, match="got Engine"):
        history.context(pg_engine, a=1).__enter__()  # type: ignore[arg-type]


def test_async_connection_that_is_not_open_is_refused(
    pg_async_engine: AsyncEngine,
) -> None:
    with pytest.raises(ContextError):
        history.context(pg_async_engine.connect(), a=1).__enter__()


def test_connection_to_another_database_is_refused() -> None:
    engine = create_engine("sqlite://")
    with (
        engine.connect() as connection,
        pytest.raises(DialectError, match="sqlite"),
        history.context(connection, a=1),
    ):
        pass
    engine.dispose()


def test_other_databases_are_left_alone_in_a_block() -> None:
    engine = create_engine("sqlite://")
    with history.context(a=1), Session(engine) as session:
        assert session.scalar(text("SELECT 1")) == 1
        session.commit()
        with pytest.raises(OperationalError, match="no such table"):
            session.execute(text("SELECT * FROM note"))
    engine.dispose()
