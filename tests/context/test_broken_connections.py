"""Connections that break, or are interrupted, in a block or before it."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL, Connection, Engine, NullPool, event, insert, text
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import create_async_engine

import sa_history as history

Seen = Callable[[], list[tuple[str, Any]]]
InConnection = Callable[[Callable[[Connection], Any]], Any]
USER = {"user": 7}


def test_connection_that_breaks_in_a_block_has_its_context_once_reconnected(
    in_connection: InConnection, pg_engine: Engine, note: Any, seen: Seen
) -> None:
    def work(connection: Connection) -> None:
        with history.context(connection, user=7):
            connection.execute(insert(note).values(body="lost"))
            pid = connection.scalar(text("SELECT pg_backend_pid()"))
            with pg_engine.connect() as other:
                other.execute(text("SELECT pg_terminate_backend(:p, 5000)"), {"p": pid})
            with pytest.raises(Exception, match="AdminShutdown|terminat"):
                connection.execute(text("SELECT 1"))
            assert connection.invalidated
            connection.rollback()
            connection.execute(insert(note).values(body="a"))
        connection.execute(insert(note).values(body="b"))
        connection.commit()

    in_connection(work)
    assert seen() == [("a", USER), ("b", None)]


def test_connection_that_broke_before_a_block_has_its_context_once_reconnected(
    in_connection: InConnection, pg_engine: Engine, note: Any, seen: Seen
) -> None:
    def work(connection: Connection) -> None:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
        connection.commit()
        with pg_engine.connect() as other:
            other.execute(text("SELECT pg_terminate_backend(:p, 5000)"), {"p": pid})
        with history.context(connection, user=7):
            with pytest.raises(OperationalError, match="AdminShutdown|terminat"):
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


@pytest.mark.parametrize("rows", [1, 2], ids=["execute", "executemany"])
def test_interruption_while_the_end_of_a_pipeline_is_sent_is_raised_and_no_more(
    pg_engine: Engine, note: Any, seen: Seen, rows: int
) -> None:
    """As by a timeout of gevent, which comes wherever the driver waits."""

    def wait(generator: Any, *args: Any, **options: Any) -> Any:
        if generator.__name__ != "_exit_gen":
            return type(driver).wait(driver, generator, *args, **options)
        next(generator)
        generator.close()  # or Python tells what it raises to nobody but the console
        raise Stopped

    with pg_engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        connection.execute(text("SELECT 1"))
        driver.wait = wait
        with history.context(connection, user=7), pytest.raises(Stopped):
            connection.execute(insert(note), [{"body": "a"}] * rows)
        assert driver.closed
    assert seen() == []


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
                    pytest.raises(OperationalError, match="AdminShutdown|terminat"),
                ):
                    connection.execute(insert(note).values(body="lost"))

    in_connection(work)


def test_error_on_a_closed_connection_is_the_one_of_the_driver(
    pg_engine: Engine,
) -> None:
    connection = pg_engine.connect().execution_options(stream_results=True)
    rows = connection.execute(text("SELECT generate_series(1, 5000)"))
    connection.close()
    with pytest.raises(ProgrammingError, match="InvalidCursorName"):
        rows.all()


def test_connection_that_cannot_be_had_again_is_asked_for_once(
    pg_engine: Engine,
) -> None:
    attempts = []

    def refuse(*_: Any) -> None:
        attempts.append(1)
        raise psycopg.OperationalError("the server is down")

    with pg_engine.connect() as connection:
        connection.invalidate()
        event.listen(pg_engine, "do_connect", refuse)
        with pytest.raises(OperationalError, match="the server is down"):
            connection.execute(text("SELECT 1"))
        event.remove(pg_engine, "do_connect", refuse)
    assert len(attempts) == 1
