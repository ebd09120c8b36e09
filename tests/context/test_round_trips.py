"""What the context costs: no network round trip, and the settings once."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import threading
from collections.abc import Callable, Iterator
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
    text,
    update,
)
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

import sa_history as history
from tests.pgbouncer import PgBouncer

from .cursors import execute, finished, made_of, stream

MARK = "mark-of-the-context"
BY = {"user": MARK}


class CountingProxy:
    """Stands between a client and the server, and counts what the client sends.

    A round trip is counted by the message with which a client asks for the answers
    to all that it has sent, Query or Sync; it sends nothing more until it has them.
    Counting packets instead would count how the system happens to cut them.
    https://www.postgresql.org/docs/current/protocol-flow.html
    """

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self.round_trips = 0
        self.sent = bytearray()
        self._connect = connect
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def count(self) -> tuple[int, int]:
        """Return the round trips since the last call, and how often MARK was sent."""
        result = self.round_trips, self.sent.count(MARK.encode())
        self.round_trips = 0
        self.sent.clear()
        return result

    def close(self) -> None:
        # shutdown() wakes the threads that wait for it; close() alone does not.
        for each in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for each in [self._listener, *self._sockets]:
            each.close()

    def _start(self, function: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=function, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = self._connect()
                self._sockets += [client, server]
                self._start(self._pump, client, server, self._messages())
                self._start(self._pump, server, client, None)

    def _pump(
        self, source: socket.socket, target: socket.socket, messages: Any
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if messages is not None:
                    messages.send(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def _messages(self) -> Any:
        """Return a generator that takes what a client sends, and counts."""

        def read() -> Any:
            buffer = bytearray()
            started, last = False, b""
            while True:
                buffer += yield
                while len(buffer) >= (5 if started else 4):
                    start = 1 if started else 0  # the first message has no type
                    length = start + int.from_bytes(buffer[start : start + 4], "big")
                    if len(buffer) < length:
                        break
                    message = bytes(buffer[:length])
                    del buffer[:length]
                    self.sent += message
                    if started:
                        # A Flush after a Sync asks for nothing more.
                        asks = b"QS" if last == b"S" else b"QSH"
                        last = message[:1]
                        self.round_trips += last in asks
                    started = True

        generator = read()
        next(generator)
        return generator


@pytest.fixture(params=["server"])
def behind(request: pytest.FixtureRequest, pg_url: URL) -> URL:
    """What the proxy stands before: the server of the tests, or a pooler before it."""
    if request.param == "pooler":
        pooler: PgBouncer = request.getfixturevalue("pgbouncer")
        return pooler.url
    return pg_url


@pytest.fixture
def proxy(behind: URL) -> Iterator[CountingProxy]:
    """A proxy that counts."""
    host = behind.host or behind.query.get("host") or "localhost"
    assert isinstance(host, str)
    port = behind.port or 5432

    def connect() -> socket.socket:
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server

    proxy = CountingProxy(connect)
    yield proxy
    proxy.close()


@pytest.fixture(params=["sync", "async"])
def through_proxy(
    request: pytest.FixtureRequest, pg_url: URL, behind: URL, proxy: CountingProxy
) -> Callable[[Callable[[Connection], Any]], Any]:
    """Run a function with a connection that goes through the proxy."""
    # The proxy reads the messages, so they are not encrypted.
    connect_args: dict[str, Any] = {"sslmode": "disable", "gssencmode": "disable"}
    if behind is not pg_url:
        connect_args |= PgBouncer.connect_args
    url = pg_url.set(host="127.0.0.1", port=proxy.port, query={})
    options: Any = {"connect_args": connect_args, "poolclass": NullPool}

    def run_sync(function: Callable[[Connection], Any]) -> Any:
        with create_engine(url, **options).connect() as connection:
            return function(connection)

    def run_async(function: Callable[[Connection], Any]) -> Any:
        async def main() -> Any:
            async with create_async_engine(url, **options).connect() as connection:
                return await connection.run_sync(function)

        return asyncio.run(main())

    return run_sync if request.param == "sync" else run_async


def orm_flush(connection: Connection, note: Any) -> None:
    with Session(connection, join_transaction_mode="rollback_only") as session:
        row = note("a")
        session.add(row)
        session.flush()
        row.body = "b"
        session.flush()


def core(connection: Connection, note: Any) -> None:
    connection.execute(insert(note).values(body="a"))
    connection.execute(update(note).where(note.body == "a").values(body="b"))


def executemany(connection: Connection, note: Any) -> None:
    connection.execute(insert(note), [{"body": str(n)} for n in range(20)])


def driver_sql_executemany(connection: Connection, note: Any) -> None:
    sql = "INSERT INTO note (body) VALUES (%s)"
    connection.exec_driver_sql(sql, [(str(n),) for n in range(20)])


def text_without_parameters(connection: Connection, note: Any) -> None:
    connection.execute(text("INSERT INTO note (body) VALUES ('a')"))


@pytest.mark.parametrize("behind", ["server", "pooler"], indirect=True)
@pytest.mark.parametrize(
    ("write", "statements"),
    [
        (orm_flush, 2),
        (core, 2),
        (executemany, 1),
        (driver_sql_executemany, 1),
        (text_without_parameters, 1),
    ],
)
def test_context_needs_no_round_trip(
    write: Callable[[Connection, Any], None],
    statements: int,
    through_proxy: Callable[[Callable[[Connection], Any]], Any],
    proxy: CountingProxy,
    note: Any,
) -> None:
    def transactions(connection: Connection) -> list[tuple[int, int]]:
        counts = []
        # Before the driver begins to prepare statements, when it does, and after.
        for _ in range(12):
            proxy.count()
            write(connection, note)
            connection.commit()
            counts.append(proxy.count())
        return counts

    def transactions_in_a_context(connection: Connection) -> list[tuple[int, int]]:
        with history.context(connection, **BY):
            return transactions(connection)

    without = through_proxy(transactions)
    within = through_proxy(transactions_in_a_context)
    assert without[0] == (statements + 2, 0)  # and BEGIN, and COMMIT
    for (trips_without, _), (trips_within, told) in zip(without, within, strict=True):
        assert trips_within <= trips_without
        assert told == 1


def test_settings_are_sent_once_in_a_transaction(
    through_proxy: Callable[[Callable[[Connection], Any]], Any],
    proxy: CountingProxy,
    note: Any,
) -> None:
    def work(connection: Connection) -> None:
        with history.context(connection, **BY):
            proxy.count()
            for _ in range(10):
                core(connection, note)
                orm_flush(connection, note)
            assert proxy.count()[1] == 1
            connection.commit()
            core(connection, note)
            assert proxy.count()[1] == 1
            history.annotate(connection, more=1)
            core(connection, note)
            assert proxy.count()[1] == 1
            point = connection.begin_nested()
            core(connection, note)
            assert proxy.count()[1] == 0
            point.rollback()
            core(connection, note)
            assert proxy.count()[1] == 1
            connection.commit()

    through_proxy(work)


def test_stream_costs_the_next_block_a_round_trip_and_no_other_one(
    through_proxy: Callable[[Callable[[Connection], Any]], Any],
    proxy: CountingProxy,
    note: Any,
) -> None:
    """libpq leaves the mode of the stream by it."""

    def work(connection: Connection) -> None:
        connection.execute(text("SELECT 1"))
        stream(connection, size=1, last=3)
        proxy.count()
        with history.context(connection, **BY):
            text_without_parameters(connection, note)
            assert proxy.count() == (2, 1)
            with history.context(connection, inner=True):
                text_without_parameters(connection, note)
            assert proxy.count() == (1, 1)

    through_proxy(work)


def test_settings_are_sent_once_with_a_server_cursor_and_what_comes_after_it(
    through_proxy: Callable[[Callable[[Connection], Any]], Any],
    proxy: CountingProxy,
    note: Any,
) -> None:
    def work(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        with history.context(connection, **BY):
            proxy.count()
            cursor = driver.cursor("named")
            finished(cursor.execute("SELECT 1"))
            finished(cursor.fetchall())
            text_without_parameters(connection, note)
            assert proxy.count()[1] == 1
            finished(cursor.close())
            connection.commit()

    through_proxy(work)


def test_server_cursor_in_autocommit_sends_nothing_that_its_transaction_has_not(
    through_proxy: Callable[[Callable[[Connection], Any]], Any],
    proxy: CountingProxy,
) -> None:
    """There is no transaction that the settings would be of."""

    def work(connection: Connection) -> None:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        driver: Any = connection.connection.driver_connection
        counts = []
        for keys in ({}, BY):
            with history.context(connection, **keys):
                proxy.count()
                cursor = driver.cursor("named", withhold=True)
                finished(cursor.execute("SELECT 1"))
                finished(cursor.close())
                counts.append(proxy.count())
        assert counts[0] == counts[1]

    through_proxy(work)


def test_inner_blocks_need_no_round_trip(
    through_proxy: Callable[[Callable[[Connection], Any]], Any],
    proxy: CountingProxy,
    note: Any,
) -> None:
    def work(connection: Connection) -> None:
        connection.execute(text("SELECT 1"))
        proxy.count()
        text_without_parameters(connection, note)
        with history.context(connection, **BY):
            text_without_parameters(connection, note)
            with history.context(connection, inner=True):
                text_without_parameters(connection, note)
            text_without_parameters(connection, note)
        text_without_parameters(connection, note)
        assert proxy.count() == (5, 3)

    through_proxy(work)


def test_savepoint_of_the_driver_needs_no_round_trip(
    through_proxy: Callable[[Callable[[Connection], Any]], Any],
    proxy: CountingProxy,
) -> None:
    """What is ignored is told before a transaction ends, not before a savepoint."""

    async def savepoint_async(driver: Any) -> None:
        async with driver.transaction():
            pass

    def work(connection: Connection) -> None:
        connection.execute(text("SELECT 1"))
        dbapi: Any = connection.connection.dbapi_connection
        proxy.count()
        with history.ignore(connection, MARK):
            if isinstance(dbapi, psycopg.Connection):
                with dbapi.transaction():
                    pass
            else:
                dbapi.run_async(savepoint_async)
        assert proxy.count() == (2, 0)  # SAVEPOINT, and RELEASE

    through_proxy(work)


def test_cursor_that_is_made_of_its_class_needs_a_round_trip_in_a_block_only(
    through_proxy: Callable[[Callable[[Connection], Any]], Any],
    proxy: CountingProxy,
    note: Any,
) -> None:
    def work(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        write = functools.partial(execute, made_of("ClientCursor", connection), "a")
        proxy.count()
        write()
        assert proxy.count() == (2, 0)  # with BEGIN
        with history.context(connection, **BY):
            write()
            assert proxy.count() == (2, 1)
            finished(driver.commit())  # which takes the settings along
            assert proxy.count() == (1, 1)
            write()
            assert proxy.count() == (2, 1)
        write()
        assert proxy.count() == (2, 0)
        finished(driver.commit())
        write()
        finished(driver.commit())
        assert proxy.count() == (4, 0)

    through_proxy(work)


def test_transaction_of_the_driver_sends_settings_once_before_it_ends(
    pg_url: URL, proxy: CountingProxy, note: Any
) -> None:
    url = pg_url.set(host="127.0.0.1", port=proxy.port, query={})
    options: Any = {"sslmode": "disable", "gssencmode": "disable"}
    engine = create_engine(url, poolclass=NullPool, connect_args=options)
    with engine.connect() as connection, history.context(connection, **BY):
        driver: Any = connection.connection.driver_connection
        proxy.count()
        with driver.transaction():
            execute(made_of("ClientCursor", connection), "a")
            assert proxy.count() == (3, 1)  # with BEGIN, and the settings
        assert proxy.count() == (2, 1)  # the settings, and COMMIT


def test_reading_outside_of_a_block_sends_nothing_more(
    through_proxy: Callable[[Callable[[Connection], Any]], Any],
    proxy: CountingProxy,
    note: Any,
) -> None:
    def work(connection: Connection) -> None:
        proxy.count()
        connection.execute(text("SELECT 1"))
        connection.execute(text("SELECT 2"))
        connection.rollback()
        assert b"set_config" not in proxy.sent
        assert proxy.count() == (4, 0)

    through_proxy(work)


def test_context_is_looked_for_once_in_a_transaction(
    pg_engine: Engine, note: Any
) -> None:
    """However many statements write in it; else each would take longer."""

    def lookups(connection: Connection) -> Any:
        return connection.scalar(
            text(
                "SELECT seq_scan + idx_scan FROM pg_stat_xact_user_tables"
                " WHERE relname = 'pghistory_context'"
            )
        )

    with pg_engine.connect() as connection, history.context(connection, user=7):
        connection.execute(insert(note).values(body="a"))
        once = lookups(connection)
        assert once > 0
        for body in "bc":
            connection.execute(insert(note).values(body=body))
        assert lookups(connection) == once
