"""After errors and rollbacks to savepoints the context is that of the block.

What fails in a block, and what is taken back to a savepoint, takes settings along or
leaves them behind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import IntegrityError, ProgrammingError
from sqlalchemy.orm import Session

import sa_history as history

Add = Callable[[Session, str], None]
Seen = Callable[[], list[tuple[str, Any]]]
InSession = Callable[[Callable[[Session], Any]], Any]


@pytest.fixture(params=["sqlalchemy", "text"])
def savepoint(request: pytest.FixtureRequest) -> Callable[[Session], Any]:
    """Begin a savepoint, and return what has its rollback() and commit()."""

    class BySql:
        number = 0

        def __init__(self, session: Session) -> None:
            BySql.number += 1
            self.session, self.name = session, f"point{BySql.number}"
            session.execute(text(f"SAVEPOINT {self.name}"))

        def rollback(self) -> None:
            self.session.execute(text(f"ROLLBACK TO SAVEPOINT {self.name}"))

        def commit(self) -> None:
            self.session.execute(text(f"RELEASE SAVEPOINT {self.name}"))

    return BySql if request.param == "text" else lambda session: session.begin_nested()


Savepoint = Callable[[Session], Any]


def test_context_that_was_sent_in_a_savepoint_outlives_its_rollback(
    in_session: InSession, savepoint: Savepoint, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        with history.context(session, user=7):
            point = savepoint(session)
            add(session, "lost")
            point.rollback()
            add(session, "kept")
        add(session, "after")
        session.commit()

    in_session(work)
    assert seen() == [("kept", {"user": 7}), ("after", None)]


def test_context_that_was_left_in_a_savepoint_does_not_come_back_with_its_rollback(
    in_session: InSession, savepoint: Savepoint, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        with history.context(session, user=7):
            add(session, "inside")
        point = savepoint(session)
        add(session, "lost")
        point.rollback()
        add(session, "after")
        session.commit()

    in_session(work)
    assert seen() == [("inside", {"user": 7}), ("after", None)]


def test_block_that_begins_before_and_ends_in_a_savepoint(
    in_session: InSession, savepoint: Savepoint, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        with history.context(session, user=7):
            add(session, "inside")
            point = savepoint(session)
            add(session, "lost")
        point.rollback()
        add(session, "after")
        with history.context(session, user=8):
            point = savepoint(session)
            add(session, "inside the second")
        point.commit()
        add(session, "after the second")
        session.commit()

    in_session(work)
    assert seen() == [
        ("inside", {"user": 7}),
        ("after", None),
        ("inside the second", {"user": 8}),
        ("after the second", None),
    ]


def test_rollback_to_an_outer_savepoint_leaves_each_block_its_context(
    in_session: InSession, savepoint: Savepoint, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        with history.context(session, a=1):
            outer = savepoint(session)
            add(session, "lost")
            with history.context(session, b=2):
                inner = savepoint(session)
                add(session, "lost")
                inner.commit()
                outer.rollback()
                add(session, "inner")
            add(session, "outer")
        add(session, "after")
        session.commit()

    in_session(work)
    assert seen() == [("inner", {"a": 1, "b": 2}), ("outer", {"a": 1}), ("after", None)]


def test_error_that_is_rolled_back_to_a_savepoint_leaves_the_context_of_the_block(
    in_session: InSession, savepoint: Savepoint, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        with history.context(session, a=1):
            add(session, "first")
            point = savepoint(session)
            with history.context(session, b=2):
                add(session, "lost")
                with pytest.raises(IntegrityError):
                    session.execute(text("INSERT INTO note (body) VALUES (NULL)"))
            point.rollback()
            add(session, "outer")
        point = savepoint(session)
        with pytest.raises(IntegrityError), history.context(session, c=3):
            session.execute(text("INSERT INTO note (body) VALUES (NULL)"))
        point.rollback()
        add(session, "after")
        session.commit()

    in_session(work)
    assert seen() == [("first", {"a": 1}), ("outer", {"a": 1}), ("after", None)]


def test_commit_of_what_has_failed_rolls_back_as_ever(
    in_session: InSession, note: Any, seen: Seen
) -> None:
    def work(session: Session) -> None:
        connection = session.connection()
        with history.context(connection, user=7):
            connection.execute(insert(note).values(body="lost"))
            with pytest.raises(IntegrityError):
                connection.execute(text("INSERT INTO note (body) VALUES (NULL)"))
        session.commit()
        session.execute(insert(note).values(body="after"))
        session.commit()

    in_session(work)
    assert seen() == [("after", None)]


def test_statement_that_fails_in_the_driver_leaves_no_context_behind(
    in_session: InSession, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        add(session, "before")
        with history.context(session, user=7), pytest.raises(ProgrammingError):
            # The driver refuses it, so the transaction goes on.
            session.execute(text("SELECT :x"), {"x": object()})
        add(session, "after")
        session.commit()

    in_session(work)
    assert seen() == [("before", None), ("after", None)]


def test_script_that_rolls_back_to_a_savepoint_keeps_the_context(
    pg_session: Session, add: Add, seen: Seen
) -> None:
    pg_session.execute(text("SAVEPOINT point"))
    with history.context(pg_session, user=7):
        add(pg_session, "lost")
        connection = pg_session.connection()
        connection.exec_driver_sql("SELECT 1; ROLLBACK TO SAVEPOINT point")
        add(pg_session, "kept")
    pg_session.commit()
    assert seen() == [("kept", {"user": 7})]


@pytest.mark.parametrize("ending", ["COMMIT AND CHAIN", "COMMIT; BEGIN"])
def test_transaction_that_sql_ends_and_begins_keeps_the_context(
    ending: str, pg_session: Session, add: Add, seen: Seen
) -> None:
    with history.context(pg_session, user=7):
        add(pg_session, "a")
        pg_session.connection().exec_driver_sql(ending)
        add(pg_session, "b")
        pg_session.commit()
    assert seen() == [("a", {"user": 7}), ("b", {"user": 7})]


def test_rollback_and_chain_keeps_the_context(
    pg_session: Session, add: Add, seen: Seen
) -> None:
    with history.context(pg_session, user=7):
        add(pg_session, "lost")
        pg_session.connection().exec_driver_sql("ROLLBACK AND CHAIN")
        add(pg_session, "b")
        pg_session.commit()
    assert seen() == [("b", {"user": 7})]
