"""Ignoring triggers: what does not run, and where it runs again."""

from __future__ import annotations

import asyncio
import functools
import inspect
import random
import tempfile
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from sqlalchemy import (
    URL,
    Column,
    Connection,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    NullPool,
    Table,
    Text,
    create_engine,
    delete,
    event,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)
from sqlalchemy.schema import CreateSchema
from sqlalchemy.util import await_only

import sa_history as history
from sa_history import (
    Delete,
    Insert,
    Protect,
    Trigger,
    Truncate,
    Update,
    attach,
    new,
    track,
)
from sa_history.exc import AppendOnlyError, DialectError, IgnoreError, ProtectedError

Add = Callable[[Session, str], None]
Seen = Callable[[], list[tuple[str, str]]]
InSession = Callable[[Callable[[Session], Any]], Any]
InConnection = Callable[[Callable[[Connection], Any]], Any]
Recorded = Callable[..., list[tuple[Any, ...]]]


def mark(name: str, **options: Any) -> Trigger:
    """Return a trigger that leaves its name in the row."""
    body = f"NEW.marks := concat(NEW.marks, '{name}'); RETURN NEW;"
    return Trigger(name, "before", Insert, body=body, **options)


@pytest.fixture
def note(base: type[DeclarativeBase], create_all: Callable[[], None]) -> Any:
    """A model whose rows say which of the triggers "x" and "y" ran."""

    @attach(mark("x"), mark("y"))
    class Note(base):  # type: ignore[misc, valid-type]
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        marks: Mapped[str] = mapped_column(server_default="")

        def __init__(self, body: str) -> None:
            self.body = body

    create_all()
    return Note


@pytest.fixture
def add(note: Any) -> Add:
    """Write a note through a session."""

    def write(session: Session, body: str) -> None:
        session.add(note(body))
        session.flush()

    return write


@pytest.fixture
def seen(note: Any, pg_engine: Engine) -> Seen:
    """Return the body of each committed note, and which triggers ran for it."""

    def read() -> list[tuple[str, str]]:
        with pg_engine.connect() as connection:
            rows = select(note.body, note.marks).order_by(note.id)
            return [tuple(row) for row in connection.execute(rows)]

    return read


@pytest.fixture(params=["sync", "async"])
def in_session(
    request: pytest.FixtureRequest, pg_engine: Engine, pg_async_engine: AsyncEngine
) -> InSession:
    """Run a function with a session: of the sync driver, or of the async one."""

    def run_sync(function: Callable[[Session], Any]) -> Any:
        with Session(pg_engine) as session:
            return function(session)

    def run_async(function: Callable[[Session], Any]) -> Any:
        async def main() -> Any:
            async with AsyncSession(pg_async_engine) as session:
                return await session.run_sync(function)

        return asyncio.run(main())

    return run_sync if request.param == "sync" else run_async


@pytest.fixture(params=["psycopg2", "asyncpg"])
def in_other_session(request: pytest.FixtureRequest, pg_url: URL) -> InSession:
    """Run a function with a session of another driver than psycopg."""
    url = pg_url.set(drivername=f"postgresql+{request.param}")

    def run_sync(function: Callable[[Session], Any]) -> Any:
        with Session(create_engine(url, poolclass=NullPool)) as session:
            return function(session)

    def run_async(function: Callable[[Session], Any]) -> Any:
        async def main() -> Any:
            engine = create_async_engine(url, poolclass=NullPool)
            async with AsyncSession(engine) as session:
                return await session.run_sync(function)

        return asyncio.run(main())

    return run_sync if request.param == "psycopg2" else run_async


@pytest.fixture(params=["sync", "async"])
def in_autocommit(request: pytest.FixtureRequest, pg_url: URL) -> InConnection:
    """Run a function with a connection in AUTOCOMMIT."""
    options: Any = {"isolation_level": "AUTOCOMMIT", "poolclass": NullPool}

    def run_sync(function: Callable[[Connection], Any]) -> Any:
        with create_engine(pg_url, **options).connect() as connection:
            return function(connection)

    def run_async(function: Callable[[Connection], Any]) -> Any:
        async def main() -> Any:
            async with create_async_engine(pg_url, **options).connect() as connection:
                return await connection.run_sync(function)

        return asyncio.run(main())

    return run_sync if request.param == "sync" else run_async


@pytest.fixture
def one_connection(pg_url: URL) -> Iterator[Engine]:
    """An engine whose users have the same connection, one after the other."""
    engine = create_engine(pg_url, pool_size=1, max_overflow=0, pool_timeout=5)
    yield engine
    engine.dispose()


def driver_of(session: Session) -> Any:
    """The driver's own connection."""
    return session.connection().connection.driver_connection


# Exactly within the block.


def test_trigger_does_not_run_in_the_block_and_runs_again_after_it(
    in_session: InSession, note: Any, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        add(session, "before")
        with history.ignore(session, note, "x"):
            add(session, "inside")
            add(session, "inside again")
        add(session, "after")
        session.commit()
        add(session, "next transaction")
        session.commit()

    in_session(work)
    assert seen() == [
        ("before", "xy"),
        ("inside", "y"),
        ("inside again", "y"),
        ("after", "xy"),
        ("next transaction", "xy"),
    ]


def test_blocks_inside_of_one_another_add_up(
    in_session: InSession, note: Any, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        with history.ignore(session, note, "x"):
            with history.ignore(session, note, "y"):
                add(session, "both")
                with history.ignore(session, note, "x"):
                    add(session, "twice")
                add(session, "both again")
            add(session, "one")
        add(session, "none")
        session.commit()

    in_session(work)
    assert seen() == [
        ("both", ""),
        ("twice", ""),
        ("both again", ""),
        ("one", "y"),
        ("none", "xy"),
    ]


def test_blocks_may_end_in_any_order(
    pg_session: Session, note: Any, add: Add, seen: Seen
) -> None:
    blocks = [
        history.ignore(pg_session, note, name) for name in ("x", "y", "x", "y", "x")
    ]
    for block in blocks:
        block.__enter__()
    for number, block in enumerate(blocks):
        add(pg_session, str(number))
        block.__exit__(None, None, None)
    add(pg_session, "after")
    pg_session.commit()
    assert seen() == [
        *[("0", ""), ("1", ""), ("2", ""), ("3", "")],
        *[("4", "y"), ("after", "xy")],
    ]


def test_blocks_of_the_thread_the_connection_and_the_session_add_up(
    pg_session: Session, note: Any, add: Add, seen: Seen
) -> None:
    connection = pg_session.connection()
    with history.ignore(connection, note, "x"):
        add(pg_session, "connection")
        with history.ignore("y"):
            add(pg_session, "thread")
        with history.ignore(pg_session, note, "y"):
            add(pg_session, "session")
    pg_session.commit()
    assert seen() == [("connection", "y"), ("thread", ""), ("session", "")]


def test_exception_that_leaves_the_block_ends_it(
    in_session: InSession, note: Any, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        def fail() -> None:
            with history.ignore(session, note, "x"):
                add(session, "inside")
                raise KeyError

        with pytest.raises(KeyError):
            fail()
        add(session, "after")
        session.commit()

    in_session(work)
    assert seen() == [("inside", "y"), ("after", "xy")]


def test_what_counts_is_when_the_statement_is_executed(
    pg_session: Session, note: Any, seen: Seen
) -> None:
    with history.ignore(pg_session, note):
        pg_session.add(note("flushed later"))
    pg_session.commit()
    pg_session.add(note("flushed inside"))
    with history.ignore(pg_session, note):
        pg_session.commit()
    assert seen() == [("flushed later", "xy"), ("flushed inside", "")]


def test_block_can_be_entered_again_once_it_is_left(
    pg_session: Session, note: Any, add: Add, seen: Seen
) -> None:
    block = history.ignore(pg_session, note, "x")
    for body in "ab":
        with block:
            add(pg_session, body)
            with pytest.raises(IgnoreError, match="this block is entered already"):
                block.__enter__()
        add(pg_session, "between")
    pg_session.commit()
    assert seen() == [("a", "y"), ("between", "xy"), ("b", "y"), ("between", "xy")]


def test_transactions_that_end_in_the_block(
    in_session: InSession, note: Any, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        with history.ignore(session, note, "x"):
            add(session, "a")
            session.commit()
            add(session, "b")
            session.commit()
            add(session, "lost")
            session.rollback()
            add(session, "c")
            session.commit()
            session.execute(text("SELECT 1"))
        add(session, "after")
        session.commit()

    in_session(work)
    assert seen() == [("a", "y"), ("b", "y"), ("c", "y"), ("after", "xy")]


@pytest.mark.parametrize("where", ["enters", "leaves", "both"])
def test_block_in_a_failed_transaction(
    where: str, in_session: InSession, note: Any, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        block = history.ignore(session, note, "x")
        if where == "leaves":
            block.__enter__()
            add(session, "lost")
        with pytest.raises(IntegrityError):
            session.execute(text("INSERT INTO note (body) VALUES (NULL)"))
        if where != "leaves":
            block.__enter__()
        with pytest.raises(DBAPIError, match="aborted"):
            session.execute(text("SELECT 1"))
        if where != "enters":
            block.__exit__(None, None, None)
        session.rollback()
        add(session, "next")
        if where == "enters":
            block.__exit__(None, None, None)
        add(session, "after")
        session.commit()

    in_session(work)
    assert seen() == [("next", "y" if where == "enters" else "xy"), ("after", "xy")]


def by_sqlalchemy(session: Session) -> tuple[Callable[[], Any], Callable[[], Any]]:
    point = session.begin_nested()
    return point.rollback, point.commit


def by_text(session: Session) -> tuple[Callable[[], Any], Callable[[], Any]]:
    session.execute(text("SAVEPOINT point"))
    return (
        lambda: session.execute(text("ROLLBACK TO SAVEPOINT point")),
        lambda: session.execute(text("RELEASE SAVEPOINT point")),
    )


@pytest.fixture(params=[by_sqlalchemy, by_text])
def savepoint(request: pytest.FixtureRequest) -> Any:
    """Begin a savepoint, and return what goes back to it and what releases it."""
    return request.param


def work_around_savepoints(
    session: Session, savepoint: Any, note: Any, add: Add
) -> None:
    """Write notes whose body is what has to have run for them."""
    with history.ignore(session, note, "x"):
        go_back, _ = savepoint(session)
        add(session, "lost")
        go_back()
        add(session, "y")
    go_back, _ = savepoint(session)
    with history.ignore(session, note, "y"):
        add(session, "lost")
        go_back()
        add(session, "x")
    add(session, "xy")
    _, release = savepoint(session)
    with history.ignore(session, note):
        add(session, "")
        release()
        add(session, "")
    go_back, _ = savepoint(session)
    with history.ignore(session, note, "x"), pytest.raises(IntegrityError):
        session.execute(text("INSERT INTO note (body) VALUES (NULL)"))
    go_back()
    add(session, "xy")
    with history.ignore(session, note, "x"):
        add(session, "y")
        go_back, _ = savepoint(session)
    add(session, "lost")
    go_back()
    add(session, "xy")
    with history.ignore(session, note, "x"):
        go_back, _ = savepoint(session)
        with history.ignore(session, note, "y"):
            add(session, "lost")
            go_back()
            add(session, "")
        add(session, "y")
    add(session, "xy")
    session.commit()


def test_savepoints(
    in_session: InSession, savepoint: Any, note: Any, add: Add, seen: Seen
) -> None:
    in_session(lambda session: work_around_savepoints(session, savepoint, note, add))
    found = seen()
    assert len(found) == 11
    assert [body for body, _ in found] == [marks for _, marks in found]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1; ROLLBACK TO SAVEPOINT point",
        "ROLLBACK TO SAVEPOINT point",
        "COMMIT AND CHAIN",
        "ROLLBACK AND CHAIN",
        "COMMIT; BEGIN",
        "COMMIT",
        "ROLLBACK",
        "RESET ALL",
        "RESET pghistory.ignore",
        "SELECT 1; RESET ALL",
    ],
)
def test_sql_that_takes_the_setting_back(
    statement: str, in_session: InSession, note: Any, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        session.execute(text("SAVEPOINT point"))
        with history.ignore(session, note, "x"):
            add(session, "first")
            session.connection().exec_driver_sql(statement)
            add(session, "second")
        session.connection().exec_driver_sql("SAVEPOINT point")
        add(session, "after")
        session.connection().exec_driver_sql(statement)
        add(session, "last")
        session.commit()

    in_session(work)
    found = dict(seen())
    found.pop("first", None)
    found.pop("after", None)
    assert found.pop("second", "y") == "y"
    assert found == {"last": "xy"}


def test_savepoints_and_transactions_of_the_driver(
    pg_session: Session, note: Any, add: Add, seen: Seen
) -> None:
    with history.ignore(pg_session, note, "x"):
        with driver_of(pg_session).transaction() as transaction:
            add(pg_session, "lost")
            raise psycopg.Rollback(transaction)
        add(pg_session, "a")
        with driver_of(pg_session).transaction():
            add(pg_session, "b")
    with driver_of(pg_session).transaction() as transaction:
        add(pg_session, "lost")
        raise psycopg.Rollback(transaction)
    add(pg_session, "c")
    pg_session.commit()
    assert seen() == [("a", "y"), ("b", "y"), ("c", "xy")]


def test_transactions_of_the_driver_in_autocommit(
    in_autocommit: InConnection, note: Any, seen: Seen
) -> None:
    def work(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        if isinstance(driver, psycopg.AsyncConnection):
            return work_async(connection)
        with history.ignore(connection, note, "x"):
            for body in "ab":
                with driver.transaction():
                    driver.execute("INSERT INTO note (body) VALUES (%s)", [body])
        driver.execute("INSERT INTO note (body) VALUES ('c')")

    def work_async(connection: Connection) -> None:
        dbapi: Any = connection.connection.dbapi_connection

        async def write() -> None:
            driver = dbapi.driver_connection
            with history.ignore(connection, note, "x"):
                for body in "ab":
                    async with driver.transaction():
                        await driver.execute(
                            "INSERT INTO note (body) VALUES (%s)", [body]
                        )
            await driver.execute("INSERT INTO note (body) VALUES ('c')")

        dbapi.run_async(lambda _: write())

    in_autocommit(work)
    assert seen() == [("a", "y"), ("b", "y"), ("c", "xy")]


def test_transaction_that_the_driver_began(
    pg_engine: Engine, note: Any, seen: Seen
) -> None:
    """Before SQLAlchemy has executed anything on the connection."""
    for bound in (True, False):
        with pg_engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            with history.ignore(*([connection] if bound else []), note, "x"):
                driver.execute("INSERT INTO note (body) VALUES ('a')")
                with driver.cursor().copy("COPY note (body) FROM STDIN") as copy:
                    copy.write("b\n")
            connection.execute(insert(note).values(body="c"))
            with history.ignore(connection, note, "y"):
                connection.execute(insert(note).values(body="d"))
            connection.commit()
    assert seen() == [("a", "y"), ("b", "y"), ("c", "xy"), ("d", "x")] * 2


def test_session_on_two_engines_ignores_on_both(
    pg_engine: Engine, note: Any, seen: Seen
) -> None:
    other = create_engine(pg_engine.url, poolclass=NullPool)
    with Session() as session, history.ignore(session, note, "x"):
        for engine in (pg_engine, other):
            bind = {"bind": engine}
            session.execute(insert(note).values(body="a"), bind_arguments=bind)
        session.commit()
    assert seen() == [("a", "y")] * 2


def test_pipeline_of_the_driver(pg_session: Session, note: Any, seen: Seen) -> None:
    driver = driver_of(pg_session)

    def insert_note(body: str) -> None:
        driver.execute("INSERT INTO note (body) VALUES (%s)", [body])

    with driver.pipeline():
        insert_note("a")
        with history.ignore(pg_session, note, "x"):
            insert_note("b")
            insert_note("c")
            with history.ignore(pg_session, note, "y"):
                insert_note("d")
        insert_note("e")
        driver.execute("SAVEPOINT point")
        with history.ignore(pg_session, note, "x"):
            insert_note("lost")
            driver.execute("ROLLBACK TO SAVEPOINT point")
            insert_note("f")
        insert_note("g")
    pg_session.commit()
    assert seen() == [
        *[("a", "xy"), ("b", "y"), ("c", "y"), ("d", "")],
        *[("e", "xy"), ("f", "y"), ("g", "xy")],
    ]


def test_two_phase_commit(
    pg_engine: Engine, pg_async_engine: AsyncEngine, note: Any, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        with history.ignore(session, note, "x"):
            add(session, "a")
            session.prepare()
            session.commit()
            add(session, "b")
        add(session, "c")
        session.prepare()
        session.commit()

    with Session(pg_engine, twophase=True) as session:
        work(session)

    async def main() -> None:
        async with AsyncSession(pg_async_engine, twophase=True) as session:
            await session.run_sync(work)

    asyncio.run(main())
    assert seen() == [("a", "y"), ("b", "y"), ("c", "xy")] * 2


# Deferred triggers.


@pytest.fixture
def copied(
    base: type[DeclarativeBase], create_all: Callable[[], None], level: str
) -> Any:
    """A model whose rows are copied, when they are committed, into another.

    Both have what notes that the trigger ran: the other is tracked.
    """

    @track(level=level)
    class Copy(base):  # type: ignore[misc, valid-type]
        __tablename__ = "copy"
        id: Mapped[int] = mapped_column(primary_key=True)

    @attach(
        Trigger(
            "copy",
            "after",
            Insert,
            body="INSERT INTO copy VALUES (NEW.id); RETURN NULL;",
            deferrable="deferred",
        )
    )
    class Original(base):  # type: ignore[misc, valid-type]
        __tablename__ = "original"
        id: Mapped[int] = mapped_column(primary_key=True)

    Original.copy = Copy
    create_all()
    return Original


def test_deferred_trigger_is_ignored_when_its_statement_is(
    copied: Any, in_session: InSession, pg_engine: Engine
) -> None:
    def work(session: Session) -> None:
        session.execute(insert(copied).values(id=1))
        with history.ignore(session, copied, "copy"):
            session.execute(insert(copied).values(id=2))
        session.execute(insert(copied).values(id=3))
        with history.ignore(session, copied, "copy"):
            session.commit()

    in_session(work)
    with Session(pg_engine) as session:
        assert session.scalars(select(copied.copy.id)).all() == [1, 3]


@pytest.fixture
def copies(copied: Any, pg_engine: Engine, recorded: Recorded) -> Callable[[], Any]:
    """Return the keys of the copies that are committed, and of those with an event."""

    def read() -> tuple[list[int], list[int]]:
        with Session(pg_engine) as session:
            keys = list(session.scalars(select(copied.copy.id).order_by("id")))
        return keys, [event[2] for event in recorded(copied.copy, "id")]

    return read


def enter_and_leave_a_savepoint_of_the_driver(session: Session) -> None:
    async def savepoint_async(driver: Any) -> None:
        async with driver.transaction():
            pass

    dbapi: Any = session.connection().connection.dbapi_connection
    if isinstance(dbapi, psycopg.Connection):
        with dbapi.transaction():
            pass
    else:
        dbapi.run_async(savepoint_async)


@pytest.mark.parametrize(
    "ending",
    ["COMMIT", "commit", "savepoint, commit", "SET CONSTRAINTS ALL IMMEDIATE"],
)
def test_what_a_deferred_trigger_writes_is_ignored_when_it_is_written(
    ending: str,
    copied: Any,
    in_session: InSession,
    copies: Callable[[], Any],
) -> None:
    def work(session: Session) -> None:
        def end() -> None:
            if ending.endswith("commit"):
                session.commit()
            else:
                session.execute(text(ending))

        with history.ignore(session, copied.copy):
            session.execute(insert(copied).values(id=1))
        end()
        session.commit()
        session.execute(insert(copied).values(id=2))
        if ending.startswith("savepoint"):
            enter_and_leave_a_savepoint_of_the_driver(session)
        with history.ignore(session, copied.copy):
            end()
        session.commit()

    in_session(work)
    assert copies() == ([1, 2], [1])


def test_other_drivers_ignore_what_a_deferred_trigger_writes_when_it_is_written(
    copied: Any, in_other_session: InSession, copies: Callable[[], Any]
) -> None:
    def work(session: Session) -> None:
        with history.ignore(session, copied.copy):
            session.execute(insert(copied).values(id=1))
        session.commit()
        session.execute(insert(copied).values(id=2))
        with history.ignore(session, copied.copy):
            session.commit()

    in_other_session(work)
    assert copies() == ([1, 2], [1])


@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async", "psycopg2"])
@pytest.mark.parametrize("prepares", [True, False])
def test_what_a_deferred_trigger_writes_in_a_two_phase_commit(
    prepares: bool, driver: str, copied: Any, pg_url: URL, copies: Callable[[], Any]
) -> None:
    def work(connection: Connection) -> None:
        transaction = connection.begin_twophase()
        with history.ignore(connection, copied.copy):
            connection.execute(insert(copied).values(id=1))
        if prepares:
            transaction.prepare()
        transaction.commit()
        transaction = connection.begin_twophase()
        connection.execute(insert(copied).values(id=2))
        with history.ignore(connection, copied.copy):
            if prepares:
                transaction.prepare()
            transaction.commit()

    async def main() -> None:
        engine = create_async_engine(url, poolclass=NullPool)
        async with engine.connect() as connection:
            await connection.run_sync(work)

    url = pg_url.set(drivername=f"postgresql+{driver}")
    if driver == "psycopg_async":
        asyncio.run(main())
    else:
        with create_engine(url, poolclass=NullPool).connect() as connection:
            work(connection)
    assert copies() == ([1, 2], [1])


def test_what_a_deferred_trigger_writes_in_a_transaction_of_the_driver(
    copied: Any, in_autocommit: InConnection, copies: Callable[[], Any]
) -> None:
    async def work_async(connection: Connection, driver: Any) -> None:
        async with driver.transaction():
            with history.ignore(connection, copied.copy):
                await driver.execute("INSERT INTO original VALUES (1)")
        with history.ignore(connection, copied.copy):
            async with driver.transaction():
                await driver.execute("INSERT INTO original VALUES (2)")

    def work(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        if isinstance(driver, psycopg.AsyncConnection):
            dbapi: Any = connection.connection.dbapi_connection
            dbapi.run_async(lambda driver: work_async(connection, driver))
            return
        with driver.transaction(), history.ignore(connection, copied.copy):
            driver.execute("INSERT INTO original VALUES (1)")
        with history.ignore(connection, copied.copy), driver.transaction():
            driver.execute("INSERT INTO original VALUES (2)")

    in_autocommit(work)
    assert copies() == ([1, 2], [1])


def test_what_a_deferred_trigger_writes_at_the_end_of_a_pipeline(
    copied: Any, in_session: InSession, copies: Callable[[], Any]
) -> None:
    async def work_async(session: Session, driver: Any) -> None:
        async with driver.pipeline():
            with history.ignore(session, copied.copy):
                await driver.execute("INSERT INTO original VALUES (1)")
            await driver.commit()

    def work(session: Session) -> None:
        driver = driver_of(session)
        if isinstance(driver, psycopg.AsyncConnection):
            dbapi: Any = session.connection().connection.dbapi_connection
            dbapi.run_async(lambda driver: work_async(session, driver))
            return
        with driver.pipeline():
            with history.ignore(session, copied.copy):
                driver.execute("INSERT INTO original VALUES (1)")
            driver.commit()

    in_session(work)
    assert copies() == ([1], [1])


def test_commit_after_a_block_fails_as_any_other(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
) -> None:
    pair = Table(
        "pair",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("other", ForeignKey("pair.id", deferrable=True, initially="DEFERRED")),
        Column("marks", Text),
    )
    attach(mark("x"))(pair)
    create_all()

    def work(session: Session) -> None:
        with history.ignore(session, pair):
            session.execute(insert(pair).values(id=1, other=2))
        with pytest.raises(IntegrityError, match="pair_other_fkey"):
            session.commit()
        session.rollback()
        with history.ignore(session, pair):
            session.execute(insert(pair).values(id=1, other=1))
        session.commit()
        session.execute(insert(pair).values(id=2, other=1))
        session.commit()
        marks = session.scalars(select(pair.c.marks).order_by(pair.c.id))
        assert marks.all() == [None, "x"]

    in_session(work)


def test_commit_is_refused_in_a_transaction_of_the_driver_as_ever(
    in_session: InSession, note: Any, seen: Seen
) -> None:
    sql = "INSERT INTO note (body) VALUES (%s)"
    refused = pytest.raises(psycopg.ProgrammingError, match="Explicit commit")

    async def work_async(session: Session, driver: Any) -> None:
        for body, lasts in (("lost", False), ("kept", True)):
            async with driver.transaction(force_rollback=not lasts):
                with history.ignore(session, note):
                    await driver.execute(sql, [body])
                with refused:
                    await driver.commit()
                await driver.execute(sql, [body])

    def work(session: Session) -> None:
        driver = driver_of(session)
        if isinstance(driver, psycopg.AsyncConnection):
            dbapi: Any = session.connection().connection.dbapi_connection
            dbapi.run_async(lambda driver: work_async(session, driver))
            return
        for body, lasts in (("lost", False), ("kept", True)):
            with driver.transaction(force_rollback=not lasts):
                with history.ignore(session, note):
                    driver.execute(sql, [body])
                with refused:
                    driver.commit()
                driver.execute(sql, [body])

    in_session(work)
    assert seen() == [("kept", ""), ("kept", "xy")]


def test_end_that_the_driver_refuses_ends_and_ignores_nothing(
    in_session: InSession, note: Any, add: Add, seen: Seen
) -> None:
    """Though what is to be told before the end is known to be news then."""
    refused = pytest.raises(psycopg.ProgrammingError, match="two-phase transaction")

    def waited(result: Any) -> Any:
        return await_only(result) if inspect.isawaitable(result) else result

    def work(session: Session) -> None:
        driver: Any = session.connection().connection.driver_connection
        add(session, "a")
        with history.ignore(session, note), refused:
            waited(driver.tpc_prepare())
        add(session, "b")
        session.commit()
        driver = session.connection().connection.driver_connection
        waited(driver.tpc_begin("two phases"))
        with history.ignore(session, note):
            add(session, "lost")
        with refused:
            waited(driver.commit())
        waited(driver.tpc_rollback())

    in_session(work)
    assert seen() == [("a", "xy"), ("b", "xy")]


# What it is for.


def test_session_that_is_async(
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


def test_scoped_session(pg_engine: Engine, note: Any, seen: Seen) -> None:
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


def test_connection(pg_engine: Engine, note: Any, seen: Seen) -> None:
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


def test_async_connection(pg_async_engine: AsyncEngine, note: Any, seen: Seen) -> None:
    async def main() -> None:
        async with pg_async_engine.connect() as connection:
            async with history.ignore(connection, note, "x"):
                await connection.execute(insert(note).values(body="a"))
            await connection.execute(insert(note).values(body="b"))
            await connection.commit()

    asyncio.run(main())
    assert seen() == [("a", "y"), ("b", "xy")]


def test_thread(pg_engine: Engine, note: Any, add: Add, seen: Seen) -> None:
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


def test_function_that_is_decorated(
    pg_session: Session, note: Any, add: Add, seen: Seen
) -> None:
    @history.ignore("x")
    def write(body: str, *, depth: int = 0) -> str:
        """Write a note."""
        add(pg_session, body)
        if depth:
            write(body, depth=depth - 1)
            add(pg_session, body)
        return body

    @history.ignore(pg_session, note, "y")
    def fail() -> None:
        raise KeyError

    assert write("a", depth=1) == "a"
    assert (write.__name__, write.__doc__) == ("write", "Write a note.")
    with pytest.raises(KeyError):
        fail()
    add(pg_session, "after")
    pg_session.commit()
    assert seen() == [*[("a", "y")] * 3, ("after", "xy")]


def test_methods_that_are_decorated_are_the_official_interface(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
) -> None:
    def save(created: Any, session: Session) -> Any:
        session.add(created)
        session.flush()
        return created

    @attach(Protect(Insert))
    class Official(base):  # type: ignore[misc, valid-type]
        __tablename__ = "official"
        id: Mapped[int] = mapped_column(primary_key=True)

        @classmethod
        @history.ignore("protect_insert")
        def create(cls, session: Session) -> Any:
            return save(cls(), session)

        @history.ignore("protect_insert")
        @classmethod
        def create_too(cls, session: Session) -> Any:
            return save(cls(), session)

        @history.ignore("protect_insert")
        @staticmethod
        def create_statically(session: Session) -> Any:
            return save(Official(), session)

        @history.ignore("protect_insert")
        def copy(self, session: Session) -> Any:
            return save(type(self)(), session)

    create_all()
    first = Official.create(pg_session)
    Official.create_too(pg_session)
    Official.create_statically(pg_session)
    assert first.copy(pg_session).id == 4
    pg_session.commit()
    pg_session.add(Official())
    with pytest.raises(ProtectedError, match="INSERT of public.official is refused"):
        pg_session.flush()


def test_coroutine_function_that_is_decorated_is_in_its_block_while_it_runs(
    pg_async_engine: AsyncEngine, note: Any, seen: Seen
) -> None:
    async def main() -> None:
        async with AsyncSession(pg_async_engine) as session:

            @history.ignore(session, note, "x")
            async def work() -> str:
                session.add(note("inside"))
                await session.flush()
                return "done"

            coroutine = work()
            session.add(note("before it runs"))
            await session.flush()
            assert await coroutine == "done"
            session.add(note("after"))
            await session.commit()

    asyncio.run(main())
    assert seen() == [("before it runs", "xy"), ("inside", "y"), ("after", "xy")]


def test_generators_cannot_be_decorated() -> None:
    def rows(number: int) -> Iterator[int]:
        yield number

    async def async_rows() -> AsyncIterator[int]:
        yield 1

    for function in (rows, async_rows, functools.partial(rows, 1), classmethod(rows)):
        with pytest.raises(IgnoreError, match="rows.*: its body runs after the call"):
            history.ignore("x")(function)


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


# What is ignored.


@pytest.fixture
def models(base: type[DeclarativeBase], create_all: Callable[[], None]) -> Any:
    """A parent with a subclass that has a table of its own, and two other models."""

    @attach(mark("x"))
    class Pet(base):  # type: ignore[misc, valid-type]
        __tablename__ = "pet"
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "pet"}
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        marks: Mapped[str] = mapped_column(server_default="")

    @attach(mark("x"), mark("z"))
    class Cat(Pet):
        __tablename__ = "cat"
        __mapper_args__ = {"polymorphic_identity": "cat"}
        id: Mapped[int] = mapped_column(ForeignKey("pet.id"), primary_key=True)
        cat_marks: Mapped[str] = mapped_column("marks", server_default="")

    class Dog(Pet):
        __mapper_args__ = {"polymorphic_identity": "dog"}

    class Car(base):  # type: ignore[misc, valid-type]
        __table__ = Table(
            "car",
            base.metadata,
            Column("id", Integer, primary_key=True),
            Column("marks", Text, server_default=""),
        )

    attach(mark("x"), mark("y"))(Car.__table__)

    class Plain(base):  # type: ignore[misc, valid-type]
        __tablename__ = "plain"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    return {"Pet": Pet, "Cat": Cat, "Dog": Dog, "Car": Car, "Plain": Plain}


@pytest.mark.parametrize(
    ("what", "ran"),
    [
        (["Pet"], {"pet": "", "cat": "", "car": "xy"}),
        (["Cat"], {"pet": "", "cat": "", "car": "xy"}),
        (["Dog"], {"pet": "", "cat": "xz", "car": "xy"}),
        (["Car"], {"pet": "x", "cat": "xz", "car": ""}),
        (["Pet", "x"], {"pet": "", "cat": "z", "car": "xy"}),
        (["Pet", "z"], {"pet": "x", "cat": "x", "car": "xy"}),
        (["Cat", "x", "z"], {"pet": "", "cat": "", "car": "xy"}),
        (["car", "y"], {"pet": "x", "cat": "xz", "car": "x"}),
        (["car"], {"pet": "x", "cat": "xz", "car": ""}),
        (["Dog", "Car"], {"pet": "", "cat": "xz", "car": ""}),
        (["Pet", "Car", "y"], {"pet": "x", "cat": "xz", "car": "x"}),
        (["Cat", "x", "Car"], {"pet": "", "cat": "z", "car": "y"}),
        (["x"], {"pet": "", "cat": "z", "car": "y"}),
        (["y", "z"], {"pet": "x", "cat": "x", "car": "x"}),
        (["unheard of"], {"pet": "x", "cat": "xz", "car": "xy"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("bound", [True, False], ids=["session", "thread"])
def test_models_tables_and_names(
    bound: bool,
    what: list[str],
    ran: dict[str, str],
    models: Any,
    pg_session: Session,
) -> None:
    tables = {"car": models["Car"].__table__}
    target = [pg_session] if bound else []
    items = [models.get(item, tables.get(item, item)) for item in what]
    with history.ignore(*target, *items):
        pg_session.add_all([models["Cat"](id=1), models["Car"](id=1)])
        pg_session.flush()
    found = {
        table: pg_session.scalar(text(f"SELECT marks FROM {table}")) for table in ran
    }
    assert found == ran


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ([], "ignore needs to be told what: write history.ignore"),
        (["Car", "z"], "Car has no trigger 'z' that can be ignored; it has x, y"),
        (["car", "z"], "car has no trigger 'z'"),
        (["Pet", "y"], "Pet has no trigger 'y'.*it has x, z"),
        (["Car", "Dog", "z"], "Car or Dog has no trigger 'z'"),
        (["Car", "x", "why"], "Car has no trigger 'why'.*it has x, y"),
        (
            ["Plain"],
            "Plain has no trigger that can be ignored; give it one with attach",
        ),
        (["Car", "Plain"], "Plain has no trigger that can be ignored"),
        (["Plain", "x"], "Plain has no trigger that can be ignored"),
        (["Car", "car_x"], "Car has no trigger 'car_x'"),
        ([5], "ignore takes models, tables and names of triggers, got 5"),
        (["Car", None], "got None"),
        ([int], "got <class 'int'>"),
        ([Insert], "got Insert"),
    ],
    ids=str,
)
def test_what_cannot_be_ignored_is_refused_at_the_call(
    what: list[Any], message: str, models: Any, pg_session: Session
) -> None:
    tables = {"car": models["Car"].__table__}
    items = [
        models.get(item, tables.get(item, item)) if isinstance(item, str) else item
        for item in what
    ]
    with pytest.raises(IgnoreError, match=message):
        history.ignore(pg_session, *items)


def test_close_name_is_suggested(note: Any, base: Any, pg_session: Session) -> None:
    attach(mark("official"))(note)
    with pytest.raises(IgnoreError, match="did you mean 'official'"):
        history.ignore(pg_session, note, "oficial")


# Tracking.


@pytest.fixture
def account(
    base: type[DeclarativeBase], create_all: Callable[[], None], level: str
) -> Any:
    """A model that is tracked twice, and protected in several ways."""

    @attach(
        Protect(Delete, level=level),
        Protect(Update, level=level, name="never", ignorable=False),
    )
    @track(
        level=level,
        events="log",
        event_table="account_log",
        append_only=True,
        context=None,
    )
    @track(level=level, append_only=True)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        balance: Mapped[int]

    create_all()
    return Account


def counts(session: Session) -> tuple[int, int]:
    """Return how many events the two tables have."""
    return (
        session.scalar(text("SELECT count(*) FROM account_event")),
        session.scalar(text("SELECT count(*) FROM account_log")),
    )  # type: ignore[return-value]


def test_tracking_is_ignored_by_the_name_of_its_attribute(
    account: Any, in_session: InSession
) -> None:
    def work(session: Session) -> None:
        with history.ignore(session, account, "events"):
            session.execute(insert(account).values(id=1, balance=1))
            assert counts(session) == (0, 1)
            with pytest.raises(ProtectedError), session.begin_nested():
                session.execute(delete(account))
            with pytest.raises(ProtectedError), session.begin_nested():
                session.execute(text("TRUNCATE account"))
        with history.ignore(session, account, "log"):
            session.execute(insert(account).values(id=2, balance=1))
        assert counts(session) == (1, 1)
        with history.ignore(session, account, "events", "log"):
            session.execute(insert(account).values(id=3, balance=1))
        assert counts(session) == (1, 1)
        session.execute(insert(account).values(id=4, balance=1))
        assert counts(session) == (2, 2)

    in_session(work)


def test_ignored_model_leaves_no_event_and_is_not_protected(
    account: Any, in_session: InSession
) -> None:
    def work(session: Session) -> None:
        session.execute(insert(account).values(id=1, balance=1))
        assert counts(session) == (1, 1)
        with history.ignore(session, account):
            session.execute(insert(account).values(id=2, balance=1))
            session.execute(delete(account).where(account.id == 2))
            session.execute(text("TRUNCATE account"))
            session.execute(insert(account).values(id=3, balance=1))
        assert counts(session) == (1, 1)
        with pytest.raises(ProtectedError), session.begin_nested():
            session.execute(delete(account))
        assert counts(session) == (1, 1)
        with history.ignore(session, account, "protect_delete"):
            session.execute(delete(account))
        assert counts(session)[0] > 1

    in_session(work)


EVERYTHING = '["account:*", "account:never", "*:never", "account_event:*", "*:*", "*"]'


def test_append_only_and_what_is_not_ignorable_hold_whatever_a_client_sets(
    account: Any, pg_session: Session
) -> None:
    pg_session.execute(insert(account).values(id=1, balance=1))
    pg_session.commit()

    def check() -> None:
        for statement, error in (
            ("UPDATE account SET balance = 2", ProtectedError),
            ("UPDATE account_event SET balance = 2", AppendOnlyError),
            ("DELETE FROM account_event", AppendOnlyError),
            ("TRUNCATE account_log", AppendOnlyError),
        ):
            with pytest.raises(error), pg_session.begin_nested():
                pg_session.execute(text(statement))

    check()
    with history.ignore(pg_session, account):
        check()
    with history.ignore("never", "append_only", "account_event_append_only", "*"):
        check()
    pg_session.rollback()
    pg_session.execute(
        text("SELECT set_config('pghistory.ignore', :s, true)"), {"s": EVERYTHING}
    )
    check()
    pg_session.execute(delete(account))  # what can be ignored is
    assert counts(pg_session) == (1, 1)


def test_tracking_that_is_not_ignorable_holds_whatever_a_client_sets(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    level: str,
) -> None:
    @attach(Protect(Delete))
    @track(level=level, ignorable=False)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    with pytest.raises(IgnoreError, match="Account has no trigger 'events'"):
        history.ignore(pg_session, Account, "events")
    with history.ignore(pg_session, Account):
        pg_session.execute(insert(Account).values(id=1))
        pg_session.execute(delete(Account))
    setting = {"s": '["account:*", "account:events", "*:events"]'}
    pg_session.execute(text("SELECT set_config('pghistory.ignore', :s, true)"), setting)
    pg_session.execute(insert(Account).values(id=2))
    events = pg_session.execute(text("SELECT pgh_op, id FROM account_event")).all()
    assert [tuple(event) for event in events] == [("I", 1), ("D", 1), ("I", 2)]


def test_name_that_is_not_ignorable_is_not_offered(
    account: Any, pg_session: Session
) -> None:
    with pytest.raises(IgnoreError, match="'never' .*it has protect_delete, events, l"):
        history.ignore(pg_session, account, "never")
    for table in ("account_event", "account_log", "pghistory_context"):
        with pytest.raises(IgnoreError, match="has no trigger that can be ignored"):
            history.ignore(pg_session, account.metadata.tables[table])
    with pytest.raises(IgnoreError, match="has no trigger that can be ignored"):
        history.ignore(pg_session, account.events.model)


# The context beside it.


def test_context_and_what_is_ignored_change_by_themselves(
    in_session: InSession,
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    recorded: Recorded,
    level: str,
    pg_engine: Engine,
) -> None:
    @attach(mark("x"))
    @track(level=level)
    class Note(base):  # type: ignore[misc, valid-type]
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        marks: Mapped[str] = mapped_column(server_default="")

    create_all()

    def work(session: Session) -> None:
        def write(number: int) -> None:
            session.execute(insert(Note).values(id=number))

        with history.context(session, user=1):
            write(1)
            with history.ignore(session, Note, "x"):
                write(2)
                with history.context(session, user=2):
                    write(3)
                    with history.ignore(session, Note, "events"):
                        write(4)
                    write(5)
                point = session.begin_nested()
                history.annotate(session, more=True)
                write(99)
                point.rollback()
                write(6)
            write(7)
        with history.ignore(session, Note):
            write(8)
            with history.context(session, user=3):
                write(9)
            session.commit()
        write(10)
        session.commit()

    in_session(work)
    one, both = {"user": 1, "more": True}, {"user": 2}
    assert [event[2:] for event in recorded(Note, "id", "marks")] == [
        (1, "x", one),
        (2, "", one),
        (3, "", both),
        (5, "", both),
        (6, "", one),
        (7, "x", one),
        (10, "x", None),
    ]


# Others are not concerned.


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


def test_sessions_beside_each_other(
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


def test_threads_on_a_pool(pg_url: URL, note: Any, seen: Seen) -> None:
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


def test_interleaved_tasks(pg_url: URL, note: Any, seen: Seen) -> None:
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


# Whatever writes, with every driver. Each way writes the notes "a" and "b".


def by_values(connection: Connection, note: Any) -> None:
    connection.execute(insert(note).values([{"body": "a"}, {"body": "b"}]))


def by_executemany(connection: Connection, note: Any) -> None:
    connection.execute(insert(note), [{"body": "a"}, {"body": "b"}])


def by_driver_sql_for_many(connection: Connection, note: Any) -> None:
    sql = "INSERT INTO note (body) VALUES (%s)"
    connection.exec_driver_sql(sql, [("a",), ("b",)])


def by_script(connection: Connection, note: Any) -> None:
    connection.exec_driver_sql(
        "INSERT INTO note (body) VALUES ('a'); INSERT INTO note (body) VALUES ('b')"
    )


def by_block_of_plpgsql(connection: Connection, note: Any) -> None:
    connection.exec_driver_sql(
        "DO $$ BEGIN FOR n IN 97..98 LOOP"
        " INSERT INTO note (body) VALUES (chr(n)); END LOOP; END $$"
    )


def by_common_table_expression(connection: Connection, note: Any) -> None:
    cte = insert(note).values([{"body": "a"}, {"body": "b"}]).returning(note.id).cte()
    connection.execute(select(cte))


def by_server_side_cursor(connection: Connection, note: Any) -> None:
    rows = connection.execute(
        text("SELECT write_note(chr(n)) FROM generate_series(97, 98) AS n"),
        execution_options={"stream_results": True, "max_row_buffer": 1},
    )
    assert len(rows.all()) == 2


def by_stream_then_write(connection: Connection, note: Any) -> None:
    rows = connection.execute(
        text("SELECT chr(n) FROM generate_series(97, 98) AS n"),
        execution_options={"stream_results": True, "max_row_buffer": 1},
    )
    for body in rows.scalars():
        connection.execute(insert(note).values(body=body))


def by_copy(connection: Connection, note: Any) -> None:
    driver: Any = connection.connection.driver_connection
    if isinstance(driver, psycopg.Connection):
        with driver.cursor().copy("COPY note (body) FROM STDIN") as copy:
            copy.write("a\nb\n")
        return

    async def write() -> None:
        async with driver.cursor().copy("COPY note (body) FROM STDIN") as copy:
            await copy.write("a\nb\n")

    dbapi: Any = connection.connection.dbapi_connection
    dbapi.run_async(lambda _: write())


IN_AUTOCOMMIT = [
    by_values,
    by_executemany,
    by_driver_sql_for_many,
    by_script,
    by_block_of_plpgsql,
    by_common_table_expression,
    by_copy,
]
WAYS = [*IN_AUTOCOMMIT, by_server_side_cursor, by_stream_then_write]
Way = Callable[[Connection, Any], None]


@pytest.fixture
def writing_function(note: Any, pg_engine: Engine) -> None:
    """A function of the application that writes notes."""
    with pg_engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION write_note(text) RETURNS bigint LANGUAGE sql AS"
            " 'INSERT INTO note (body) VALUES ($1) RETURNING id'"
        )


def write_in_blocks(connection: Connection, note: Any, way: Way) -> None:
    way(connection, note)
    with history.ignore(connection, note, "x"):
        way(connection, note)
        with history.ignore(connection, note, "y"):
            way(connection, note)
        way(connection, note)
        way(connection, note)
    way(connection, note)


WRITTEN = [
    (body, marks) for marks in ("xy", "y", "", "y", "y", "xy") for body in ("a", "b")
]


@pytest.mark.usefixtures("writing_function")
@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_write(
    way: Way, in_session: InSession, note: Any, seen: Seen
) -> None:
    def work(session: Session) -> None:
        write_in_blocks(session.connection(), note, way)
        session.commit()

    in_session(work)
    assert seen() == WRITTEN


@pytest.mark.parametrize("way", IN_AUTOCOMMIT)
def test_each_way_to_write_in_autocommit(
    way: Way, in_autocommit: InConnection, note: Any, seen: Seen
) -> None:
    in_autocommit(lambda connection: write_in_blocks(connection, note, way))
    assert seen() == WRITTEN


def test_procedure_that_commits_warns_in_autocommit(
    in_autocommit: InConnection, note: Any, seen: Seen
) -> None:
    """A DO block does as a CALL does with PostgreSQL 18 or newer."""

    def work(connection: Connection) -> None:
        with (
            history.ignore(connection, note),
            pytest.warns(UserWarning, match="nothing is ignored, for a procedure"),
        ):
            connection.exec_driver_sql(
                "DO $$ BEGIN INSERT INTO note (body) VALUES ('a'); COMMIT; END $$"
            )

    in_autocommit(work)
    assert seen() == [("a", "xy")]


def test_other_drivers(
    in_other_session: InSession, note: Any, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        add(session, "a")
        with history.ignore(session, note, "x"):
            add(session, "b")
            with history.ignore(session, note, "y"):
                add(session, "c")
            rows = [{"body": "d"}, {"body": "e"}]
            session.execute(insert(note), rows)
        add(session, "f")
        session.commit()
        add(session, "g")
        session.commit()

    in_other_session(work)
    with history.ignore(note, "x"):
        in_other_session(work)
    outer = [("a", "y"), ("b", "y"), ("c", ""), ("d", "y"), ("e", "y")]
    assert seen() == [
        *[("a", "xy"), *outer[1:], ("f", "xy"), ("g", "xy")],
        *[*outer, ("f", "y"), ("g", "y")],
    ]


def test_other_drivers_go_back_to_savepoints(
    in_other_session: InSession, savepoint: Any, note: Any, add: Add, seen: Seen
) -> None:
    in_other_session(lambda s: work_around_savepoints(s, savepoint, note, add))
    found = seen()
    assert len(found) == 11
    assert [body for body, _ in found] == [marks for _, marks in found]


def test_other_drivers_warn_in_autocommit(
    in_other_session: InSession, note: Any, seen: Seen
) -> None:
    def work(session: Session) -> None:
        connection = session.connection(
            execution_options={"isolation_level": "AUTOCOMMIT"}
        )
        with (
            history.ignore(session, note),
            pytest.warns(UserWarning, match="ignored run all the same: in AUTOCOMMIT"),
        ):
            connection.execute(insert(note).values(body="inside"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            connection.execute(insert(note).values(body="after"))

    in_other_session(work)
    assert seen() == [("inside", "xy"), ("after", "xy")]


# What it costs.


def test_nothing_is_sent_by_entering_and_leaving(
    pg_engine: Engine, pg_session: Session, note: Any
) -> None:
    statements: list[str] = []
    event.listen(
        pg_engine, "before_cursor_execute", lambda *args: statements.append(args[2])
    )
    with history.ignore(pg_session, note), history.ignore("x"):
        pass
    assert statements == []
    assert not pg_session.in_transaction()


def round_trips(connection: Connection, work: Callable[[], None]) -> tuple[int, int]:
    """Return how often the client asks for answers, and how often it tells settings.

    libpq itself writes down each message that it sends.
    """
    pgconn = connection.connection.driver_connection.pgconn  # type: ignore[union-attr]
    with tempfile.TemporaryFile() as file:
        pgconn.trace(file.fileno())
        work()
        pgconn.untrace()
        file.seek(0)
        sent = [line for line in file.read().splitlines() if b"\tF\t" in line]
    asking = [line for line in sent if line.split(b"\t")[3] in (b"Query", b"Sync")]
    # What tells is a Bind, or the Query that begins the transaction.
    telling = [line for line in sent if b"SET LOCAL" in line or b"\tBind\t" in line]
    telling = [line for line in telling if b"note:x" in line]
    return len(asking), len(telling)


@pytest.mark.parametrize("kind", ["orm", "core", "executemany", "text"])
def test_ignoring_needs_no_round_trip(
    kind: str, in_session: InSession, note: Any
) -> None:
    def transaction(session: Session) -> None:
        if kind == "orm":
            session.add(note("a"))
            session.flush()
            session.execute(update(note).values(body="b"))
        elif kind == "core":
            session.execute(insert(note).values(body="a"))
            session.execute(update(note).values(body="b"))
        elif kind == "executemany":
            rows = [{"body": str(n)} for n in range(5)]
            session.execute(insert(note), rows)
        else:
            session.execute(text("INSERT INTO note (body) VALUES ('a')"))

    def work(session: Session) -> None:
        connection = session.connection()

        def without() -> None:
            transaction(session)

        def within() -> None:
            with history.ignore(session, note, "x"):
                transaction(session)

        def within_a_context() -> None:
            with history.context(session, user=7):
                within()

        for _ in range(3):  # before the driver begins to prepare statements
            expected, told = round_trips(connection, without)
            assert told == 0
            for inside in (within, within_a_context):
                session.rollback()
                connection = session.connection()
                assert round_trips(connection, inside) == (expected, 1)
            session.rollback()
            connection = session.connection()

    in_session(work)


def test_commit_after_the_block_needs_no_round_trip(
    in_session: InSession, note: Any
) -> None:
    def work(session: Session) -> None:
        def within() -> None:
            with history.ignore(session, note, "x"):
                session.execute(insert(note).values(body="a"))

        within()
        assert round_trips(session.connection(), session.commit) == (1, 0)

    in_session(work)


# Names that could be taken for others.


LOOKALIKES = [
    ("*", "mark"),
    ("other", "*"),
    ("a", "b:c"),
    ("a:b", "c"),
    ("a\\", ":c"),
    ("a\\:", "c"),
    ("a\\", "b:c"),
    ("a:b\\", "c"),
    ("a", "*"),
    ("*", "*"),
    ("a", "c"),
    ("a", '","a:c'),
    ("a", '"],["other:mark"]'),
    ("a", "a\\u003ac"),
    ("a,b", "it's, {x} %s %% :y"),
    ("Größe 寸😀", "Größe 寸😀"),
    ("other", "mark"),
    ("s.t", "mark"),
]


def test_names_that_look_like_others_ignore_only_themselves(pg_engine: Engine) -> None:
    metadata = MetaData()
    tables: dict[str, Table] = {}
    for table, _ in LOOKALIKES:
        if table not in tables:
            tables[table] = Table(
                table,
                metadata,
                Column("id", Integer, primary_key=True),
                Column("marks", Text),
            )
    for number, (table, name) in enumerate(LOOKALIKES):
        body = f"NEW.marks := concat(NEW.marks, '<{number}>'); RETURN NEW;"
        attach(Trigger(name, "before", Insert, body=body))(tables[table])
    metadata.create_all(pg_engine)

    def ran() -> set[int]:
        point = connection.begin_nested()
        numbers: set[int] = set()
        for table in tables.values():
            marks = connection.scalar(insert(table).returning(table.c.marks)) or ""
            numbers |= {int(n) for n in marks.strip("<>").split("><") if n}
        point.rollback()
        return numbers

    everything = set(range(len(LOOKALIKES)))
    with pg_engine.begin() as connection:
        assert ran() == everything
        for number, (table, name) in enumerate(LOOKALIKES):
            with history.ignore(connection, tables[table], name):
                assert ran() == everything - {number}, (table, name)
            with history.ignore(connection, tables[table]):
                of_table = {n for n in everything if LOOKALIKES[n][0] == table}
                assert ran() == everything - of_table, table
            with history.ignore(connection, name):
                of_name = {n for n in everything if LOOKALIKES[n][1] == name}
                assert ran() == everything - of_name, name


# The setting, in other hands.


@pytest.mark.parametrize("garbage", ["garbage", "{", "note:x", "[note:x]"])
def test_garbage_in_the_setting_fails_what_writes_and_loses_nothing(
    garbage: str, pg_engine: Engine, note: Any, seen: Seen
) -> None:
    with pg_engine.begin() as connection:
        database = connection.dialect.identifier_preparer.quote(
            connection.scalar(text("SELECT current_database()"))
        )
        connection.exec_driver_sql(
            f"ALTER DATABASE {database} SET pghistory.ignore = '{garbage}'"
        )
    pg_engine.dispose()
    with pg_engine.connect() as connection:
        with pytest.raises(DataError, match="invalid input syntax for type json"):
            connection.execute(insert(note).values(body="refused"))
        connection.rollback()
        with history.ignore(connection, note, "x"):
            connection.execute(insert(note).values(body="inside"))
        connection.execute(insert(note).values(body="after"))
        connection.commit()
    assert seen() == [("inside", "y"), ("after", "xy")]


@pytest.mark.parametrize(
    ("setting", "runs"),
    [
        ('["note:x"]', "y"),
        ('["note:*"]', ""),
        ('["*:y"]', "x"),
        ('["*:*", "*", ":", "note", "note:", ["note:x"], null]', "xy"),
        ("[]", "xy"),
        ("null", "xy"),
        ("", "xy"),
    ],
)
def test_setting_by_hand(
    setting: str, runs: str, pg_session: Session, add: Add, seen: Seen
) -> None:
    """Such as in psql, or for a role: ``ALTER ROLE importer SET pghistory.ignore``."""
    pg_session.execute(
        text("SELECT set_config('pghistory.ignore', :s, true)"), {"s": setting}
    )
    add(pg_session, "a")
    pg_session.commit()
    add(pg_session, "b")
    pg_session.commit()
    assert seen() == [("a", runs), ("b", "xy")]


# Tables of all kinds.


def test_partitions(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    reading = Table(
        "reading",
        base.metadata,
        Column("id", Integer),
        Column("marks", Text),
        postgresql_partition_by="LIST (id)",
    )
    attach(mark("x"), mark("y", condition=new.id > 0))(reading)
    create_all()
    pg_session.execute(text("CREATE TABLE p1 PARTITION OF reading FOR VALUES IN (1)"))
    marks = select(reading.c.marks)
    pg_session.execute(insert(reading).values(id=1))
    assert pg_session.scalars(marks).all() == ["xy"]
    for what, expected in ((("x",), "y"), ((reading,), None), ((reading, "y"), "x")):
        pg_session.execute(delete(reading))
        with history.ignore(pg_session, *what):
            pg_session.execute(text("INSERT INTO p1 VALUES (1)"))
            assert pg_session.scalars(marks).all() == [expected]


def test_schema_translate_map_changes_nothing(
    note: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    with pg_engine.begin() as connection:
        connection.execute(CreateSchema("tenant"))
    tenant = pg_engine.execution_options(schema_translate_map={None: "tenant"})
    base.metadata.create_all(tenant)
    marks = select(note.marks).order_by(note.id)
    with Session(tenant) as session, history.ignore(session, note, "x"):
        session.add(note("a"))
        session.flush()
        with history.ignore(session, "y"):
            session.add(note("b"))
            session.flush()
        assert session.scalars(marks).all() == ["y", ""]


def test_truncate_and_statements(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    note = Table("note", base.metadata, Column("id", Integer, primary_key=True))
    attach(
        Protect(Truncate, name="kept"),
        Trigger(
            "quiet",
            "before",
            Insert | Update,
            level="statement",
            condition=text("true"),
            body="RAISE EXCEPTION 'quiet, please';",
        ),
    )(note)
    create_all()
    with history.ignore(pg_session, note, "quiet"):
        pg_session.execute(insert(note).values(id=1))
        with pytest.raises(ProtectedError), pg_session.begin_nested():
            pg_session.execute(text("TRUNCATE note"))
    with history.ignore(pg_session, note, "kept"):
        with pytest.raises(DBAPIError, match="quiet, pl"), pg_session.begin_nested():
            pg_session.execute(update(note).values(id=2))
        pg_session.execute(text("TRUNCATE note"))
