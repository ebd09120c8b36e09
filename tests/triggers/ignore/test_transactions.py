"""Blocks of ``ignore`` around savepoints and transactions, also those of the driver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine, NullPool, create_engine, insert, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

import sa_history as history
from tests.triggers.ignore.helpers import driver_of

Add = Callable[[Session, str], None]
Seen = Callable[[], list[tuple[str, str]]]
InSession = Callable[[Callable[[Session], Any]], Any]
InConnection = Callable[[Callable[[Connection], Any]], Any]


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


def test_savepoints_change_nothing_about_the_blocks_around_them(
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


def test_savepoints_and_transactions_of_the_driver_leave_blocks_as_they_are(
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


def test_transactions_of_the_driver_in_autocommit_are_in_the_block(
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


def test_transaction_that_the_driver_began_is_in_the_block(
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


def test_blocks_hold_in_a_pipeline_of_the_driver(
    pg_session: Session, note: Any, seen: Seen
) -> None:
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


def test_blocks_hold_in_a_two_phase_commit(
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


def test_other_drivers_go_back_to_savepoints(
    in_other_session: InSession, savepoint: Any, note: Any, add: Add, seen: Seen
) -> None:
    in_other_session(lambda s: work_around_savepoints(s, savepoint, note, add))
    found = seen()
    assert len(found) == 11
    assert [body for body, _ in found] == [marks for _, marks in found]
