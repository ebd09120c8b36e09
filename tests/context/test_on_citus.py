"""Settings on a server with Citus, which passes on nothing but SET LOCAL.

No server of these tests has Citus. One that is given the setting by which Citus is
known stands in for it: what is sent can be seen there, and not what Citus does with it.
That is tested by ``nox -s citus``.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    NullPool,
    create_engine,
    event,
    insert,
    text,
)
from sqlalchemy.exc import DataError
from sqlalchemy.ext.asyncio import create_async_engine

import sa_history as history

from .cursors import execute, finished, made_of
from .ways import WAYS, by_server_side_cursor, by_stream_then_write

Seen = Callable[[], list[tuple[str, Any]]]
InConnection = Callable[..., list[str]]
PROPAGATE = "SET LOCAL citus.propagate_set_commands = 'local'"
SETS = re.compile(r"(SET LOCAL [a-z_.]+ = E?'[^;]*'(; )?)+")
QUERY = re.compile(r'F\t\d+\t(?:Query|Parse\t "[^"\n]*")\s+"(.*)"')


@pytest.fixture(params=["sync", "async"])
def in_connection(request: pytest.FixtureRequest, pg_url: URL) -> InConnection:
    """Run a function with a connection, and return the statements that were sent."""

    def run(
        function: Callable[[Connection], Any], citus: bool = True, **options: Any
    ) -> list[str]:
        options |= {"poolclass": NullPool}
        if citus:
            setting = "-c citus.multi_shard_modify_mode=parallel"
            options["connect_args"] = {"options": setting}

        with tempfile.TemporaryFile("w+") as trace:

            def traced(connection: Connection) -> None:
                driver: Any = connection.connection.driver_connection
                driver.pgconn.trace(trace.fileno())
                function(connection)
                driver.pgconn.untrace()

            async def main() -> None:
                engine = create_async_engine(pg_url, **options)
                async with engine.connect() as connection:
                    await connection.run_sync(traced)

            if request.param == "sync":
                with create_engine(pg_url, **options).connect() as connection:
                    traced(connection)
            else:
                asyncio.run(main())
            trace.seek(0)
            return QUERY.findall(trace.read())

    return run


def assert_passed_on(sent: list[str], since: int = 0) -> None:
    """Check that Citus would pass on the settings, and nothing with them."""
    settings = [
        s for s in sent[since:] if "pghistory." in s and "current_setting" not in s
    ]
    assert settings
    for message in settings:
        assert SETS.fullmatch(message), message
    assert any(PROPAGATE in message for message in sent[since:])


@pytest.mark.usefixtures("writing_function")
@pytest.mark.parametrize("is_first", [True, False], ids=["first", "later"])
@pytest.mark.parametrize("isolation_level", ["READ COMMITTED", "AUTOCOMMIT"])
def test_each_way_to_write_sends_what_citus_passes_on(
    isolation_level: str,
    is_first: bool,
    in_connection: InConnection,
    note: Any,
    seen: Seen,
) -> None:
    cursors = (by_server_side_cursor, by_stream_then_write)
    ways = [w for w in WAYS if isolation_level != "AUTOCOMMIT" or w not in cursors]
    expected: list[tuple[str, Any]] = []
    for number, way in enumerate(ways):

        def work(connection: Connection, number: int = number, way: Any = way) -> None:
            if not is_first:
                with history.context(connection, warm=True):
                    connection.execute(insert(note).values(body="warm"))
                connection.commit()
            with history.context(connection, way=number):
                way(connection, note)
                with history.context(connection, inner=True):
                    way(connection, note)
                way(connection, note)
            connection.commit()

        sent = in_connection(work, isolation_level=isolation_level)
        # The first message that has settings may be the one that asks.
        begins = (n for n, s in enumerate(sent) if "inner" in s and "SET LOCAL" in s)
        assert_passed_on(sent, since=next(begins))
        if not is_first:
            expected.append(("warm", {"warm": True}))
        for keys in ({}, {"inner": True}, {}):
            expected += [("a", {"way": number, **keys}), ("b", {"way": number, **keys})]
    assert seen() == expected


def test_transaction_that_begins_in_a_context_begins_anew_if_the_server_has_citus(
    in_connection: InConnection, note: Any, seen: Seen
) -> None:
    def work(connection: Connection) -> None:
        for _ in range(2):
            with history.context(connection, user=7):
                connection.execute(insert(note).values(body="a"))
            connection.commit()

    sent = in_connection(work)
    asks = "; SELECT current_setting('citus.multi_shard_modify_mode', true)"
    assert sent[0].startswith("BEGIN; SET LOCAL")
    assert sent[0].endswith(asks)
    assert sent[1:3] == ["ROLLBACK", "BEGIN"]
    assert_passed_on(sent, since=1)
    assert sum("current_setting" in message for message in sent) == 1
    assert seen() == [("a", {"user": 7})] * 2


def test_other_servers_are_asked_once_by_a_message_that_is_sent_anyway(
    in_connection: InConnection, note: Any
) -> None:
    def late(connection: Connection) -> None:
        connection.execute(text("SELECT 1"))
        for user in (7, 8):
            with history.context(connection, user=user):
                connection.execute(insert(note).values(body="a"))
        connection.commit()

    def early(connection: Connection) -> None:
        for _ in range(2):
            with history.context(connection, user=7):
                connection.execute(insert(note).values(body="a"))
                connection.commit()

    sent = in_connection(late, citus=False)
    assert sum(PROPAGATE in message for message in sent) == 1
    assert "set_config" in sent[-3]
    sent = in_connection(early, citus=False)
    assert sum("current_setting('citus" in message for message in sent) == 1
    assert not any(PROPAGATE in message or message == "ROLLBACK" for message in sent)
    sent = in_connection(early, citus=False, isolation_level="AUTOCOMMIT")
    assert sum("current_setting('citus" in message for message in sent) == 1


@pytest.mark.parametrize("citus", [True, False])
def test_value_that_is_no_number_is_an_error_of_the_statement(
    citus: bool, in_connection: InConnection, note: Any, seen: Seen
) -> None:
    """The statement that asks in AUTOCOMMIT has the same SQLSTATE on Citus."""
    wrong = text("INSERT INTO note (id, body) VALUES (CAST(:id AS text)::int, 'a')")

    def work(connection: Connection) -> None:
        with history.context(connection, user=7):
            for _ in range(2):
                with pytest.raises(DataError, match="seven"):
                    connection.execute(wrong, {"id": "seven"})
            connection.execute(wrong, {"id": "7"})

    in_connection(work, citus=citus, isolation_level="AUTOCOMMIT")
    assert seen() == [("a", {"user": 7})]


@pytest.mark.parametrize("cursor", ["Cursor", "ClientCursor"])
def test_cursor_that_is_made_of_its_class_sends_what_citus_passes_on(
    cursor: str, in_connection: InConnection, note: Any, seen: Seen
) -> None:
    def work(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        for user in (7, 8):
            with history.context(connection, user=user):
                execute(made_of(cursor, connection), "a")
                with history.context(connection, inner=True):
                    execute(made_of(cursor, connection), "b")
            finished(driver.commit())

    sent = in_connection(work)
    # Of the message with BEGIN, Citus repeats BEGIN too, which does nothing there. What
    # is deferred until COMMIT is not on tables that Citus distributes.
    first = [s for s in sent if s.startswith("BEGIN; SET LOCAL")]
    assert all(PROPAGATE in message for message in first)
    assert_passed_on([s for s in sent if s not in first and "; COMMIT" not in s])
    assert seen() == [
        (body, {"user": user, **keys})
        for user in (7, 8)
        for body, keys in (("a", {}), ("b", {"inner": True}))
    ]


def test_pipeline_of_the_application_has_what_citus_passes_on(
    in_connection: InConnection, note: Any, seen: Seen
) -> None:
    async def pipelined_async(driver: Any) -> None:
        async with driver.pipeline():
            await driver.execute("INSERT INTO note (body) VALUES ('a')")
            await psycopg.AsyncCursor(driver).execute(
                "INSERT INTO note (body) VALUES ('b')"
            )

    def work(connection: Connection) -> None:
        connection.execute(text("SELECT 1"))
        driver: Any = connection.connection.driver_connection
        with history.context(connection, user=7):
            if isinstance(driver, psycopg.AsyncConnection):
                finished(pipelined_async(driver))
            else:
                with driver.pipeline():
                    driver.execute("INSERT INTO note (body) VALUES ('a')")
                    psycopg.Cursor(driver).execute(
                        "INSERT INTO note (body) VALUES ('b')"
                    )
        connection.commit()

    assert_passed_on(in_connection(work))
    assert seen() == [("a", {"user": 7}), ("b", {"user": 7})]


@pytest.mark.parametrize("citus", [True, False])
def test_settings_are_sent_again_after_a_savepoint_is_released(
    citus: bool, in_connection: InConnection, note: Any, seen: Seen
) -> None:
    """Citus forgets what was set since the savepoint, for nodes not reached yet."""

    def work(connection: Connection) -> None:
        connection.execute(text("SELECT 1"))
        with history.context(connection, user=7):
            with connection.begin_nested():
                connection.execute(insert(note).values(body="a"))
            connection.execute(insert(note).values(body="b"))
            connection.execute(insert(note).values(body="c"))
        connection.commit()

    sent = in_connection(work, citus=citus)
    release = next(n for n, s in enumerate(sent) if s.startswith("RELEASE"))
    assert any("pghistory." in message for message in sent[release:]) == citus
    if citus:
        assert_passed_on(sent, since=release)
    assert seen() == [(body, {"user": 7}) for body in "abc"]


def test_what_is_ignored_is_sent_before_commit_and_not_with_it(
    in_connection: InConnection, note: Any
) -> None:
    def work(connection: Connection) -> None:
        with history.context(connection, user=7):
            connection.execute(insert(note).values(body="a"))
            with history.ignore(connection, note):
                connection.commit()

    sent = in_connection(work)
    assert sent[-1] == "COMMIT"
    assert SETS.fullmatch(sent[-2])
    assert "note:*" in sent[-2]


@pytest.mark.parametrize("driver", ["psycopg2", "asyncpg"])
def test_other_drivers_send_what_citus_passes_on(
    driver: str, pg_url: URL, note: Any, seen: Seen
) -> None:
    sent: list[str] = []

    def work(connection: Connection) -> None:
        for user in (7, 8):
            with history.context(connection, user=user, note="100% :x"):
                connection.execute(insert(note).values(body="a"))
            connection.commit()

    def listen(engine: Engine) -> None:
        event.listen(engine, "before_cursor_execute", lambda *a: sent.append(a[2]))

    setting = {"citus.multi_shard_modify_mode": "parallel"}
    if driver == "psycopg2":
        connect_args: Any = {"options": "-c citus.multi_shard_modify_mode=parallel"}
        url = pg_url.set(drivername="postgresql+psycopg2")
        engine = create_engine(url, poolclass=NullPool, connect_args=connect_args)
        listen(engine)
        with engine.connect() as connection:
            work(connection)
    else:

        async def main() -> None:
            engine = create_async_engine(
                pg_url.set(drivername="postgresql+asyncpg"),
                poolclass=NullPool,
                connect_args={"server_settings": setting},
            )
            listen(engine.sync_engine)
            async with engine.connect() as connection:
                await connection.run_sync(work)

        asyncio.run(main())
    asked = [number for number, s in enumerate(sent) if "current_setting" in s]
    assert len(asked) == 1
    assert_passed_on(sent, since=asked[0] + 1)
    assert seen() == [("a", {"user": user, "note": "100% :x"}) for user in (7, 8)]


def test_past_is_told_by_what_citus_passes_on(pg_url: URL, note: Any) -> None:
    sent: list[str] = []
    setting = "-c citus.multi_shard_modify_mode=parallel"
    engine = create_engine(pg_url, connect_args={"options": setting})
    with engine.begin() as connection:
        number = connection.scalar(insert(note).values(body="a").returning(note.id))
        connection.execute(text("UPDATE note SET body = 'b'"))
    with engine.connect() as connection:
        transaction = connection.scalar(text("SELECT max(pgh_xact_id) FROM note_event"))
    with history.as_of(engine, transaction=transaction) as past:
        assert past.get(note, number).body == "b"
        told = text("SELECT current_setting('citus.propagate_set_commands')")
        driver: Any = past.connection().connection.driver_connection
        shown = driver.execute(told.text).fetchone()
        sent += shown
    assert sent == ["local"]
    engine.dispose()


def test_what_is_sent_to_be_right_on_both_servers_is_not_taken_for_citus(
    in_connection: InConnection, note: Any
) -> None:
    def work(connection: Connection) -> None:
        with history.context(connection, user=7):
            execute(made_of("Cursor", connection), "a")
            connection.execute(insert(note).values(body="b"))
            with history.context(connection, inner=True):
                connection.execute(insert(note).values(body="c"))
        connection.commit()

    sent = in_connection(work, citus=False)
    told = [number for number, message in enumerate(sent) if PROPAGATE in message]
    assert len(told) == 2
    assert any("set_config" in message for message in sent[told[-1] :])
