"""Deferred triggers, and what they write, where something is ignored."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
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
    NullPool,
    Table,
    Text,
    create_engine,
    insert,
    select,
    text,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.util import await_only

import sa_history as history
from sa_history import Insert, Trigger, attach, track
from tests.triggers.ignore.helpers import driver_of, mark

Add = Callable[[Session, str], None]
Seen = Callable[[], list[tuple[str, str]]]
InSession = Callable[[Callable[[Session], Any]], Any]
InConnection = Callable[[Callable[[Connection], Any]], Any]
Recorded = Callable[..., list[tuple[Any, ...]]]


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
