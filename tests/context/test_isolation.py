"""A context reaches the changes of its own block, and never anybody else's."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    StaticPool,
    create_engine,
    insert,
    text,
)
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session

import sa_history as history
from sa_history.exc import ContextError

Add = Callable[[Session, str], None]
Seen = Callable[[], list[tuple[str, Any]]]
InSession = Callable[[Callable[[Session], Any]], Any]


@pytest.fixture
def one_connection(pg_url: URL) -> Iterator[Engine]:
    """An engine whose users have the same connection, one after the other."""
    engine = create_engine(pg_url, pool_size=1, max_overflow=0, pool_timeout=5)
    yield engine
    engine.dispose()


# Sessions, threads and tasks beside each other.


def test_sessions_beside_each_other(pg_engine: Engine, add: Add, seen: Seen) -> None:
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


def test_threads_on_a_pool(pg_url: URL, note: Any, seen: Seen) -> None:
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


def test_ambient_contexts_of_threads_on_a_pool(
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


def test_interleaved_tasks(pg_url: URL, note: Any, seen: Seen) -> None:
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


def test_tasks_that_wait_inside_of_their_blocks(
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


def test_task_that_rolls_back_waits_until_another_has_told_the_context(
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


# The next user of a connection.


def test_next_transaction_of_the_session_has_none(
    in_session: InSession, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        with history.context(session, user=7):
            add(session, "a")
            session.commit()
        add(session, "b")
        session.commit()

    in_session(work)
    assert seen() == [("a", {"user": 7}), ("b", None)]


@pytest.mark.parametrize("ending", ["commit", "rollback", "close", "error", "nothing"])
def test_next_user_of_the_connection_has_none(
    ending: str, one_connection: Engine, add: Add, seen: Seen
) -> None:
    first = Session(one_connection)
    block = history.context(first, user=7)
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
    rest = [(body, None) for body in ("second", "third", "fourth")]
    assert [row for row in seen() if row[0] != "first"] == rest


def test_raw_connection_does_not_get_the_context_of_its_last_user(
    one_connection: Engine, pg_engine: Engine, add: Add, seen: Seen
) -> None:
    with Session() as session, history.context(session, user=7):
        session.execute(text("SELECT 1"), bind_arguments={"bind": one_connection})
        session.commit()
        # The session goes on elsewhere; the first connection is another's now.
        session.execute(text("SELECT 1"), bind_arguments={"bind": pg_engine})
        raw = one_connection.raw_connection()
        raw.cursor().execute("INSERT INTO note (body) VALUES ('raw')")
        raw.commit()
        raw.close()
    assert seen() == [("raw", None)]


def test_raw_connection_gets_the_ambient_context(
    pg_engine: Engine, note: Any, seen: Seen
) -> None:
    raw = pg_engine.raw_connection()
    with history.context(a=1):
        raw.cursor().execute("INSERT INTO note (body) VALUES ('inside')")
    raw.cursor().execute("INSERT INTO note (body) VALUES ('after')")
    raw.commit()
    raw.close()
    assert seen() == [("inside", {"a": 1}), ("after", None)]


def test_connection_that_is_kept_open_after_its_user_has_closed_it(
    one_connection: Engine, note: Any, seen: Seen
) -> None:
    first = one_connection.connect()
    with history.context(first, user=7):
        first.execute(insert(note).values(body="first"))
        first.commit()
        first.close()
        with one_connection.begin() as second:
            second.execute(insert(note).values(body="second"))
    assert seen() == [("first", {"user": 7}), ("second", None)]


def test_connection_that_is_given_back_while_a_session_on_it_has_not_ended(
    one_connection: Engine, add: Add, note: Any, seen: Seen
) -> None:
    first = one_connection.connect()
    with Session(first) as session, history.context(session, user=7):
        add(session, "lost")
        first.close()
        with one_connection.begin() as second:
            second.execute(insert(note).values(body="second"))
    assert seen() == [("second", None)]


def test_connection_that_is_invalidated_in_a_block(
    one_connection: Engine, note: Any, seen: Seen
) -> None:
    with one_connection.connect() as connection:
        with history.context(connection, user=7):
            connection.execute(insert(note).values(body="lost"))
            connection.invalidate()
            connection.rollback()
            connection.execute(insert(note).values(body="reconnected"))
            connection.commit()
        connection.execute(insert(note).values(body="after"))
        connection.commit()
    with one_connection.begin() as connection:
        connection.execute(insert(note).values(body="next"))
    assert seen() == [("reconnected", {"user": 7}), ("after", None), ("next", None)]


def test_block_of_a_connection_that_was_invalidated_before(
    one_connection: Engine, note: Any, seen: Seen
) -> None:
    with one_connection.connect() as connection:
        connection.execute(insert(note).values(body="lost"))
        connection.invalidate()
        with history.context(connection, user=7):
            connection.rollback()
            connection.execute(insert(note).values(body="reconnected"))
            connection.commit()
    assert seen() == [("reconnected", {"user": 7})]


def test_connection_that_is_invalidated_and_begins_in_two_phases(
    one_connection: Engine, note: Any, seen: Seen
) -> None:
    with one_connection.connect() as connection, history.context(connection, user=7):
        connection.invalidate()
        transaction = connection.begin_twophase()
        connection.execute(insert(note).values(body="reconnected"))
        transaction.commit()
    assert seen() == [("reconnected", {"user": 7})]


def test_block_of_a_connection_that_was_closed_before(
    one_connection: Engine, note: Any, seen: Seen
) -> None:
    with one_connection.connect() as connection:
        connection.close()
        with history.context(connection, user=7), one_connection.begin() as other:
            other.execute(insert(note).values(body="other"))
    assert seen() == [("other", None)]


def test_connection_that_is_detached_and_invalidated_in_a_block(
    one_connection: Engine, note: Any, seen: Seen
) -> None:
    with one_connection.connect() as connection, history.context(connection, user=7):
        connection.detach()
        connection.execute(insert(note).values(body="detached"))
        connection.commit()
        driver: Any = connection.connection.dbapi_connection
        driver.close()  # what is detached no pool closes
        connection.invalidate()
        connection.execute(insert(note).values(body="reconnected"))
        connection.commit()
    assert seen() == [("detached", {"user": 7}), ("reconnected", {"user": 7})]


def test_connections_that_share_one_of_the_database(
    pg_url: URL, note: Any, seen: Seen
) -> None:
    engine = create_engine(pg_url, poolclass=StaticPool)
    with engine.connect() as one, history.context(one, user="one"):
        with engine.begin() as other:
            other.execute(insert(note).values(body="other"))
        one.execute(insert(note).values(body="one"))
        one.commit()
        with engine.begin() as other, history.context(other, user="other"):
            other.execute(insert(note).values(body="other again"))
        one.execute(insert(note).values(body="one again"))
        one.commit()
    engine.dispose()
    assert seen() == [
        ("other", None),
        ("one", {"user": "one"}),
        ("other again", {"user": "other"}),
        ("one again", {"user": "one"}),
    ]


def test_block_that_outlives_its_session(
    one_connection: Engine, add: Add, seen: Seen
) -> None:
    session = Session(one_connection)
    block = history.context(session, user=7)
    block.__enter__()
    add(session, "first")
    session.commit()
    session.close()
    del session
    with Session(one_connection) as session:
        add(session, "second")
        session.commit()
    block.__exit__(None, None, None)
    assert seen() == [("first", {"user": 7}), ("second", None)]


def test_sessions_that_share_a_connection_one_after_the_other(
    pg_engine: Engine, add: Add, seen: Seen
) -> None:
    with pg_engine.begin() as connection:
        first, second = Session(connection), Session(connection)
        with history.context(first, user=1), history.context(second, user=2):
            add(first, "first")
            first.commit()
            add(second, "second")
            second.commit()
        first.close()
        second.close()
    assert seen() == [("first", {"user": 1}), ("second", {"user": 2})]


def test_sessions_that_share_a_transaction_have_the_context_of_the_last(
    pg_engine: Engine, add: Add, seen: Seen
) -> None:
    with pg_engine.begin() as connection:
        first, second = Session(connection), Session(connection)
        with history.context(first, user=1), history.context(second, user=2):
            add(first, "first alone")
            add(second, "second")
            add(first, "first beside the second")
            with first.begin_nested():
                add(first, "first, which has joined again")
            add(second, "second beside the first")
            first.commit()
            add(second, "second alone")
            second.commit()
    one, two = {"user": 1}, {"user": 2}
    assert seen() == [
        ("first alone", one),
        ("second", two),
        ("first beside the second", two),
        ("first, which has joined again", one),
        ("second beside the first", one),
        ("second alone", two),
    ]


def test_session_that_goes_on_elsewhere_has_left_the_connection(
    pg_engine: Engine, note: Any, seen: Seen
) -> None:
    with (
        pg_engine.connect() as one,
        pg_engine.connect() as two,
        Session() as session,
        history.context(session, user=7),
    ):
        session.execute(insert(note).values(body="a"), bind_arguments={"bind": one})
        session.commit()
        session.execute(insert(note).values(body="b"), bind_arguments={"bind": two})
        one.execute(insert(note).values(body="c"))
        one.commit()
        session.commit()
    told = {"user": 7}
    assert sorted(seen()) == [("a", told), ("b", told), ("c", None)]


def test_session_that_is_gone_leaves_its_connection_to_others(
    pg_engine: Engine, note: Any, add: Add, seen: Seen
) -> None:
    with pg_engine.begin() as connection:
        session = Session(connection)
        with history.context(session, user=7):
            add(session, "a")
            session.commit()
        gone = weakref.ref(session)
        del session
        gc.collect()
        assert gone() is None
        connection.execute(insert(note).values(body="b"))
        with Session(connection) as another:
            add(another, "c")
            another.commit()
    assert seen() == [("a", {"user": 7}), ("b", None), ("c", None)]


# After the block, in the same transaction. What fails in a block, and what is taken
# back to a savepoint, takes the context along or leaves it behind.


@pytest.fixture(params=["sqlalchemy", "text"])
def savepoint(request: pytest.FixtureRequest) -> Callable[[Session], Any]:
    """Begin a savepoint, and return what has its rollback() and commit()."""

    class BySql:
        number = 0

        def __init__(self, session: Session) -> None:
            BySql.number += 1
            self.session, self.name = session, f"point{BySql.number}"
            session.execute(text(f"SAVEPOINT {self.name}"))

        def rollback(self) -> None:
            self.session.execute(text(f"ROLLBACK TO SAVEPOINT {self.name}"))

        def commit(self) -> None:
            self.session.execute(text(f"RELEASE SAVEPOINT {self.name}"))

    return BySql if request.param == "text" else lambda session: session.begin_nested()


Savepoint = Callable[[Session], Any]


def test_context_that_was_told_in_a_savepoint_outlives_its_rollback(
    in_session: InSession, savepoint: Savepoint, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        with history.context(session, user=7):
            point = savepoint(session)
            add(session, "lost")
            point.rollback()
            add(session, "kept")
        add(session, "after")
        session.commit()

    in_session(work)
    assert seen() == [("kept", {"user": 7}), ("after", None)]


def test_context_that_was_left_in_a_savepoint_does_not_come_back_with_its_rollback(
    in_session: InSession, savepoint: Savepoint, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        with history.context(session, user=7):
            add(session, "inside")
        point = savepoint(session)
        add(session, "lost")
        point.rollback()
        add(session, "after")
        session.commit()

    in_session(work)
    assert seen() == [("inside", {"user": 7}), ("after", None)]


def test_block_that_begins_before_and_ends_in_a_savepoint(
    in_session: InSession, savepoint: Savepoint, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        with history.context(session, user=7):
            add(session, "inside")
            point = savepoint(session)
            add(session, "lost")
        point.rollback()
        add(session, "after")
        with history.context(session, user=8):
            point = savepoint(session)
            add(session, "inside the second")
        point.commit()
        add(session, "after the second")
        session.commit()

    in_session(work)
    assert seen() == [
        ("inside", {"user": 7}),
        ("after", None),
        ("inside the second", {"user": 8}),
        ("after the second", None),
    ]


def test_rollback_to_an_outer_savepoint(
    in_session: InSession, savepoint: Savepoint, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        with history.context(session, a=1):
            outer = savepoint(session)
            add(session, "lost")
            with history.context(session, b=2):
                inner = savepoint(session)
                add(session, "lost")
                inner.commit()
                outer.rollback()
                add(session, "inner")
            add(session, "outer")
        add(session, "after")
        session.commit()

    in_session(work)
    assert seen() == [("inner", {"a": 1, "b": 2}), ("outer", {"a": 1}), ("after", None)]


def test_error_that_is_rolled_back_to_a_savepoint(
    in_session: InSession, savepoint: Savepoint, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        with history.context(session, a=1):
            add(session, "first")
            point = savepoint(session)
            with history.context(session, b=2):
                add(session, "lost")
                with pytest.raises(IntegrityError):
                    session.execute(text("INSERT INTO note (body) VALUES (NULL)"))
            point.rollback()
            add(session, "outer")
        point = savepoint(session)
        with pytest.raises(IntegrityError), history.context(session, c=3):
            session.execute(text("INSERT INTO note (body) VALUES (NULL)"))
        point.rollback()
        add(session, "after")
        session.commit()

    in_session(work)
    assert seen() == [("first", {"a": 1}), ("outer", {"a": 1}), ("after", None)]


def test_commit_of_what_has_failed_rolls_back_as_ever(
    in_session: InSession, note: Any, seen: Seen
) -> None:
    def work(session: Session) -> None:
        connection = session.connection()
        with history.context(connection, user=7):
            connection.execute(insert(note).values(body="lost"))
            with pytest.raises(IntegrityError):
                connection.execute(text("INSERT INTO note (body) VALUES (NULL)"))
        session.commit()
        session.execute(insert(note).values(body="after"))
        session.commit()

    in_session(work)
    assert seen() == [("after", None)]


def test_first_statement_of_a_block_fails_in_the_driver(
    in_session: InSession, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        add(session, "before")
        with history.context(session, user=7), pytest.raises(ProgrammingError):
            # The driver refuses it, so the transaction goes on.
            session.execute(text("SELECT :x"), {"x": object()})
        add(session, "after")
        session.commit()

    in_session(work)
    assert seen() == [("before", None), ("after", None)]


def test_script_that_rolls_back_to_a_savepoint(
    pg_session: Session, add: Add, seen: Seen
) -> None:
    pg_session.execute(text("SAVEPOINT point"))
    with history.context(pg_session, user=7):
        add(pg_session, "lost")
        connection = pg_session.connection()
        connection.exec_driver_sql("SELECT 1; ROLLBACK TO SAVEPOINT point")
        add(pg_session, "kept")
    pg_session.commit()
    assert seen() == [("kept", {"user": 7})]


@pytest.mark.parametrize("ending", ["COMMIT AND CHAIN", "COMMIT; BEGIN"])
def test_transaction_that_is_ended_and_begun_by_sql(
    ending: str, pg_session: Session, add: Add, seen: Seen
) -> None:
    with history.context(pg_session, user=7):
        add(pg_session, "a")
        pg_session.connection().exec_driver_sql(ending)
        add(pg_session, "b")
        pg_session.commit()
    assert seen() == [("a", {"user": 7}), ("b", {"user": 7})]


def test_rollback_and_chain(pg_session: Session, add: Add, seen: Seen) -> None:
    with history.context(pg_session, user=7):
        add(pg_session, "lost")
        pg_session.connection().exec_driver_sql("ROLLBACK AND CHAIN")
        add(pg_session, "b")
        pg_session.commit()
    assert seen() == [("b", {"user": 7})]


def raw(session: Session) -> Any:
    """The driver's own connection."""
    return session.connection().connection.driver_connection


def test_savepoints_of_the_driver(pg_session: Session, add: Add, seen: Seen) -> None:
    def fail() -> None:
        with raw(pg_session).transaction():
            add(pg_session, "lost")
            raise KeyError

    add(pg_session, "before")
    with history.context(pg_session, user=7):
        with pytest.raises(KeyError):
            fail()
        add(pg_session, "kept")
        with raw(pg_session).transaction():
            add(pg_session, "kept too")
        with raw(pg_session).transaction() as transaction:
            add(pg_session, "lost")
            raise psycopg.Rollback(transaction)
    with pytest.raises(KeyError):
        fail()
    add(pg_session, "after")
    pg_session.commit()
    assert seen() == [
        ("before", None),
        ("kept", {"user": 7}),
        ("kept too", {"user": 7}),
        ("after", None),
    ]


def test_savepoints_of_the_async_driver(
    pg_async_engine: AsyncEngine, note: Any, seen: Seen
) -> None:
    async def main() -> None:
        async with AsyncSession(pg_async_engine) as session:
            fairy = await (await session.connection()).get_raw_connection()
            driver: Any = fairy.driver_connection
            session.add(note("before"))
            await session.flush()
            with history.context(session, user=7):
                async with driver.transaction() as transaction:
                    session.add(note("lost"))
                    await session.flush()
                    raise psycopg.Rollback(transaction)
                session.add(note("kept"))
                await session.flush()
            async with driver.transaction() as transaction:
                session.add(note("lost"))
                await session.flush()
                raise psycopg.Rollback(transaction)
            async with driver.transaction():
                session.add(note("after"))
                await session.flush()
            await session.commit()

    asyncio.run(main())
    assert seen() == [("before", None), ("kept", {"user": 7}), ("after", None)]


def test_transactions_of_the_driver(
    pg_url: URL, pg_async_engine: AsyncEngine, note: Any, seen: Seen
) -> None:
    sql = "INSERT INTO note (body) VALUES (%s)"
    engine = create_engine(pg_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection, history.context(user=7):
        driver: Any = connection.connection.driver_connection
        for body in "ab":
            with driver.transaction():
                driver.execute(sql, [body])
    engine.dispose()

    async def main() -> None:
        connection = await pg_async_engine.connect()
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        driver: Any = (await connection.get_raw_connection()).driver_connection
        with history.context(connection, user=8):
            for body in "ab":
                async with driver.transaction():
                    await driver.execute(sql, [body])
        await connection.close()

    asyncio.run(main())
    expected = [(body, {"user": user}) for user in (7, 8) for body in "ab"]
    assert seen() == expected


def test_pipeline_of_the_driver(pg_session: Session, note: Any, seen: Seen) -> None:
    driver = raw(pg_session)

    def insert_note(body: str) -> None:
        driver.execute("INSERT INTO note (body) VALUES (%s)", [body])

    with driver.pipeline():
        with history.context(pg_session, user=7):
            insert_note("a")
            insert_note("b")
        insert_note("c")
        driver.execute("SAVEPOINT point")
        with history.context(pg_session, user=8):
            insert_note("lost")
            driver.execute("ROLLBACK TO SAVEPOINT point")
            insert_note("d")
        insert_note("e")
    pg_session.commit()
    assert seen() == [
        ("a", {"user": 7}),
        ("b", {"user": 7}),
        ("c", None),
        ("d", {"user": 8}),
        ("e", None),
    ]


def test_error_of_the_driver_leaves_the_pipeline_of_the_application(
    in_session: InSession, note: Any, seen: Seen
) -> None:
    sql = "INSERT INTO note (body) VALUES (%s)"

    def work(session: Session) -> None:
        driver = raw(session)
        refused = pytest.raises(psycopg.ProgrammingError, match="cannot adapt")
        with driver.pipeline(), history.context(session, user=7):
            with refused, history.context(session, lost=1):
                driver.execute(sql, [object()])
            driver.execute(sql, ["a"])
            with refused, history.context(session, lost=2):
                driver.cursor().executemany(sql, [[object()]])
            driver.execute(sql, ["b"])

    async def work_async(session: Session, driver: Any) -> None:
        refused = pytest.raises(psycopg.ProgrammingError, match="cannot adapt")
        async with driver.pipeline():
            with history.context(session, user=7):
                with refused, history.context(session, lost=1):
                    await driver.execute(sql, [object()])
                await driver.execute(sql, ["a"])
                with refused, history.context(session, lost=2):
                    await driver.cursor().executemany(sql, [[object()]])
                await driver.execute(sql, ["b"])

    def either(session: Session) -> None:
        if isinstance(raw(session), psycopg.Connection):
            work(session)
        else:
            dbapi: Any = session.connection().connection.dbapi_connection
            dbapi.run_async(lambda driver: work_async(session, driver))
        session.commit()

    in_session(either)
    assert seen() == [("a", {"user": 7}), ("b", {"user": 7})]


def test_two_engines_on_one_connection_of_the_driver(
    pg_engine: Engine, note: Any, seen: Seen
) -> None:
    shared = pg_engine.raw_connection().driver_connection
    engines = [create_engine(pg_engine.url, creator=lambda: shared) for _ in range(2)]
    for number, engine in enumerate(engines):
        with engine.begin() as connection, history.context(connection, user=number):
            connection.execute(insert(note).values(body=str(number)))
    with engines[0].begin() as connection:
        connection.execute(insert(note).values(body="none"))
    assert seen() == [("0", {"user": 0}), ("1", {"user": 1}), ("none", None)]


def test_connection_whose_info_is_cleared(
    one_connection: Engine, note: Any, seen: Seen
) -> None:
    for user in (7, 8):
        with one_connection.connect() as connection:
            with history.context(connection, user=user):
                connection.execute(insert(note).values(body=str(user)))
            connection.commit()
            connection.info.clear()
    assert seen() == [("7", {"user": 7}), ("8", {"user": 8})]


def test_contexts_are_those_of_their_transaction_at_the_server(
    one_connection: Engine, add: Add
) -> None:
    """No setting is left on a connection, whoever asks the server for it."""

    def settings(connection: Connection) -> Counter[str]:
        rows = connection.exec_driver_sql(
            "SELECT current_setting('pghistory.context_' || name, true)"
            " FROM unnest(ARRAY['id', 'metadata', 'parent_id', 'stored']) AS name"
        )
        return Counter(value or "" for value in rows.scalars())

    with Session(one_connection) as session:
        with history.context(session, user=7):
            add(session, "a")
            assert '{"user": 7}' in settings(session.connection())
            session.commit()
        assert settings(session.connection()) == {"": 4}
