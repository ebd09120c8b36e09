"""The application's own cursors, rows and methods stay what they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

import psycopg
import pytest
from psycopg.rows import args_row, namedtuple_row
from sqlalchemy import URL, Connection, Engine, NullPool, event, insert, text, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

import sa_history as history

from .ways import WAYS, by_script

Seen = Callable[[], list[tuple[str, Any]]]
InConnection = Callable[[Callable[[Connection], Any]], Any]
USER = {"user": 7}


class CountingCursor(psycopg.Cursor[Any]):
    """A cursor of an application."""

    executed: ClassVar[list[str]] = []

    def execute(self, query: Any, *args: Any, **options: Any) -> Any:
        self.executed.append(query)
        return super().execute(query, *args, **options)

    def shout(self) -> str:
        return "!"


class OwnServerCursor(psycopg.ServerCursor[Any]):
    """A server-side cursor of an application."""

    def shout(self) -> str:
        return "?"


@pytest.mark.usefixtures("writing_function")
@pytest.mark.parametrize(
    "connect_args",
    [
        {"cursor_factory": psycopg.ClientCursor},
        {"cursor_factory": CountingCursor},
        {"row_factory": namedtuple_row},
        {"prepare_threshold": None},
        {"prepare_threshold": 0},
    ],
    ids=["ClientCursor", "own cursor", "row_factory", "never prepared", "prepared"],
)
def test_options_of_the_driver_do_not_matter(
    connect_args: dict[str, Any],
    engine_with: Callable[..., Engine],
    note: Any,
    seen: Seen,
) -> None:
    # A script cannot be prepared.
    prepared = connect_args.get("prepare_threshold") == 0
    ways = [way for way in WAYS if way is not by_script or not prepared] * 2
    engine = engine_with(connect_args=connect_args)
    for number, way in enumerate(ways):
        with engine.connect() as connection:
            with history.context(connection, way=number):
                way(connection, note)
            connection.execute(insert(note).values(body="after"))
            connection.commit()
    expected: list[tuple[str, Any]] = []
    for number in range(len(ways)):
        expected += [("a", {"way": number}), ("b", {"way": number}), ("after", None)]
    assert seen() == expected


def test_cursors_of_the_application_stay_what_they_are(
    engine_with: Callable[..., Engine], note: Any, seen: Seen
) -> None:
    engine = engine_with(connect_args={"cursor_factory": CountingCursor}, pool_size=1)
    engine.connect().close()  # SQLAlchemy asks some things at first
    CountingCursor.executed.clear()
    for _ in range(3):
        with engine.connect() as connection, history.context(connection, user=7):
            driver: Any = connection.connection.driver_connection
            driver.server_cursor_factory = OwnServerCursor
            connection.execute(insert(note).values(body="a"))
            connection.commit()
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        cursor = driver.cursor()
        assert isinstance(cursor, CountingCursor)
        assert cursor.shout() == "!"
        assert type(cursor).__name__ == "CountingCursor"
        with driver.cursor("name") as named:
            assert isinstance(named, OwnServerCursor)
            assert named.shout() == "?"
    assert len(CountingCursor.executed) == 3  # those of the application, and no other
    assert seen() == [("a", USER)] * 3


def test_cursors_that_are_set_later_have_the_context_at_once(
    engine_with: Callable[..., Engine], note: Any, seen: Seen
) -> None:
    engine = engine_with(pool_size=1)
    for body in "a", "b":
        with engine.connect() as connection, history.context(connection, user=7):
            driver: Any = connection.connection.driver_connection
            if body == "a":
                driver.cursor_factory = CountingCursor
            connection.execute(insert(note).values(body=body))
            connection.commit()
    assert seen() == [("a", USER), ("b", USER)]


def test_commit_of_the_application_stays_what_it_is(
    engine_with: Callable[..., Engine], note: Any, seen: Seen
) -> None:
    engine = engine_with(pool_size=1)
    committed = []

    @event.listens_for(engine, "connect")
    def count_commits(connection: Any, _: Any) -> None:
        def commit() -> None:
            committed.append(connection)
            type(connection).commit(connection)

        connection.commit = commit

    engine.connect().close()  # SQLAlchemy asks some things at first
    committed.clear()
    for _ in range(2):
        with engine.connect() as connection, history.context(connection, user=7):
            connection.execute(insert(note).values(body="a"))
            connection.commit()
    assert len(committed) == 2
    assert seen() == [("a", USER)] * 2


def test_rows_of_the_application_are_made_of_its_own_rows_only(
    engine_with: Callable[..., Engine], note: Any, seen: Seen
) -> None:
    made = []

    def one_value(value: Any) -> tuple[Any]:
        made.append(value)
        return (value,)

    engine = engine_with(connect_args={"row_factory": args_row(one_value)})
    made.clear()
    with Session(engine) as session, history.context(session, user=7):
        assert session.scalar(text("SELECT 5")) == 5
        session.execute(insert(note).values(body="a"))
        session.commit()
    assert 5 in made
    assert not any(isinstance(value, str) and "user" in value for value in made)
    assert seen() == [("a", USER)]


def test_script_with_parameters_of_a_client_cursor_has_the_current_context(
    engine_with: Callable[..., Engine], note: Any, seen: Seen
) -> None:
    engine = engine_with(connect_args={"cursor_factory": psycopg.ClientCursor})
    sql = "INSERT INTO note (body) VALUES (%s); INSERT INTO note (body) VALUES (%s)"
    with engine.connect() as connection:
        connection.exec_driver_sql(sql, ("x", "y"))
        with history.context(connection, user=7):
            connection.exec_driver_sql(sql, ("a", "b"))
            connection.exec_driver_sql(sql, ("c", "d"))
        connection.commit()
    assert seen() == [("x", None), ("y", None), *((body, USER) for body in "abcd")]


def test_client_cursor_of_the_async_driver_has_the_current_context(
    pg_url: URL, note: Any, seen: Seen
) -> None:
    async def main() -> None:
        engine = create_async_engine(
            pg_url,
            poolclass=NullPool,
            connect_args={"cursor_factory": psycopg.AsyncClientCursor},
        )
        async with AsyncSession(engine) as session, history.context(session, user=7):
            session.add(note("a"))
            await session.commit()
            await session.execute(text("SELECT 1"))
            with history.context(session, user=8):
                connection = await session.connection()
                sql = "INSERT INTO note (body) VALUES (%s)"
                await connection.exec_driver_sql(f"{sql}; {sql}", ("b", "c"))
            await session.commit()

    asyncio.run(main())
    assert seen() == [("a", USER), ("b", {"user": 8}), ("c", {"user": 8})]


def test_row_counts_and_results_are_those_of_the_statement(
    in_connection: InConnection, note: Any
) -> None:
    def work(connection: Connection) -> None:
        for user in range(3):
            with history.context(connection, user=user):
                rows = [{"body": body} for body in "abc"]
                assert connection.execute(insert(note), rows).rowcount in (3, -1)
            with history.context(connection, user=user):
                changed = connection.execute(update(note).values(body="d"))
                assert changed.rowcount == 3 * (user + 1)
            with history.context(connection, user=user):
                made = connection.execute(insert(note).values(body="e"))
                connection.execute(text("DELETE FROM note WHERE body = 'e'"))
                assert made.inserted_primary_key is not None
        connection.rollback()

    in_connection(work)
