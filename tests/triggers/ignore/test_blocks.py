"""A block of ``ignore``: where it begins and ends, and blocks inside of blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

import sa_history as history
from sa_history.exc import IgnoreError

Add = Callable[[Session, str], None]
Seen = Callable[[], list[tuple[str, str]]]
InSession = Callable[[Callable[[Session], Any]], Any]


def test_trigger_does_not_run_in_the_block_and_runs_again_after_it(
    in_session: InSession, note: Any, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        add(session, "before")
        with history.ignore(session, note, "x"):
            add(session, "inside")
            add(session, "inside again")
        add(session, "after")
        session.commit()
        add(session, "next transaction")
        session.commit()

    in_session(work)
    assert seen() == [
        ("before", "xy"),
        ("inside", "y"),
        ("inside again", "y"),
        ("after", "xy"),
        ("next transaction", "xy"),
    ]


def test_blocks_inside_of_one_another_add_up(
    in_session: InSession, note: Any, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        with history.ignore(session, note, "x"):
            with history.ignore(session, note, "y"):
                add(session, "both")
                with history.ignore(session, note, "x"):
                    add(session, "twice")
                add(session, "both again")
            add(session, "one")
        add(session, "none")
        session.commit()

    in_session(work)
    assert seen() == [
        ("both", ""),
        ("twice", ""),
        ("both again", ""),
        ("one", "y"),
        ("none", "xy"),
    ]


def test_blocks_may_end_in_any_order(
    pg_session: Session, note: Any, add: Add, seen: Seen
) -> None:
    blocks = [
        history.ignore(pg_session, note, name) for name in ("x", "y", "x", "y", "x")
    ]
    for block in blocks:
        block.__enter__()
    for number, block in enumerate(blocks):
        add(pg_session, str(number))
        block.__exit__(None, None, None)
    add(pg_session, "after")
    pg_session.commit()
    assert seen() == [
        *[("0", ""), ("1", ""), ("2", ""), ("3", "")],
        *[("4", "y"), ("after", "xy")],
    ]


def test_blocks_of_the_thread_the_connection_and_the_session_add_up(
    pg_session: Session, note: Any, add: Add, seen: Seen
) -> None:
    connection = pg_session.connection()
    with history.ignore(connection, note, "x"):
        add(pg_session, "connection")
        with history.ignore("y"):
            add(pg_session, "thread")
        with history.ignore(pg_session, note, "y"):
            add(pg_session, "session")
    pg_session.commit()
    assert seen() == [("connection", "y"), ("thread", ""), ("session", "")]


def test_exception_that_leaves_the_block_ends_it(
    in_session: InSession, note: Any, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        def fail() -> None:
            with history.ignore(session, note, "x"):
                add(session, "inside")
                raise KeyError

        with pytest.raises(KeyError):
            fail()
        add(session, "after")
        session.commit()

    in_session(work)
    assert seen() == [("inside", "y"), ("after", "xy")]


def test_what_counts_is_when_the_statement_is_executed(
    pg_session: Session, note: Any, seen: Seen
) -> None:
    with history.ignore(pg_session, note):
        pg_session.add(note("flushed later"))
    pg_session.commit()
    pg_session.add(note("flushed inside"))
    with history.ignore(pg_session, note):
        pg_session.commit()
    assert seen() == [("flushed later", "xy"), ("flushed inside", "")]


def test_block_can_be_entered_again_once_it_is_left(
    pg_session: Session, note: Any, add: Add, seen: Seen
) -> None:
    block = history.ignore(pg_session, note, "x")
    for body in "ab":
        with block:
            add(pg_session, body)
            with pytest.raises(IgnoreError, match="this block is entered already"):
                block.__enter__()
        add(pg_session, "between")
    pg_session.commit()
    assert seen() == [("a", "y"), ("between", "xy"), ("b", "y"), ("between", "xy")]


def test_transactions_that_end_in_the_block(
    in_session: InSession, note: Any, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        with history.ignore(session, note, "x"):
            add(session, "a")
            session.commit()
            add(session, "b")
            session.commit()
            add(session, "lost")
            session.rollback()
            add(session, "c")
            session.commit()
            session.execute(text("SELECT 1"))
        add(session, "after")
        session.commit()

    in_session(work)
    assert seen() == [("a", "y"), ("b", "y"), ("c", "y"), ("after", "xy")]


@pytest.mark.parametrize("where", ["enters", "leaves", "both"])
def test_block_that_begins_or_ends_in_a_failed_transaction_ignores_what_is_inside(
    where: str, in_session: InSession, note: Any, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        block = history.ignore(session, note, "x")
        if where == "leaves":
            block.__enter__()
            add(session, "lost")
        with pytest.raises(IntegrityError):
            session.execute(text("INSERT INTO note (body) VALUES (NULL)"))
        if where != "leaves":
            block.__enter__()
        with pytest.raises(DBAPIError, match="InFailedSqlTransaction"):
            session.execute(text("SELECT 1"))
        if where != "enters":
            block.__exit__(None, None, None)
        session.rollback()
        add(session, "next")
        if where == "enters":
            block.__exit__(None, None, None)
        add(session, "after")
        session.commit()

    in_session(work)
    assert seen() == [("next", "y" if where == "enters" else "xy"), ("after", "xy")]
