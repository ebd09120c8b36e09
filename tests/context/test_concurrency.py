"""Threads, tasks and sessions beside each other: each has its own context."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine, insert
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session

import sa_history as history
from sa_history.contexts.stack import this_thread
from sa_history.exc import ContextError, IgnoreError

Add = Callable[[Session, str], None]
Seen = Callable[[], list[tuple[str, Any]]]


def test_sessions_beside_each_other_have_their_own_contexts(
    pg_engine: Engine, add: Add, seen: Seen
) -> None:
    with Session(pg_engine) as one, Session(pg_engine) as other:
        with history.context(one, user="one"):
            add(one, "one")
            add(other, "other")
            with history.context(other, user="other"):
                add(one, "one")
                add(other, "other")
            add(other, "other, outside")
        other.commit()
        one.commit()
    assert sorted(seen(), key=str) == [
        ("one", {"user": "one"}),
        ("one", {"user": "one"}),
        ("other", None),
        ("other", {"user": "other"}),
        ("other, outside", None),
    ]


def work_at_random(session: Session, note: Any, who: str, seed: int) -> None:
    """Make changes in random blocks; each note says which context it has to have."""
    luck = random.Random(seed)
    step = 0

    def change(keys: dict[str, Any]) -> None:
        nonlocal step
        step += 1
        body = repr((who, seed, step, sorted(keys.items())))
        if luck.random() < 0.5:
            session.execute(insert(note).values(body=body))
        else:
            session.add(note(body))
            session.flush()

    def block(keys: dict[str, Any], depth: int) -> None:
        for _ in range(luck.randrange(1, 4)):
            kind = luck.randrange(6 if depth < 3 else 2)
            if kind < 2:
                change(keys)
            elif kind < 4:
                key = f"key{luck.randrange(4)}"
                value = f"{who} {luck.random()}"
                with history.context(session, **{key: value}):
                    block({**keys, key: value}, depth + 1)
            else:
                savepoint = session.begin_nested()
                block(keys, depth + 1)
                if kind == 4:
                    savepoint.rollback()
                else:
                    savepoint.commit()

    block({}, 0)
    change({})
    if luck.random() < 0.2:
        session.rollback()
    else:
        session.commit()


def check_that_each_note_has_its_own_context(seen: Seen, least: int) -> None:
    found = seen()
    assert len(found) > least
    for body, context in found:
        assert sorted((context or {}).items()) == eval(body)[3], body


def test_threads_on_a_pool_have_their_own_contexts(
    pg_url: URL, note: Any, seen: Seen
) -> None:
    engine = create_engine(pg_url, pool_size=2, max_overflow=0)
    start = threading.Barrier(8)

    def work(who: int) -> None:
        start.wait(10)
        for seed in range(15):
            with Session(engine) as session:
                work_at_random(session, note, f"thread {who}", who * 100 + seed)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    engine.dispose()
    check_that_each_note_has_its_own_context(seen, least=200)


def test_ambient_contexts_of_threads_on_a_pool_stay_in_their_thread(
    pg_url: URL, note: Any, seen: Seen
) -> None:
    engine = create_engine(pg_url, pool_size=2, max_overflow=0)
    start = threading.Barrier(8)

    def work(who: int) -> None:
        start.wait(10)
        for step in range(10):
            keys = {"who": who, "step": step}
            with Session(engine) as session:
                with history.context(**keys):
                    session.add(note(repr((0, 0, 0, sorted(keys.items())))))
                    session.flush()
                    if step % 3:
                        session.commit()
                session.add(note(repr((0, 0, 0, []))))
                session.commit()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    engine.dispose()
    check_that_each_note_has_its_own_context(seen, least=150)


def test_interleaved_tasks_have_their_own_contexts(
    pg_url: URL, note: Any, seen: Seen
) -> None:
    async def main() -> None:
        engine = create_async_engine(pg_url, pool_size=5, max_overflow=0)
        sessions = async_sessionmaker(engine)

        async def work(who: int) -> None:
            for seed in range(2):
                async with sessions() as session:
                    await session.run_sync(
                        work_at_random, note, f"task {who}", who * 100 + seed
                    )

        await asyncio.gather(*map(work, range(50)))
        await engine.dispose()

    asyncio.run(main())
    check_that_each_note_has_its_own_context(seen, least=150)


def test_tasks_that_wait_inside_of_their_blocks_keep_their_contexts(
    pg_async_engine: AsyncEngine, note: Any, seen: Seen
) -> None:
    async def main() -> None:
        inside = 0
        all_inside = asyncio.Event()

        async def work(who: int) -> None:
            nonlocal inside
            async with (
                AsyncSession(pg_async_engine) as session,
                history.context(session, who=who),
            ):
                inside += 1
                if inside == 10:
                    all_inside.set()
                await all_inside.wait()
                session.add(note(str(who)))
                await session.commit()

        await asyncio.gather(*map(work, range(10)))

    asyncio.run(main())
    assert sorted(seen()) == [(str(who), {"who": who}) for who in range(10)]


def test_task_that_rolls_back_waits_until_another_has_sent_the_context(
    pg_async_engine: AsyncEngine, note: Any, seen: Seen
) -> None:
    """One connection of the driver does one thing at a time, whoever asks for it."""
    sql = "INSERT INTO note (body) VALUES (%s)"

    async def main() -> None:
        async with pg_async_engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            with history.context(connection, user=7):
                await driver.execute(sql, ["a"])
                other = asyncio.create_task(driver.rollback())
                await driver.commit()  # and the other waits for it
                await driver.execute(sql, ["b"])
                await other
                await driver.commit()

    asyncio.run(main())
    assert seen() == [("a", {"user": 7}), ("b", {"user": 7})]


@pytest.mark.parametrize(
    ("block", "error"),
    [(history.context(user="ada"), ContextError), (history.ignore("p"), IgnoreError)],
    ids=["context", "ignore"],
)
def test_ambient_block_that_is_left_in_another_thread_is_an_error_and_ends(
    block: Any, error: Any, pg_session: Session, add: Add, seen: Seen
) -> None:
    """As a framework does that runs a generator in threads of a pool."""

    def dependency() -> Iterator[None]:
        with block:
            yield

    generator = dependency()
    next(generator)
    with (
        ThreadPoolExecutor(1) as another,
        pytest.raises(error, match=r"left in another thread .* pass the session: "),
    ):
        another.submit(next, generator, None).result()
    assert not this_thread.stacks
    add(pg_session, "next")
    pg_session.commit()
    assert seen() == [("next", None)]


def test_block_with_a_target_may_be_left_in_another_thread(
    pg_session: Session, add: Add, seen: Seen
) -> None:
    block = history.context(pg_session, user="ada")
    block.__enter__()
    add(pg_session, "a")
    with ThreadPoolExecutor(1) as another:
        another.submit(block.__exit__, None, None, None).result()
    add(pg_session, "b")
    pg_session.commit()
    assert seen() == [("a", {"user": "ada"}), ("b", None)]


def test_threads_do_not_see_the_ambient_context_of_the_one_that_started_them(
    pg_engine: Engine, add: Add, seen: Seen
) -> None:
    def work() -> None:
        with Session(pg_engine) as session:
            add(session, "in a thread")
            session.commit()

    with history.context(a=1):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert seen() == [("in a thread", None)]


# Event loops.


def test_ambient_context_in_a_running_loop_is_refused(
    pg_async_engine: AsyncEngine,
) -> None:
    async def main() -> None:
        with pytest.raises(ContextError, match=r"pass the session: .*\(session, "):
            history.context(user=7).__enter__()

        @history.context(user=7)
        async def decorated() -> None: ...

        with pytest.raises(ContextError, match="pass the session"):
            await decorated()

    asyncio.run(main())


def test_ambient_context_that_was_entered_before_the_loop_holds_in_it(
    pg_async_engine: AsyncEngine, note: Any, seen: Seen
) -> None:
    async def main() -> None:
        async with AsyncSession(pg_async_engine) as session:
            session.add(note("a"))
            await session.flush()
            with history.context(session, user=7):
                session.add(note("b"))
                await session.flush()
            session.add(note("c"))
            await session.commit()

    with history.context(job="nightly"):
        asyncio.run(main())
    job = {"job": "nightly"}
    assert seen() == [("a", job), ("b", {**job, "user": 7}), ("c", job)]


def test_tasks_share_an_ambient_context_without_waiting_for_each_other(
    pg_async_engine: AsyncEngine, note: Any, seen: Seen
) -> None:
    async def main() -> None:
        written = 0
        all_written = asyncio.Event()

        async def work(who: int) -> None:
            nonlocal written
            async with AsyncSession(pg_async_engine) as session:
                session.add(note(str(who)))
                await session.flush()
                written += 1
                if written == 4:
                    all_written.set()
                await all_written.wait()
                await session.commit()

        await asyncio.wait_for(asyncio.gather(*map(work, range(4))), 10)

    with history.context(job="nightly"):
        asyncio.run(main())
    assert sorted(seen()) == [(str(who), {"job": "nightly"}) for who in range(4)]


def test_annotating_an_ambient_context_in_a_running_loop_is_refused() -> None:
    async def main() -> None:
        with pytest.raises(ContextError, match="pass the session"):
            history.annotate(user=7)

    with history.context(job="nightly"):
        asyncio.run(main())
