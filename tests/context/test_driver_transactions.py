"""Transactions, savepoints and pipelines of the driver, and of two phases."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL, Connection, create_engine, insert, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

import sa_history as history

Add = Callable[[Session, str], None]
Seen = Callable[[], list[tuple[str, Any]]]
InSession = Callable[[Callable[[Session], Any]], Any]
InConnection = Callable[[Callable[[Connection], Any]], Any]
USER = {"user": 7}


def raw(session: Session) -> Any:
    """The driver's own connection."""
    return session.connection().connection.driver_connection


def test_savepoints_of_the_driver_keep_the_context(
    pg_session: Session, add: Add, seen: Seen
) -> None:
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


def test_savepoints_of_the_async_driver_keep_the_context(
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


def test_transactions_of_the_driver_have_the_current_context(
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


def test_pipeline_of_the_driver_has_the_current_context(
    pg_session: Session, note: Any, seen: Seen
) -> None:
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


@pytest.mark.parametrize("value", ["on", "off"])
def test_transaction_begins_as_it_was_asked_for(
    value: str, in_connection: InConnection
) -> None:
    """Though it is not the driver that sends BEGIN, and though others are usual."""
    names = ("isolation", "read_only", "deferrable")
    settings = ", ".join(f"current_setting('transaction_{name}')" for name in names)

    def work(connection: Connection) -> None:
        usual = (
            "READ WRITE, NOT DEFERRABLE" if value == "on" else "READ ONLY, DEFERRABLE"
        )
        connection.exec_driver_sql(
            f"SET SESSION CHARACTERISTICS AS TRANSACTION {usual}"
        )
        connection.commit()
        connection.execution_options(
            isolation_level="REPEATABLE READ",
            postgresql_readonly=value == "on",
            postgresql_deferrable=value == "on",
        )
        with history.context(connection, user=7):
            asked = connection.execute(text(f"SELECT {settings}")).one()
        assert asked == ("repeatable read", value, value)

    in_connection(work)


def test_two_phase_commit_has_the_current_context(
    in_connection: InConnection, note: Any, seen: Seen
) -> None:
    def work(connection: Connection) -> None:
        with history.context(connection, user=7):
            for body in "ab":
                transaction = connection.begin_twophase()
                connection.execute(insert(note).values(body=body))
                transaction.prepare()
                transaction.commit()
        with connection.begin_twophase() as transaction:
            connection.execute(insert(note).values(body="after"))
            transaction.commit()

    in_connection(work)
    assert seen() == [("a", USER), ("b", USER), ("after", None)]
