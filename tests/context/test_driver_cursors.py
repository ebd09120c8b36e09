"""The driver's own cursors: execute, COPY, streams, and executemany."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

import sa_history as history

from .cursors import finished

Add = Callable[[Session, str], None]
Seen = Callable[[], list[tuple[str, Any]]]
InConnection = Callable[[Callable[[Connection], Any]], Any]
USER = {"user": 7}


def test_cursor_of_the_driver_has_the_current_context(
    in_connection: InConnection, seen: Seen
) -> None:
    def work(connection: Connection) -> None:
        cursor = connection.connection.cursor()  # SQLAlchemy's, for the async driver
        with history.context(connection, user=7):
            connection.execute(text("SELECT 1"))
            with history.context(connection, raw=True):
                cursor.execute("INSERT INTO note (body) VALUES (%s)", ("a",))
        cursor.execute("INSERT INTO note (body) VALUES ('b')")
        cursor.close()
        connection.commit()

    in_connection(work)
    assert seen() == [("a", {**USER, "raw": True}), ("b", None)]


def test_copy_has_the_current_context(
    pg_session: Session, note: Any, seen: Seen
) -> None:
    driver: Any = pg_session.connection().connection.driver_connection
    cursor = driver.cursor()
    with history.context(pg_session, user=7):
        with cursor.copy("COPY note (body) FROM STDIN") as copy:
            copy.write_row(("a",))
        with (
            history.context(pg_session, user=8),
            cursor.copy("COPY note (body) FROM STDIN") as copy,
        ):
            copy.write_row(("b",))
    with cursor.copy("COPY note (body) FROM STDIN") as copy:
        copy.write_row(("c",))
    pg_session.commit()
    assert seen() == [("a", USER), ("b", {"user": 8}), ("c", None)]


def test_copy_of_the_async_driver_has_the_current_context(
    pg_async_engine: AsyncEngine, note: Any, seen: Seen
) -> None:
    async def main() -> None:
        async with AsyncSession(pg_async_engine) as session:
            fairy = await (await session.connection()).get_raw_connection()
            driver: Any = fairy.driver_connection
            with history.context(session, user=7):
                async with driver.cursor().copy("COPY note (body) FROM STDIN") as copy:
                    await copy.write_row(("a",))
            async with driver.cursor().copy("COPY note (body) FROM STDIN") as copy:
                await copy.write_row(("b",))
            await session.commit()

    asyncio.run(main())
    assert seen() == [("a", USER), ("b", None)]


def test_executemany_after_one_that_failed_has_the_current_context(
    in_connection: InConnection, note: Any, seen: Seen
) -> None:
    sql = "INSERT INTO note (body) VALUES (%s)"

    def work(connection: Connection) -> None:
        with history.context(connection, user=7):
            for before in (), ("SELECT 1",):
                for statement in before:
                    connection.execute(text(statement))
                point = connection.begin_nested()
                with (
                    history.context(connection, job="j"),
                    pytest.raises(IntegrityError),
                ):
                    connection.exec_driver_sql(sql, [("lost",), (None,)])
                point.rollback()
                connection.exec_driver_sql(sql, [("a",), ("b",)])
        connection.commit()

    in_connection(work)
    assert seen() == [("a", USER), ("b", USER)] * 2


def test_copy_and_stream_that_come_first_are_part_of_the_transaction(
    pg_engine: Engine, pg_async_engine: AsyncEngine, writing_function: None, seen: Seen
) -> None:
    copy_in, stream = "COPY note (body) FROM STDIN", "SELECT write_note('lost')"
    with pg_engine.connect() as connection, history.context(connection, user=7):
        driver: Any = connection.connection.driver_connection
        with driver.cursor().copy(copy_in) as copy:
            copy.write_row(("lost",))
        driver.rollback()
        assert len(list(driver.cursor().stream(stream))) == 1
        driver.rollback()

    async def main() -> None:
        async with pg_async_engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            with history.context(connection, user=7):
                async with driver.cursor().copy(copy_in) as copy:
                    await copy.write_row(("lost",))
                await driver.rollback()
                assert len([row async for row in driver.cursor().stream(stream)]) == 1
                await driver.rollback()

    asyncio.run(main())
    assert seen() == []


def test_copy_that_fails_leaves_no_context_behind(
    pg_session: Session, add: Add, seen: Seen
) -> None:
    point = pg_session.begin_nested()
    driver: Any = pg_session.connection().connection.driver_connection
    with (
        history.context(pg_session, user=7),
        pytest.raises(psycopg.errors.NotNullViolation),
        driver.cursor().copy("COPY note (body) FROM STDIN") as copy,
    ):
        copy.write_row((None,))
    point.rollback()
    add(pg_session, "after")
    pg_session.commit()
    assert seen() == [("after", None)]


@pytest.mark.usefixtures("writing_function")
def test_stream_of_the_driver_has_the_current_context(
    pg_session: Session, note: Any, seen: Seen
) -> None:
    driver: Any = pg_session.connection().connection.driver_connection
    with history.context(pg_session, user=7):
        sql = "SELECT write_note(chr(n)) FROM generate_series(97, 98) AS n"
        assert len(list(driver.cursor().stream(sql))) == 2
    assert len(list(driver.cursor().stream("SELECT write_note('c')"))) == 1
    pg_session.commit()
    assert seen() == [("a", USER), ("b", USER), ("c", None)]


@pytest.mark.usefixtures("writing_function")
def test_stream_of_the_async_driver_has_the_current_context(
    pg_async_engine: AsyncEngine, note: Any, seen: Seen
) -> None:
    async def main() -> None:
        async with AsyncSession(pg_async_engine) as session:
            fairy = await (await session.connection()).get_raw_connection()
            driver: Any = fairy.driver_connection
            with history.context(session, user=7):
                sql = "SELECT write_note(chr(n)) FROM generate_series(97, 98) AS n"
                assert len([row async for row in driver.cursor().stream(sql)]) == 2
            await session.commit()

    asyncio.run(main())
    assert seen() == [("a", USER), ("b", USER)]


def test_composed_statement_has_the_current_context(
    pg_session: Session, note: Any, seen: Seen
) -> None:
    driver: Any = pg_session.connection().connection.driver_connection
    with history.context(pg_session, user=7):
        for body in "ab":
            driver.execute(
                psycopg.sql.SQL("INSERT INTO {} (body) VALUES ({})").format(
                    psycopg.sql.Identifier("note"), body
                )
            )
    pg_session.commit()
    assert seen() == [("a", USER), ("b", USER)]


def test_statement_of_bytes_has_the_current_context(
    pg_session: Session, note: Any, seen: Seen
) -> None:
    driver: Any = pg_session.connection().connection.driver_connection
    driver.execute("SET client_encoding TO latin1")
    with history.context(pg_session, user=7):
        driver.execute("INSERT INTO note (body) VALUES ('ä')".encode("latin1"))
    pg_session.commit()
    assert seen() == [("ä", USER)]


def test_options_of_a_statement_are_passed_on(in_connection: InConnection) -> None:
    def work(connection: Connection) -> None:
        cursor = connection.connection.driver_connection.cursor()  # type: ignore[union-attr]
        for block in (contextlib.nullcontext(), history.context(connection, user=7)):
            with block:
                finished(cursor.execute("SELECT 1", binary=True))
                assert cursor.description[0].type_display == "int4"
                assert cursor.pgresult.fformat(0) == psycopg.pq.Format.BINARY

    in_connection(work)
