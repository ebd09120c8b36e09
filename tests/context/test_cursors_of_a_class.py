"""Cursors that are made of their class on the driver's connection, and not by it."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL, Connection, Engine, create_engine, insert, text
from sqlalchemy.util.concurrency import await_only

import sa_history as history

from .cursors import execute, finished, made_of

Seen = Callable[[], list[tuple[str, Any]]]
InConnection = Callable[[Callable[[Connection], Any]], Any]
ADA, BEN = {"user": "ada"}, {"user": "ben"}

CLASSES = pytest.mark.parametrize("name", ["Cursor", "ClientCursor", "RawCursor"])


def commit(connection: Connection) -> None:
    """Commit by the driver; SQLAlchemy may not know that a transaction has begun."""
    finished(connection.connection.driver_connection.commit())  # type: ignore[union-attr]


def executemany(cursor: Any, body: str) -> None:
    raw = isinstance(cursor, (psycopg.RawCursor, psycopg.AsyncRawCursor))
    sql = f"INSERT INTO note (body) VALUES ({'$1' if raw else '%s'})"
    finished(cursor.executemany(sql, [[body]]))


def stream(cursor: Any, body: str) -> None:
    rows = cursor.stream(f"SELECT write_note('{body}')")
    if hasattr(rows, "__anext__"):

        async def read() -> list[Any]:
            return [row async for row in rows]

        rows = await_only(read())
    assert len(list(rows)) == 1


def copy(cursor: Any, body: str) -> None:
    copying = cursor.copy("COPY note (body) FROM STDIN")
    if hasattr(copying, "__aenter__"):

        async def write() -> None:
            async with copying as target:
                await target.write_row((body,))

        await_only(write())
    else:
        with copying as target:
            target.write_row((body,))


@CLASSES
@pytest.mark.parametrize("write", [execute, executemany, stream, copy])
@pytest.mark.usefixtures("writing_function")
def test_cursor_that_is_made_of_its_class_has_the_current_context(
    name: str, write: Callable[[Any, str], None], in_connection: InConnection, seen: Any
) -> None:
    def work(connection: Connection) -> None:
        with history.context(connection, user="ada"):
            write(made_of(name, connection), "begins")
            connection.execute(text("INSERT INTO note (body) VALUES ('by another')"))
            write(made_of(name, connection), "goes on")
            with history.context(connection, step=2):
                write(made_of(name, connection), "inside")
            write(made_of(name, connection), "back")
        write(made_of(name, connection), "after")
        connection.execute(text("INSERT INTO note (body) VALUES ('by another')"))
        with history.context(connection, user="ben"):
            write(made_of(name, connection), "changed")
        commit(connection)
        write(made_of(name, connection), "next")
        commit(connection)

    in_connection(work)
    assert seen() == [
        ("begins", ADA),
        ("by another", ADA),
        ("goes on", ADA),
        ("inside", {**ADA, "step": 2}),
        ("back", ADA),
        ("after", None),
        ("by another", None),
        ("changed", BEN),
        ("next", None),
    ]


@pytest.mark.usefixtures("writing_function")
def test_server_cursor_that_is_made_of_its_class_has_the_current_context(
    in_connection: InConnection, seen: Seen
) -> None:
    def work(connection: Connection) -> None:
        for user in "ada", "ben":
            with history.context(connection, user=user):
                cursor = made_of("ServerCursor", connection, "named")
                finished(cursor.execute(f"SELECT write_note('{user}')"))
                finished(cursor.fetchall())
                finished(cursor.close())
        commit(connection)

    in_connection(work)
    assert seen() == [("ada", ADA), ("ben", BEN)]


@CLASSES
def test_ambient_context_of_a_cursor_that_is_made_of_its_class(
    name: str, pg_engine: Engine, note: Any, seen: Seen
) -> None:
    with pg_engine.connect() as connection:
        with history.context(user="ada"):
            execute(made_of(name, connection), "a")
        execute(made_of(name, connection), "b")
        commit(connection)
    assert seen() == [("a", ADA), ("b", None)]


@CLASSES
def test_rollback_to_a_savepoint_by_a_cursor_that_is_made_of_its_class(
    name: str, in_connection: InConnection, note: Any, seen: Seen
) -> None:
    def work(connection: Connection) -> None:
        with history.context(connection, user="ada"):
            execute(made_of(name, connection), "a")
            finished(made_of(name, connection).execute("SAVEPOINT one"))
        with history.context(connection, user="ben"):
            execute(made_of(name, connection), "lost")
            finished(made_of(name, connection).execute("ROLLBACK TO one"))
            connection.execute(insert(note).values(body="b"))
            finished(made_of(name, connection).execute("SAVEPOINT two"))
            with pytest.raises(psycopg.errors.NotNullViolation):
                execute(made_of(name, connection), None)
            finished(made_of(name, connection).execute("ROLLBACK TO two"))
            execute(made_of(name, connection), "c")
        connection.execute(text("SAVEPOINT three"))
        with history.context(connection, user="eve"):
            connection.execute(insert(note).values(body="lost"))
            finished(made_of(name, connection).execute("ROLLBACK TO three"))
            connection.execute(insert(note).values(body="d"))
        execute(made_of(name, connection), "e")
        commit(connection)

    in_connection(work)
    assert seen() == [
        ("a", ADA),
        ("b", BEN),
        ("c", BEN),
        ("d", {"user": "eve"}),
        ("e", None),
    ]


@CLASSES
def test_statement_that_has_to_come_first_by_a_cursor_that_is_made_of_its_class(
    name: str, in_connection: InConnection, note: Any, seen: Seen
) -> None:
    serializable = "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"

    def work(connection: Connection) -> None:
        with history.context(connection, user="ada"):
            finished(made_of(name, connection).execute(serializable))
            execute(made_of(name, connection), "a")
            commit(connection)
            finished(made_of(name, connection).execute("SAVEPOINT one"))
            finished(made_of(name, connection).execute("RELEASE one"))
            with history.context(connection, step=2):
                finished(made_of(name, connection).execute(serializable))
                execute(made_of(name, connection), "b")
            commit(connection)

    in_connection(work)
    assert seen() == [("a", ADA), ("b", {**ADA, "step": 2})]


def test_cursor_that_is_made_of_its_class_in_a_pipeline_of_the_application(
    pg_engine: Engine, note: Any, seen: Seen
) -> None:
    with pg_engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        with driver.pipeline():
            for user in "ada", "ben":
                with history.context(connection, user=user):
                    execute(psycopg.Cursor(driver), user)
            execute(psycopg.Cursor(driver), "after")
        commit(connection)
    assert seen() == [("ada", ADA), ("ben", BEN), ("after", None)]


def test_what_is_ignored_is_ignored_by_a_cursor_that_is_made_of_its_class(
    pg_engine: Engine, note: Any, seen: Seen
) -> None:
    with pg_engine.connect() as connection:
        execute(made_of("ClientCursor", connection), "a")
        with history.ignore(connection, note):
            execute(made_of("ClientCursor", connection), "b")
        execute(made_of("ClientCursor", connection), "c")
        commit(connection)
    assert seen() == [("a", None), ("c", None)]


@pytest.mark.parametrize("write", [execute, executemany])
def test_cursor_that_is_made_of_its_class_in_autocommit_warns_and_has_no_context(
    write: Callable[[Any, str], None], pg_url: URL, note: Any, seen: Seen
) -> None:
    engine = create_engine(pg_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        with history.context(connection, user="ada"):
            connection.execute(insert(note).values(body="a"))
            with pytest.warns(UserWarning, match=r"use connection\.cursor\(\)") as told:
                write(made_of("ClientCursor", connection), "b")
            assert [warning.filename for warning in told] == [inspect.getfile(write)]
            with connection.connection.driver_connection.transaction():  # type: ignore[union-attr]
                write(made_of("ClientCursor", connection), "c")
            connection.execute(insert(note).values(body="d"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            write(made_of("ClientCursor", connection), "e")
    engine.dispose()
    assert seen() == [("a", ADA), ("b", None), ("c", ADA), ("d", ADA), ("e", None)]
