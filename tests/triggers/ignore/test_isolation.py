"""Other sessions, threads and tasks ignore nothing."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine, insert, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session

import sa_history as history

Add = Callable[[Session, str], None]
Seen = Callable[[], list[tuple[str, str]]]


@pytest.fixture
def one_connection(pg_url: URL) -> Iterator[Engine]:
    """An engine whose users have the same connection, one after the other."""
    engine = create_engine(pg_url, pool_size=1, max_overflow=0, pool_timeout=5)
    yield engine
    engine.dispose()


@pytest.mark.parametrize("ending", ["commit", "rollback", "close", "error", "nothing"])
def test_next_user_of_the_connection_ignores_nothing(
    ending: str, one_connection: Engine, note: Any, add: Add, seen: Seen
) -> None:
    first = Session(one_connection)
    block = history.ignore(first, note)
    block.__enter__()
    add(first, "first")
    if ending == "error":
        with pytest.raises(DBAPIError):
            first.execute(text("SELECT 1 / 0"))
    if ending in ("commit", "rollback"):
        getattr(first, ending)()
    else:
        first.close()
    if ending != "nothing":
        block.__exit__(None, None, None)
    with Session(one_connection) as second:
        add(second, "second")
        second.commit()
    with one_connection.begin() as connection:
        connection.exec_driver_sql("INSERT INTO note (body) VALUES ('third')")
    raw = one_connection.raw_connection()
    raw.cursor().execute("INSERT INTO note (body) VALUES ('fourth')")
    raw.commit()
    raw.close()
    rest = [(body, "xy") for body in ("second", "third", "fourth")]
    assert [row for row in seen() if row[0] != "first"] == rest


def test_no_setting_is_left_on_a_connection(
    one_connection: Engine, note: Any, add: Add
) -> None:
    setting = text("SELECT coalesce(current_setting('pghistory.ignore', true), '')")
    with Session(one_connection) as session:
        with history.ignore(session, note, "x"):
            add(session, "a")
            assert session.scalar(setting) == '["note:x"]'
        assert session.scalar(setting) == ""
        with history.ignore(session, note, "x"):
            add(session, "a")
            session.commit()
    with one_connection.connect() as connection:
        driver: Any = connection.connection.driver_connection
        assert driver.execute(setting.text).fetchone() == ("",)


def test_sessions_beside_each_other_ignore_what_they_say_themselves(
    pg_engine: Engine, note: Any, add: Add, seen: Seen
) -> None:
    with Session(pg_engine) as one, Session(pg_engine) as other:
        with history.ignore(one, note, "x"):
            add(one, "one")
            add(other, "other")
            with history.ignore(other, note, "y"):
                add(one, "one, too")
                add(other, "other, too")
        one.commit()
        other.commit()
    assert sorted(seen()) == [
        ("one", "y"),
        ("one, too", "y"),
        ("other", "xy"),
        ("other, too", "x"),
    ]


def test_sessions_that_share_a_connection_one_after_the_other(
    pg_engine: Engine, note: Any, add: Add, seen: Seen
) -> None:
    with pg_engine.begin() as connection:
        first, second = Session(connection), Session(connection)
        with history.ignore(first, note, "x"), history.ignore(second, note, "y"):
            add(first, "first")
            first.commit()
            add(second, "second")
            second.commit()
        first.close()
        second.close()
    assert seen() == [("first", "y"), ("second", "x")]


def work_at_random(session: Session, note: Any, who: str, seed: int) -> None:
    """Write notes in random blocks; each begins with what has to have run for it."""
    luck = random.Random(f"{who} {seed}")

    def block(ignored: frozenset[str], depth: int) -> None:
        for _ in range(luck.randrange(1, 4)):
            kind = luck.randrange(6 if depth < 3 else 2)
            if kind < 2:
                runs = "".join(name for name in "xy" if name not in ignored)
                body = f"{runs} {who} {seed}"
                if kind:
                    session.execute(insert(note).values(body=body))
                else:
                    session.add(note(body))
                    session.flush()
            elif kind < 4:
                names = luck.choice(["x", "y", "xy"])
                with history.ignore(session, note, *names):
                    block(ignored | {*names}, depth + 1)
            else:
                point = session.begin_nested()
                block(ignored, depth + 1)
                if kind == 4:
                    point.rollback()
                else:
                    point.commit()

    block(frozenset(), 0)
    if luck.random() < 0.2:
        session.rollback()
    else:
        session.commit()


def check_that_for_each_note_ran_what_had_to(seen: Seen, least: int) -> None:
    found = seen()
    assert len(found) > least
    for body, marks in found:
        assert body.split(" ")[0] == marks, body


def test_threads_on_a_pool_ignore_what_they_say_themselves(
    pg_url: URL, note: Any, seen: Seen
) -> None:
    engine = create_engine(pg_url, pool_size=4, max_overflow=0)
    start = threading.Barrier(16)

    def work(who: int) -> None:
        start.wait(10)
        for seed in range(6):
            with Session(engine) as session:
                work_at_random(session, note, f"thread {who}", seed)
            with Session(engine) as session:
                with history.ignore(note, "x"):
                    session.add(note("y ambient"))
                    session.commit()
                session.add(note("xy ambient"))
                session.commit()

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(work, range(16)))
    engine.dispose()
    check_that_for_each_note_ran_what_had_to(seen, least=300)


def test_interleaved_tasks_ignore_what_they_say_themselves(
    pg_url: URL, note: Any, seen: Seen
) -> None:
    async def main() -> None:
        engine = create_async_engine(pg_url, pool_size=4, max_overflow=0)
        sessions = async_sessionmaker(engine)

        async def work(who: int) -> None:
            for seed in range(2):
                async with sessions() as session:
                    await session.run_sync(work_at_random, note, f"task {who}", seed)

        await asyncio.gather(*map(work, range(30)))
        await engine.dispose()

    asyncio.run(main())
    check_that_for_each_note_ran_what_had_to(seen, least=60)


def test_tasks_that_wait_inside_of_their_blocks(
    pg_async_engine: AsyncEngine, note: Any, seen: Seen
) -> None:
    async def main() -> None:
        inside = 0
        all_inside = asyncio.Event()

        async def work(name: str) -> None:
            nonlocal inside
            async with (
                AsyncSession(pg_async_engine) as session,
                history.ignore(session, note, *name),
            ):
                inside += 1
                if inside == 4:
                    all_inside.set()
                await all_inside.wait()
                session.add(note(name))
                await session.commit()

        await asyncio.gather(*map(work, ["x", "y", "xy", "yx"]))

    asyncio.run(main())
    assert sorted(seen()) == [("x", "y"), ("xy", ""), ("y", "x"), ("yx", "")]
