"""The context travels with whatever writes, and with every driver."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import psycopg
import pytest
from psycopg.rows import args_row, namedtuple_row
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    NullPool,
    create_engine,
    event,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    create_async_engine,
)
from sqlalchemy.orm import Session

import sa_history as history
from sa_history.contexts.drivers import sqlalchemy_events

Add = Callable[[Session, str], None]
Seen = Callable[[], list[tuple[str, Any]]]
InConnection = Callable[[Callable[[Connection], Any]], Any]
InSession = Callable[[Callable[[Session], Any]], Any]

USER = {"user": 7}


@pytest.fixture
def engine_with(pg_url: URL) -> Iterator[Callable[..., Engine]]:
    """Make an engine on the test's database, with options; it is disposed of."""
    engines = []

    def make(**options: Any) -> Engine:
        engines.append(create_engine(options.pop("url", pg_url), **options))
        return engines[-1]

    yield make
    for engine in engines:
        engine.dispose()


@pytest.fixture
def writing_function(pg_engine: Engine, note: Any) -> None:
    """A function and a procedure of the application that write notes."""
    with pg_engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION write_note(text) RETURNS bigint LANGUAGE sql AS"
            " 'INSERT INTO note (body) VALUES ($1) RETURNING id'"
        )


# Each way writes the notes "a" and "b".


def by_values(connection: Connection, note: Any) -> None:
    connection.execute(insert(note).values([{"body": "a"}, {"body": "b"}]))


def by_executemany(connection: Connection, note: Any) -> None:
    connection.execute(insert(note), [{"body": "a"}, {"body": "b"}])


def by_insertmanyvalues(connection: Connection, note: Any) -> None:
    statement = insert(note).returning(note.id, sort_by_parameter_order=True)
    connection.execution_options(insertmanyvalues_page_size=1)
    assert len(connection.execute(statement, [{"body": "a"}, {"body": "b"}]).all()) == 2


def by_text_without_parameters(connection: Connection, note: Any) -> None:
    connection.execute(text("INSERT INTO note (body) VALUES ('a'), ('b')"))


def by_driver_sql(connection: Connection, note: Any) -> None:
    connection.exec_driver_sql("INSERT INTO note (body) VALUES (%s)", ("a",))
    connection.exec_driver_sql("INSERT INTO note (body) VALUES ('b') ;\n")


def by_driver_sql_for_many(connection: Connection, note: Any) -> None:
    sql = "INSERT INTO note (body) VALUES (%s)"
    connection.exec_driver_sql(sql, [("a",), ("b",)])


def by_driver_sql_as_it_is(connection: Connection, note: Any) -> None:
    connection.exec_driver_sql(
        "INSERT INTO note (body) SELECT chr(n % 100) FROM generate_series(97, 98) AS n",
        execution_options={"no_parameters": True},
    )


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
    cte = insert(note).values(body="a").returning(note.id).cte()
    connection.execute(select(cte))
    connection.execute(insert(note).values(body="b"))


def by_function(connection: Connection, note: Any) -> None:
    for body in "ab":
        connection.execute(text("SELECT write_note(:body)"), {"body": body})


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


WAYS = [
    by_values,
    by_executemany,
    by_insertmanyvalues,
    by_text_without_parameters,
    by_driver_sql,
    by_driver_sql_for_many,
    by_driver_sql_as_it_is,
    by_script,
    by_block_of_plpgsql,
    by_common_table_expression,
    by_function,
    by_server_side_cursor,
    by_stream_then_write,
]
Way = Callable[[Connection, Any], None]


@pytest.mark.usefixtures("writing_function")
@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_write(
    way: Way, in_connection: InConnection, note: Any, seen: Seen
) -> None:
    def work(connection: Connection) -> None:
        with history.context(connection, user=7):
            way(connection, note)
            with history.context(connection, inner=True):
                way(connection, note)
            way(connection, note)
            way(connection, note)
        way(connection, note)
        connection.commit()

    in_connection(work)
    assert seen() == [
        *[("a", USER), ("b", USER)],
        *[("a", {**USER, "inner": True}), ("b", {**USER, "inner": True})],
        *[("a", USER), ("b", USER)] * 2,
        *[("a", None), ("b", None)],
    ]


# The driver's own cursors.


def test_cursor_of_the_driver(in_connection: InConnection, seen: Seen) -> None:
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


def test_copy(pg_session: Session, note: Any, seen: Seen) -> None:
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


def test_copy_of_the_async_driver(
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


def test_executemany_that_fails(
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


def test_copy_that_fails(pg_session: Session, add: Add, seen: Seen) -> None:
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
def test_stream_of_the_driver(pg_session: Session, note: Any, seen: Seen) -> None:
    driver: Any = pg_session.connection().connection.driver_connection
    with history.context(pg_session, user=7):
        sql = "SELECT write_note(chr(n)) FROM generate_series(97, 98) AS n"
        assert len(list(driver.cursor().stream(sql))) == 2
    assert len(list(driver.cursor().stream("SELECT write_note('c')"))) == 1
    pg_session.commit()
    assert seen() == [("a", USER), ("b", USER), ("c", None)]


@pytest.mark.usefixtures("writing_function")
def test_stream_of_the_async_driver(
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


def test_composed_statement_of_the_driver(
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


def test_statement_of_bytes_in_the_encoding_of_the_client(
    pg_session: Session, note: Any, seen: Seen
) -> None:
    driver: Any = pg_session.connection().connection.driver_connection
    driver.execute("SET client_encoding TO latin1")
    with history.context(pg_session, user=7):
        driver.execute("INSERT INTO note (body) VALUES ('ä')".encode("latin1"))
    pg_session.commit()
    assert seen() == [("ä", USER)]


# AUTOCOMMIT: each statement is a transaction of its own.


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
def test_each_way_to_write_in_autocommit(
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


def test_statement_that_fails_in_autocommit(
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


def test_long_statement_in_autocommit(
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


def test_transaction_by_sql_in_autocommit(
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


def test_autocommit_of_one_connection(pg_engine: Engine, note: Any, seen: Seen) -> None:
    with pg_engine.connect() as connection, history.context(connection, user=7):
        connection.execute(insert(note).values(body="a"))
        connection.commit()
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(insert(note).values(body="b"))
    with pg_engine.begin() as connection:
        connection.execute(insert(note).values(body="c"))
    assert seen() == [("a", USER), ("b", USER), ("c", None)]


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


# Two-phase commit.


def test_two_phase_commit(in_connection: InConnection, note: Any, seen: Seen) -> None:
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


# Connections that break.


def test_connection_that_breaks_in_a_block_and_reconnects(
    in_connection: InConnection, pg_engine: Engine, note: Any, seen: Seen
) -> None:
    def work(connection: Connection) -> None:
        with history.context(connection, user=7):
            connection.execute(insert(note).values(body="lost"))
            pid = connection.scalar(text("SELECT pg_backend_pid()"))
            with pg_engine.connect() as other:
                other.execute(text("SELECT pg_terminate_backend(:p, 5000)"), {"p": pid})
            with pytest.raises(Exception, match="terminat"):
                connection.execute(text("SELECT 1"))
            assert connection.invalidated
            connection.rollback()
            connection.execute(insert(note).values(body="a"))
        connection.execute(insert(note).values(body="b"))
        connection.commit()

    in_connection(work)
    assert seen() == [("a", USER), ("b", None)]


def test_connection_that_broke_before_a_block_begins_in_it(
    in_connection: InConnection, pg_engine: Engine, note: Any, seen: Seen
) -> None:
    def work(connection: Connection) -> None:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
        connection.commit()
        with pg_engine.connect() as other:
            other.execute(text("SELECT pg_terminate_backend(:p, 5000)"), {"p": pid})
        with history.context(connection, user=7):
            with pytest.raises(OperationalError, match="terminat"):
                connection.execute(insert(note).values(body="lost"))
            assert connection.invalidated
            connection.rollback()
            connection.execute(insert(note).values(body="a"))
            connection.commit()

    in_connection(work)
    assert seen() == [("a", USER)]


class Stopped(BaseException):
    """What ends a greenlet, or a program, wherever it is."""


def stop(cursor: Any) -> None:
    """Leave answers that the driver does not expect, and one that is yet to come."""
    pgconn = cursor.connection.pgconn
    for _ in range(3):
        pgconn.send_query_params(b"SELECT 1", [])
    pgconn.send_flush_request()
    pgconn.send_query_params(b"SELECT pg_sleep(10)", [])
    raise Stopped


class StoppedCursor(psycopg.Cursor[Any]):
    """A cursor that is stopped as it waits for an answer."""

    def execute(self, query: Any, *args: Any, **options: Any) -> Any:
        if "note" in query:
            stop(self)
        return super().execute(query, *args, **options)

    def executemany(self, *args: Any, **options: Any) -> None:
        stop(self)


class AsyncStoppedCursor(psycopg.AsyncCursor[Any]):
    """The async twin."""

    async def execute(self, query: Any, *args: Any, **options: Any) -> Any:
        if "note" in query:
            stop(self)
        return await super().execute(query, *args, **options)

    async def executemany(self, *args: Any, **options: Any) -> None:
        stop(self)


@pytest.mark.parametrize("params", [["a"], [["a"]]], ids=["execute", "executemany"])
def test_connection_that_is_stopped_as_it_waits_for_an_answer_is_not_kept(
    params: Any, engine_with: Callable[..., Engine], pg_url: URL, note: Any, seen: Seen
) -> None:
    """Not the driver's own either, which SQLAlchemy does not see."""
    method = "execute" if params == ["a"] else "executemany"
    statement = "INSERT INTO note (body) VALUES (%s)", params
    engine = engine_with(connect_args={"cursor_factory": StoppedCursor})
    with engine.connect() as connection, history.context(connection, user=7):
        driver: Any = connection.connection.driver_connection
        connection.execute(text("SELECT 1"))
        with history.context(connection, step=2), pytest.raises(Stopped):
            getattr(driver.cursor(), method)(*statement)
        assert driver.closed
        connection.invalidate()

    async def main() -> None:
        engine = create_async_engine(
            pg_url,
            poolclass=NullPool,
            connect_args={"cursor_factory": AsyncStoppedCursor},
        )
        async with engine.connect() as connection:
            with history.context(connection, user=7):
                driver: Any = (await connection.get_raw_connection()).driver_connection
                await connection.execute(text("SELECT 1"))
                with history.context(connection, step=2), pytest.raises(Stopped):
                    await getattr(driver.cursor(), method)(*statement)
                assert driver.closed
                await connection.invalidate()

    asyncio.run(main())
    assert seen() == []


def test_interruption_is_raised_as_it_is_where_the_driver_raises_another_error(
    pg_engine: Engine, note: Any, seen: Seen
) -> None:
    """It comes as a signal does, while the driver waits at the end of a pipeline."""

    def interrupt(*_: Any) -> None:
        raise Stopped

    def interrupt_what_waits() -> None:
        waits = text("SELECT FROM pg_locks WHERE pid = :pid AND NOT granted")
        with pg_engine.connect() as watching:
            while not watching.execute(waits, {"pid": pid}).all():
                pass
        signal.pthread_kill(main_thread, signal.SIGUSR1)

    main_thread = threading.get_ident()
    usual = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pg_engine.connect() as connection, pg_engine.connect() as other:
            pid = connection.scalar(text("SELECT pg_backend_pid()"))
            other.execute(text("LOCK note"))
            thread = threading.Thread(target=interrupt_what_waits, daemon=True)
            thread.start()
            with history.context(connection, user=7), pytest.raises(Stopped):
                connection.execute(insert(note).values(body="a"))
            thread.join()
            assert connection.invalidated
            connection.rollback()
            other.rollback()
            connection.execute(insert(note).values(body="b"))
            connection.commit()
    finally:
        signal.signal(signal.SIGUSR1, usual)
    assert seen() == [("b", None)]


def test_error_in_a_handler_of_an_interruption_is_that_of_the_server(
    in_connection: InConnection, pg_engine: Engine, note: Any
) -> None:
    def work(connection: Connection) -> None:
        with history.context(connection, user=7):
            pid = connection.scalar(text("SELECT pg_backend_pid()"))
            with pg_engine.connect() as other:
                other.execute(text("SELECT pg_terminate_backend(:p, 5000)"), {"p": pid})
            try:
                raise Stopped
            except Stopped:
                with (
                    history.context(connection, step=2),
                    pytest.raises(OperationalError, match="terminat"),
                ):
                    connection.execute(insert(note).values(body="lost"))

    in_connection(work)


def test_pool_that_pings(
    engine_with: Callable[..., Engine], note: Any, seen: Seen
) -> None:
    engine = engine_with(pool_pre_ping=True, pool_size=1)
    with Session(engine) as session, history.context(session, user=7):
        for _ in range(3):
            session.execute(insert(note).values(body="a"))
            session.commit()
    with history.context(ambient=True), Session(engine) as session:
        session.execute(insert(note).values(body="b"))
        session.commit()
    assert seen() == [("a", USER)] * 3 + [("b", {"ambient": True})]


# What the application makes of the driver.


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
def test_options_of_the_driver(
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


def test_cursors_that_are_set_later_write_and_are_told_at_the_next_checkout(
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
    assert seen() == [("a", None), ("b", USER)]


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


def test_script_with_parameters_of_a_client_cursor(
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


def test_client_cursor_of_the_async_driver(pg_url: URL, note: Any, seen: Seen) -> None:
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


# Other drivers.


@pytest.fixture
def psycopg2_engine(engine_with: Callable[..., Engine], pg_url: URL) -> Engine:
    return engine_with(url=pg_url.set(drivername="postgresql+psycopg2"))


@pytest.fixture
def asyncpg_engine(pg_url: URL) -> AsyncEngine:
    url = pg_url.set(drivername="postgresql+asyncpg")
    return create_async_engine(url, poolclass=NullPool)


@pytest.fixture(params=["psycopg2", "asyncpg"])
def in_other_session(
    request: pytest.FixtureRequest, psycopg2_engine: Engine, asyncpg_engine: AsyncEngine
) -> InSession:
    """Run a function with a session of another driver than psycopg."""

    def run_sync(function: Callable[[Session], Any]) -> Any:
        with Session(psycopg2_engine) as session:
            return function(session)

    def run_async(function: Callable[[Session], Any]) -> Any:
        async def main() -> Any:
            async with AsyncSession(asyncpg_engine) as session:
                return await session.run_sync(function)

        return asyncio.run(main())

    return run_sync if request.param == "psycopg2" else run_async


def test_statements_of_psycopg_are_not_listened_to(
    engine_with: Callable[..., Engine], psycopg2_engine: Engine
) -> None:
    for name, listener in sqlalchemy_events._DIALECT_LISTENERS.items():
        assert listener not in getattr(engine_with().dialect.dispatch, name)
        assert listener in getattr(psycopg2_engine.dialect.dispatch, name)


def test_dialect_that_is_imported_late_is_listened_to(
    psycopg2_engine: Engine, add: Add, seen: Seen
) -> None:
    for name, listener in sqlalchemy_events._DIALECT_LISTENERS.items():
        event.remove(PGDialect_psycopg2, name, listener)
    with Session(psycopg2_engine) as session, history.context(session, user=7):
        add(session, "late")
        session.commit()
    assert seen() == [("late", {"user": 7})]


IMPORTED_LATE = """
import sys

from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine(sys.argv[1])
engine.connect().close()

import sa_history as history

class Base(DeclarativeBase):
    pass

@history.track(history.Snapshot)
class Late(Base):
    __tablename__ = "late"
    id: Mapped[int] = mapped_column(primary_key=True)

Base.metadata.create_all(engine)
with Session(engine) as session, history.context(session, user=7):
    session.add(Late())
    session.commit()
    print(session.scalars(Late.events.select()).one().pgh_context.metadata)
"""


def test_connection_that_is_older_than_the_import_tells_the_context(
    pg_url: URL,
) -> None:
    url = pg_url.set(drivername="postgresql+psycopg2")
    process = subprocess.run(
        [
            *(sys.executable, "-c", IMPORTED_LATE),
            url.render_as_string(hide_password=False),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        encoding="utf-8",
    )
    assert (process.stdout, process.stderr) == ("{'user': 7}\n", "")


def test_other_drivers_nest_restore_and_annotate(
    in_other_session: InSession, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        for _ in range(2):
            add(session, "before")
            with history.context(session, a="O'Reilly %s :x"):
                add(session, "outer")
                with history.context(session, b=2):
                    add(session, "inner")
                add(session, "outer")
                history.annotate(session, c=3)
                add(session, "outer")
            add(session, "after")
            session.commit()

    in_other_session(work)
    outer = {"a": "O'Reilly %s :x", "c": 3}
    assert (
        seen()
        == [
            ("before", None),
            ("outer", outer),
            ("inner", {"a": "O'Reilly %s :x", "b": 2}),
            ("outer", outer),
            ("outer", outer),
            ("after", None),
        ]
        * 2
    )


def test_other_drivers_tell_each_transaction_of_a_connection(
    psycopg2_engine: Engine, note: Any, seen: Seen
) -> None:
    with psycopg2_engine.connect() as connection, history.context(connection, user=7):
        for body, end in (("a", "commit"), ("lost", "rollback"), ("b", "commit")):
            connection.execute(insert(note).values(body=body))
            getattr(connection, end)()
    assert seen() == [("a", USER), ("b", USER)]


@pytest.mark.parametrize("prepares", [True, False], ids=["prepared", "at once"])
def test_other_drivers_tell_each_transaction_of_two_phases(
    prepares: bool, psycopg2_engine: Engine, note: Any, seen: Seen
) -> None:
    with psycopg2_engine.connect() as connection:
        with history.context(connection, user=7):
            for body in "ab":
                transaction = connection.begin_twophase()
                connection.execute(insert(note).values(body=body))
                if prepares:
                    transaction.prepare()
                transaction.commit()
        with connection.begin_twophase() as transaction:
            connection.execute(insert(note).values(body="after"))
            transaction.commit()
    assert seen() == [("a", USER), ("b", USER), ("after", None)]


def test_other_drivers_tell_the_context_before_sql_as_it_is(
    in_other_session: InSession, note: Any, seen: Seen
) -> None:
    def work(session: Session) -> None:
        with history.context(session, user=7):
            by_driver_sql_as_it_is(session.connection(), note)
        session.commit()

    in_other_session(work)
    assert seen() == [("a", USER), ("b", USER)]


def test_other_drivers_have_the_ambient_context(
    in_other_session: InSession, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        add(session, "a")
        with history.context(session, user=7):
            add(session, "b")
        session.commit()

    with history.context(job="nightly"):
        in_other_session(work)
    assert seen() == [("a", {"job": "nightly"}), ("b", {"job": "nightly", **USER})]


@pytest.mark.parametrize("kind", ["sqlalchemy", "text"])
def test_other_drivers_go_back_to_savepoints(
    kind: str, in_other_session: InSession, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        points: list[Any] = []

        def begin() -> None:
            if kind == "sqlalchemy":
                points.append(session.begin_nested())
            else:
                session.execute(text("SAVEPOINT point"))

        def go_back() -> None:
            if kind == "sqlalchemy":
                points.pop().rollback()
            else:
                session.execute(text("ROLLBACK TO SAVEPOINT point"))

        add(session, "before")
        begin()
        with history.context(session, user=7):
            add(session, "lost")
            go_back()
            add(session, "inside")
        begin()
        add(session, "lost")
        go_back()
        add(session, "after")
        begin()
        with history.context(session, user=8), pytest.raises(IntegrityError):
            session.execute(text("INSERT INTO note (body) VALUES (NULL)"))
        go_back()  # with another context in force than when it failed
        add(session, "after the error")
        session.commit()

    in_other_session(work)
    assert seen() == [
        ("before", None),
        ("inside", USER),
        ("after", None),
        ("after the error", None),
    ]


def test_other_drivers_tell_the_context_before_a_server_side_cursor(
    in_other_session: InSession, writing_function: None, seen: Seen
) -> None:
    def work(session: Session) -> None:
        connection = session.connection(execution_options={"stream_results": True})
        with history.context(session, user=7):
            assert connection.execute(text("SELECT write_note('a')")).all()
        assert connection.execute(text("SELECT write_note('b')")).all()
        session.commit()

    in_other_session(work)
    assert seen() == [("a", USER), ("b", None)]


def test_other_drivers_leave_nothing_to_the_next_user(
    engine_with: Callable[..., Engine], pg_url: URL, add: Add, seen: Seen
) -> None:
    url = pg_url.set(drivername="postgresql+psycopg2")
    engine = engine_with(url=url, pool_size=1, max_overflow=0)
    with Session(engine) as first:
        block = history.context(first, user=7)
        block.__enter__()
        add(first, "lost")
    with Session(engine) as second:
        add(second, "next")
        second.commit()
    block.__exit__(None, None, None)
    assert seen() == [("next", None)]


def test_other_drivers_have_no_context_of_a_session_that_goes_on_elsewhere(
    psycopg2_engine: Engine, note: Any, seen: Seen
) -> None:
    with (
        psycopg2_engine.connect() as one,
        psycopg2_engine.connect() as other,
        Session() as session,
        history.context(session, user=7),
    ):
        for connection in (one, other):
            session.commit()
            bind = {"bind": connection}
            session.execute(insert(note).values(body="a"), bind_arguments=bind)
        one.execute(insert(note).values(body="b"))
        one.commit()
        session.commit()
    assert sorted(seen(), key=str) == [("a", USER), ("a", USER), ("b", None)]


def test_other_drivers_warn_in_autocommit(
    psycopg2_engine: Engine, asyncpg_engine: AsyncEngine, note: Any, seen: Seen
) -> None:
    def work(connection: Connection) -> None:
        connection.execute(insert(note).values(body="before"))
        with (
            history.context(connection, user=7),
            pytest.warns(UserWarning, match="in AUTOCOMMIT only the psycopg driver"),
        ):
            connection.execute(insert(note).values(body="inside"))
        with history.ignore(connection, note):
            connection.commit()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            connection.execute(insert(note).values(body="after"))

    with psycopg2_engine.connect() as connection:
        work(connection.execution_options(isolation_level="AUTOCOMMIT"))

    async def main() -> None:
        connection: AsyncConnection
        async with asyncpg_engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.run_sync(work)

    asyncio.run(main())
    assert seen() == [("before", None), ("inside", None), ("after", None)] * 2


# Another program, which sets them by itself.


def test_program_that_sets_the_id_alone_has_an_empty_context(
    pg_url: URL, note: Any, seen: Seen
) -> None:
    url = pg_url.set(drivername="postgresql").render_as_string(hide_password=False)
    told = "SELECT set_config('pghistory.context_' || %s, %s, true)"
    with psycopg.connect(url) as connection:
        for body, metadata in (("a", None), ("b", '{"user": 7}'), ("c", None)):
            connection.execute(told, ["id", str(uuid.uuid4())])
            if metadata is not None:
                connection.execute(told, ["metadata", metadata])
            connection.execute("INSERT INTO note (body) VALUES (%s)", [body])
            connection.commit()
    assert seen() == [("a", {}), ("b", USER), ("c", {})]
