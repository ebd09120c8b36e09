"""AUTOCOMMIT: each statement is a transaction of its own, with its context."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    NullPool,
    create_engine,
    insert,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine

import sa_history as history

from .ways import WAYS, by_server_side_cursor, by_stream_then_write

Seen = Callable[[], list[tuple[str, Any]]]
InConnection = Callable[[Callable[[Connection], Any]], Any]
USER = {"user": 7}


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


@pytest.mark.usefixtures("writing_function")
def test_each_way_to_write_in_autocommit_has_the_current_context(
    in_autocommit: InConnection, note: Any, seen: Seen
) -> None:
    # A server-side cursor needs a transaction.
    ways = [w for w in WAYS if w not in (by_server_side_cursor, by_stream_then_write)]

    def work(connection: Connection) -> None:
        for number, way in enumerate(ways):
            with history.context(connection, way=number):
                way(connection, note)
                way(connection, note)
            connection.execute(insert(note).values(body="after"))

    in_autocommit(work)
    expected: list[tuple[str, Any]] = []
    for number in range(len(ways)):
        expected += [("a", {"way": number}), ("b", {"way": number})] * 2
        expected += [("after", None)]
    assert seen() == expected


def test_statement_after_one_that_failed_in_autocommit_has_its_context(
    in_autocommit: InConnection, note: Any, seen: Seen
) -> None:
    def work(connection: Connection) -> None:
        with history.context(connection, user=7):
            connection.execute(insert(note).values(body="a"))
            with pytest.raises(IntegrityError):
                connection.execute(text("INSERT INTO note (body) VALUES (NULL)"))
            connection.execute(insert(note).values(body="b"))
            # Each was executed once: the one that failed has taken its number.
            ids = connection.scalars(select(note.id).order_by(note.id)).all()
            assert ids == [1, 3]

    in_autocommit(work)
    assert seen() == [("a", USER), ("b", USER)]


def test_nothing_is_sent_after_the_end_of_a_statement_in_autocommit(
    in_autocommit: InConnection, note: Any, tmp_path: Path
) -> None:
    """PgBouncer would take it for the beginning of another, and wait for the rest."""
    trace = tmp_path / "trace"

    def work(connection: Connection) -> None:
        pgconn = connection.connection.driver_connection.pgconn  # type: ignore[union-attr]
        with history.context(connection, user=7), trace.open("w") as file:
            pgconn.trace(file.fileno())
            connection.execute(insert(note).values(body="a"))
            pgconn.untrace()

    in_autocommit(work)
    messages = [line.split("\t") for line in trace.read_text().splitlines()]
    sent = [name for _, sender, _, name, *_ in messages if sender == "F"]
    assert sent == ["Parse", "Bind", "Describe", "Execute"] * 2 + ["Sync"]


def test_long_statement_in_autocommit_is_sent_as_a_whole(
    in_autocommit: InConnection, note: Any, seen: Seen
) -> None:
    """It is not sent as a whole when the answers of the context are there."""
    long = "a" * 20_000_000

    def work(connection: Connection) -> None:
        with history.context(connection, user=7):
            connection.execute(insert(note).values(body=long))

    in_autocommit(work)
    assert seen() == [(long, USER)]


@pytest.mark.parametrize(
    "statement",
    [
        "VACUUM note",
        "VACUUM note;",
        "VACUUM /* now; not later */ note",
        "CREATE INDEX CONCURRENTLY note_body ON note (body)",
        "CREATE DATABASE {database}_other",
    ],
)
def test_what_cannot_be_in_a_transaction_works_in_a_block(
    statement: str, in_autocommit: InConnection, pg_url: URL, note: Any, seen: Seen
) -> None:
    def work(connection: Connection) -> None:
        with history.context(connection, user=7):
            connection.execute(insert(note).values(body="a"))
            connection.execute(text(statement.format(database=pg_url.database)))
            connection.execute(insert(note).values(body="b"))
        connection.execute(text(f"DROP DATABASE IF EXISTS {pg_url.database}_other"))

    in_autocommit(work)
    assert seen() == [("a", USER), ("b", USER)]


def test_what_cannot_be_in_a_transaction_is_refused_in_one(
    in_connection: InConnection, note: Any
) -> None:
    def work(connection: Connection) -> None:
        for before in (), ("SELECT 1",):
            for statement in before:
                connection.execute(text(statement))
            with history.context(connection, user=7):
                with pytest.raises(DBAPIError) as refused:
                    connection.execute(text("VACUUM note"))
                assert isinstance(
                    refused.value.orig, psycopg.errors.ActiveSqlTransaction
                )
            connection.rollback()

    in_connection(work)


def test_transaction_by_sql_in_autocommit_has_the_current_context(
    in_autocommit: InConnection, note: Any, seen: Seen
) -> None:
    def work(connection: Connection) -> None:
        with history.context(connection, user=7):
            connection.execute(text("BEGIN"))
            connection.execute(insert(note).values(body="a"))
        connection.execute(insert(note).values(body="b"))
        connection.execute(text("COMMIT"))
        with history.context(connection, user=8):
            connection.execute(insert(note).values(body="c"))

    in_autocommit(work)
    assert seen() == [("a", USER), ("b", None), ("c", {"user": 8})]


COMMITTING = """
CREATE PROCEDURE write_and_commit() LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO note (body) VALUES ('a');
  COMMIT;
  INSERT INTO note (body) VALUES ('b');
END $$
"""


def test_block_that_commits_works_in_autocommit(
    in_autocommit: InConnection, note: Any, seen: Seen
) -> None:
    def work(connection: Connection) -> None:
        connection.execute(text(COMMITTING))
        with (
            history.context(connection, user=7),
            pytest.warns(UserWarning, match="commits"),
        ):
            connection.execute(
                text("DO $$ BEGIN CALL write_and_commit(); COMMIT; END $$")
            )

    in_autocommit(work)
    assert seen() == [("a", None), ("b", None)]


def test_procedure_that_commits_works_in_autocommit(
    in_autocommit: InConnection, note: Any, seen: Seen
) -> None:
    """Before PostgreSQL 18 it may commit in company, and has the context until then."""
    versions = []

    def work(connection: Connection) -> None:
        versions.append(connection.dialect.server_version_info)
        connection.execute(text(COMMITTING))
        with history.context(connection, user=7), warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            connection.execute(text("CALL write_and_commit()"))

    in_autocommit(work)
    first = USER if versions[0] < (18,) else None
    assert seen() == [("a", first), ("b", None)]


def test_autocommit_of_one_connection_ends_with_it(
    pg_engine: Engine, note: Any, seen: Seen
) -> None:
    with pg_engine.connect() as connection, history.context(connection, user=7):
        connection.execute(insert(note).values(body="a"))
        connection.commit()
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(insert(note).values(body="b"))
    with pg_engine.begin() as connection:
        connection.execute(insert(note).values(body="c"))
    assert seen() == [("a", USER), ("b", USER), ("c", None)]
