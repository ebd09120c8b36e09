"""Ignoring sends nothing by itself."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, insert, text, update
from sqlalchemy.orm import Session

import sa_history as history

InSession = Callable[[Callable[[Session], Any]], Any]


def test_nothing_is_sent_by_entering_and_leaving(
    pg_engine: Engine, pg_session: Session, note: Any
) -> None:
    statements: list[str] = []
    event.listen(
        pg_engine, "before_cursor_execute", lambda *args: statements.append(args[2])
    )
    with history.ignore(pg_session, note), history.ignore("x"):
        pass
    assert statements == []
    assert not pg_session.in_transaction()


def round_trips(connection: Connection, work: Callable[[], None]) -> tuple[int, int]:
    """Return how often the client asks for answers, and how often it tells settings.

    libpq itself writes down each message that it sends.
    """
    pgconn = connection.connection.driver_connection.pgconn  # type: ignore[union-attr]
    with tempfile.TemporaryFile() as file:
        pgconn.trace(file.fileno())
        work()
        pgconn.untrace()
        file.seek(0)
        sent = [line for line in file.read().splitlines() if b"\tF\t" in line]
    asking = [line for line in sent if line.split(b"\t")[3] in (b"Query", b"Sync")]
    # What tells is a Bind, or the Query that begins the transaction.
    telling = [line for line in sent if b"SET LOCAL" in line or b"\tBind\t" in line]
    telling = [line for line in telling if b"note:x" in line]
    return len(asking), len(telling)


@pytest.mark.parametrize("kind", ["orm", "core", "executemany", "text"])
def test_ignoring_needs_no_round_trip(
    kind: str, in_session: InSession, note: Any
) -> None:
    def transaction(session: Session) -> None:
        if kind == "orm":
            session.add(note("a"))
            session.flush()
            session.execute(update(note).values(body="b"))
        elif kind == "core":
            session.execute(insert(note).values(body="a"))
            session.execute(update(note).values(body="b"))
        elif kind == "executemany":
            rows = [{"body": str(n)} for n in range(5)]
            session.execute(insert(note), rows)
        else:
            session.execute(text("INSERT INTO note (body) VALUES ('a')"))

    def work(session: Session) -> None:
        connection = session.connection()

        def without() -> None:
            transaction(session)

        def within() -> None:
            with history.ignore(session, note, "x"):
                transaction(session)

        def within_a_context() -> None:
            with history.context(session, user=7):
                within()

        for _ in range(3):  # before the driver begins to prepare statements
            expected, told = round_trips(connection, without)
            assert told == 0
            for inside in (within, within_a_context):
                session.rollback()
                connection = session.connection()
                assert round_trips(connection, inside) == (expected, 1)
            session.rollback()
            connection = session.connection()

    in_session(work)


def test_commit_after_the_block_needs_no_round_trip(
    in_session: InSession, note: Any
) -> None:
    def work(session: Session) -> None:
        def within() -> None:
            with history.ignore(session, note, "x"):
                session.execute(insert(note).values(body="a"))

        within()
        assert round_trips(session.connection(), session.commit) == (1, 0)

    in_session(work)
