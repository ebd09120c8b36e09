"""What follows a stream of the driver, after which libpq may go on with single rows.

libpq leaves single-row mode when the next statement is sent, but in a pipeline only
after its first answer, which may be one to our own statement.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL, Connection, create_engine, insert, text
from sqlalchemy.util.concurrency import await_only

import sa_history as history

from .cursors import stream

Seen = Callable[[], list[tuple[str, Any]]]
InConnection = Callable[[Callable[[Connection], Any]], Any]
USER = {"user": 7}
INSERT = "INSERT INTO note (body) VALUES (%s)"


def by_returning(connection: Connection, note: Any) -> None:
    assert connection.scalar(insert(note).values(body="a").returning(note.body)) == "a"


def by_executemany(connection: Connection, note: Any) -> None:
    connection.exec_driver_sql(INSERT, [("a",)])


def by_script(connection: Connection, note: Any) -> None:
    connection.exec_driver_sql("SELECT 1; INSERT INTO note (body) VALUES ('a')")


def by_pipeline(connection: Connection, note: Any) -> None:
    driver: Any = connection.connection.driver_connection

    async def write() -> None:
        async with driver.pipeline():
            await driver.execute(INSERT, ["a"])

    if isinstance(driver, psycopg.AsyncConnection):
        await_only(write())
        return
    with driver.pipeline():
        driver.execute(INSERT, ["a"])


def by_savepoint_of_the_driver(connection: Connection, note: Any) -> None:
    driver: Any = connection.connection.driver_connection

    async def write() -> None:
        async with driver.pipeline(), driver.transaction():
            await driver.execute(INSERT, ["a"])

    if isinstance(driver, psycopg.AsyncConnection):
        await_only(write())
        return
    with driver.pipeline(), driver.transaction():
        driver.execute(INSERT, ["a"])


WRITES = [
    by_returning,
    by_executemany,
    by_script,
    by_pipeline,
    by_savepoint_of_the_driver,
]

needs_chunks = pytest.mark.skipif(
    not psycopg.capabilities.has_stream_chunked(), reason="libpq before 17"
)


@pytest.mark.parametrize("by_its_class", [False, True], ids=["made", "of its class"])
@pytest.mark.parametrize("size", [1, pytest.param(2, marks=needs_chunks)])
@pytest.mark.parametrize("last", [3, 1], ids=["whole", "broken off"])
@pytest.mark.parametrize("write", WRITES)
def test_first_statement_of_a_block_after_a_stream(
    write: Callable[[Connection, Any], None],
    last: int,
    size: int,
    by_its_class: bool,
    in_connection: InConnection,
    note: Any,
    seen: Seen,
) -> None:
    def work(connection: Connection) -> None:
        connection.execute(text("SAVEPOINT one"))
        stream(connection, size, last, by_its_class)
        if last < 3:  # which fails, as it is cancelled
            connection.execute(text("ROLLBACK TO one"))
            stream(connection, size, 3, by_its_class)
        with history.context(connection, user=7):
            write(connection, note)
            connection.execute(insert(note).values(body="b"))
        connection.commit()

    in_connection(work)
    assert seen() == [("a", USER), ("b", USER)]


@pytest.mark.parametrize("write", WRITES[:3])
def test_statement_in_autocommit_after_a_stream(
    write: Callable[[Connection, Any], None], pg_url: URL, note: Any, seen: Seen
) -> None:
    engine = create_engine(pg_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for last in 3, 1:
            stream(connection, 1, last)
            with history.context(connection, user=7):
                write(connection, note)
    engine.dispose()
    assert seen() == [("a", USER)] * 2
