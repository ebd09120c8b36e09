"""What a pooler hands from client to client carries no context along."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL, Connection, create_engine, insert, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

import sa_history as history
from tests.pgbouncer import PgBouncer

BACKEND = "SELECT pg_backend_pid()"
SETTINGS = """
SELECT concat(
  current_setting('pghistory.context_id', true),
  current_setting('pghistory.context_metadata', true)
)
"""

Client = Callable[[Callable[[Connection], None]], None]


@pytest.fixture
def one_server_connection(
    new_pgbouncer: type[PgBouncer], pg_url: URL
) -> Iterator[PgBouncer]:
    """A pooler that has one connection for all of its clients."""
    with new_pgbouncer(pg_url, servers=1) as pgbouncer:
        yield pgbouncer


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest, one_server_connection: PgBouncer) -> Client:
    """Run a function with a connection to the pooler, and disconnect."""
    url, connect_args = one_server_connection.url, one_server_connection.connect_args

    def run_sync(function: Callable[[Connection], None]) -> None:
        engine = create_engine(url, connect_args=connect_args)
        with engine.connect() as connection:
            function(connection)
        engine.dispose()

    def run_async(function: Callable[[Connection], None]) -> None:
        async def main() -> None:
            engine = create_async_engine(url, connect_args=connect_args)
            async with engine.connect() as connection:
                await connection.run_sync(function)
            await engine.dispose()

        asyncio.run(main())

    return run_sync if request.param == "sync" else run_async


@pytest.fixture
def other(one_server_connection: PgBouncer) -> Iterator[psycopg.Connection[Any]]:
    """Another client of the pooler, which knows of no context."""
    dsn = one_server_connection.url.set(drivername="postgresql").render_as_string()
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as connection:
        yield connection


def commit(connection: Connection) -> None:
    connection.commit()


def roll_back(connection: Connection) -> None:
    connection.rollback()


def fail(connection: Connection) -> None:
    with pytest.raises(DBAPIError):
        connection.execute(text("SELECT 1 / 0"))
    connection.rollback()


def write_in_autocommit(connection: Connection) -> None:
    connection.rollback()
    connection.execution_options(isolation_level="AUTOCOMMIT")
    connection.execute(text("SELECT 1"))


KEPT = {commit: [1, 2], roll_back: [], fail: [], write_in_autocommit: [2]}
"""Which of the first client's rows are there in the end."""


@pytest.mark.parametrize("ending", KEPT)
def test_next_client_of_a_server_connection_has_no_context(
    ending: Callable[[Connection], None],
    client: Client,
    other: psycopg.Connection[Any],
    entry: Any,
    recorded: Callable[..., list[tuple[Any, ...]]],
) -> None:
    backends: list[int] = []

    def ask(sql: str) -> Any:
        row = other.execute(sql).fetchone()
        assert row is not None
        return row[0]

    def work(connection: Connection) -> None:
        with history.context(connection, user="first"):
            for id_ in (1, 2):
                row = {"id": id_, "worker": 0, "version": 1, "author": "first"}
                connection.execute(insert(entry).values(row))
                backends.append(connection.scalars(text(BACKEND)).one())
                ending(connection)
                # The first client is in its block still, and in no transaction.
                other.execute(f"INSERT INTO entry VALUES ({id_ + 10}, 1, 1)")
                assert ask(SETTINGS) == ""
                backends.append(ask(BACKEND))

    client(work)
    assert len(set(backends)) == 1
    contexts = {id_: context for _, _, id_, context in recorded(entry, "id")}
    first = {id_: {"user": "first"} for id_ in KEPT[ending]}
    assert contexts == first | {11: None, 12: None}


BREAK = """
WITH lost AS (INSERT INTO entry VALUES (:id, 1, 1) RETURNING id)
SELECT pg_terminate_backend(pg_backend_pid()) FROM lost
"""


def test_client_whose_server_connection_breaks_connects_anew(
    client: Client, entry: Any, recorded: Callable[..., list[tuple[Any, ...]]]
) -> None:
    kept = range(1, 20)

    def work(connection: Connection) -> None:
        for id_ in kept:
            row = {"id": id_, "worker": 0, "version": 1, "author": None}
            connection.execute(text("SELECT 1"))
            with history.context(connection, user=id_):
                # The context travels with this statement, and has no answer either.
                with pytest.raises(DBAPIError) as caught:
                    connection.execute(text(BREAK), {"id": -id_})
                assert caught.value.connection_invalidated
                connection.rollback()
                connection.execute(insert(entry).values(row))
                connection.commit()

    client(work)
    found = [(id_, context) for _, _, id_, context in recorded(entry, "id")]
    assert found == [(id_, {"user": id_}) for id_ in kept]
