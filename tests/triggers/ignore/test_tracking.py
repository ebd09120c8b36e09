"""Tracking that is ignored, what is not ignorable, and the context beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, delete, insert, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import Delete, Protect, Update, attach, track
from sa_history.exc import AppendOnlyError, IgnoreError, ProtectedError
from tests.triggers.ignore.helpers import mark

InSession = Callable[[Callable[[Session], Any]], Any]
Recorded = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def account(
    base: type[DeclarativeBase], create_all: Callable[[], None], level: str
) -> Any:
    """A model that is tracked twice, and protected in several ways."""

    @attach(
        Protect(Delete, level=level),
        Protect(Update, level=level, name="never", ignorable=False),
    )
    @track(
        level=level,
        events="log",
        event_table="account_log",
        append_only=True,
        context=None,
    )
    @track(level=level, append_only=True)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        balance: Mapped[int]

    create_all()
    return Account


def counts(session: Session) -> tuple[int, int]:
    """Return how many events the two tables have."""
    return (
        session.scalar(text("SELECT count(*) FROM account_event")),
        session.scalar(text("SELECT count(*) FROM account_log")),
    )  # type: ignore[return-value]


def test_tracking_is_ignored_by_the_name_of_its_attribute(
    account: Any, in_session: InSession
) -> None:
    def work(session: Session) -> None:
        with history.ignore(session, account, "events"):
            session.execute(insert(account).values(id=1, balance=1))
            assert counts(session) == (0, 1)
            with pytest.raises(ProtectedError), session.begin_nested():
                session.execute(delete(account))
            with pytest.raises(ProtectedError), session.begin_nested():
                session.execute(text("TRUNCATE account"))
        with history.ignore(session, account, "log"):
            session.execute(insert(account).values(id=2, balance=1))
        assert counts(session) == (1, 1)
        with history.ignore(session, account, "events", "log"):
            session.execute(insert(account).values(id=3, balance=1))
        assert counts(session) == (1, 1)
        session.execute(insert(account).values(id=4, balance=1))
        assert counts(session) == (2, 2)

    in_session(work)


def test_ignored_model_leaves_no_event_and_is_not_protected(
    account: Any, in_session: InSession
) -> None:
    def work(session: Session) -> None:
        session.execute(insert(account).values(id=1, balance=1))
        assert counts(session) == (1, 1)
        with history.ignore(session, account):
            session.execute(insert(account).values(id=2, balance=1))
            session.execute(delete(account).where(account.id == 2))
            session.execute(text("TRUNCATE account"))
            session.execute(insert(account).values(id=3, balance=1))
        assert counts(session) == (1, 1)
        with pytest.raises(ProtectedError), session.begin_nested():
            session.execute(delete(account))
        assert counts(session) == (1, 1)
        with history.ignore(session, account, "protect_delete"):
            session.execute(delete(account))
        assert counts(session)[0] > 1

    in_session(work)


EVERYTHING = '["account:*", "account:never", "*:never", "account_event:*", "*:*", "*"]'


def test_append_only_and_what_is_not_ignorable_hold_whatever_a_client_sets(
    account: Any, pg_session: Session
) -> None:
    pg_session.execute(insert(account).values(id=1, balance=1))
    pg_session.commit()

    def check() -> None:
        for statement, error in (
            ("UPDATE account SET balance = 2", ProtectedError),
            ("UPDATE account_event SET balance = 2", AppendOnlyError),
            ("DELETE FROM account_event", AppendOnlyError),
            ("TRUNCATE account_log", AppendOnlyError),
        ):
            with pytest.raises(error), pg_session.begin_nested():
                pg_session.execute(text(statement))

    check()
    with history.ignore(pg_session, account):
        check()
    with history.ignore("never", "append_only", "account_event_append_only", "*"):
        check()
    pg_session.rollback()
    pg_session.execute(
        text("SELECT set_config('pghistory.ignore', :s, true)"), {"s": EVERYTHING}
    )
    check()
    pg_session.execute(delete(account))  # what can be ignored is
    assert counts(pg_session) == (1, 1)


def test_tracking_that_is_not_ignorable_holds_whatever_a_client_sets(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    level: str,
) -> None:
    @attach(Protect(Delete))
    @track(level=level, ignorable=False)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    with pytest.raises(IgnoreError, match="Account has no trigger 'events'"):
        history.ignore(pg_session, Account, "events")
    with history.ignore(pg_session, Account):
        pg_session.execute(insert(Account).values(id=1))
        pg_session.execute(delete(Account))
    setting = {"s": '["account:*", "account:events", "*:events"]'}
    pg_session.execute(text("SELECT set_config('pghistory.ignore', :s, true)"), setting)
    pg_session.execute(insert(Account).values(id=2))
    events = pg_session.execute(text("SELECT pgh_op, id FROM account_event")).all()
    assert [tuple(event) for event in events] == [("I", 1), ("D", 1), ("I", 2)]


def test_name_that_is_not_ignorable_is_not_offered(
    account: Any, pg_session: Session
) -> None:
    with pytest.raises(IgnoreError, match="'never' .*it has protect_delete, events, l"):
        history.ignore(pg_session, account, "never")
    for table in ("account_event", "account_log", "pghistory_context"):
        with pytest.raises(IgnoreError, match="has no trigger that can be ignored"):
            history.ignore(pg_session, account.metadata.tables[table])
    with pytest.raises(IgnoreError, match="has no trigger that can be ignored"):
        history.ignore(pg_session, account.events.model)


def test_a_model_that_cannot_be_ignored_is_told_what_its_owner_can_do(
    base: type[DeclarativeBase], pg_session: Session
) -> None:
    @track(ignorable=False)
    class Item(base):  # type: ignore[misc, valid-type]
        __tablename__ = "item"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(IgnoreError, match="ignorable=False; the owner of the table"):
        history.ignore(pg_session, Item)


def test_context_and_what_is_ignored_change_by_themselves(
    in_session: InSession,
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    recorded: Recorded,
    level: str,
    pg_engine: Engine,
) -> None:
    @attach(mark("x"))
    @track(level=level)
    class Note(base):  # type: ignore[misc, valid-type]
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        marks: Mapped[str] = mapped_column(server_default="")

    create_all()

    def work(session: Session) -> None:
        def write(number: int) -> None:
            session.execute(insert(Note).values(id=number))

        with history.context(session, user=1):
            write(1)
            with history.ignore(session, Note, "x"):
                write(2)
                with history.context(session, user=2):
                    write(3)
                    with history.ignore(session, Note, "events"):
                        write(4)
                    write(5)
                point = session.begin_nested()
                history.annotate(session, more=True)
                write(99)
                point.rollback()
                write(6)
            write(7)
        with history.ignore(session, Note):
            write(8)
            with history.context(session, user=3):
                write(9)
            session.commit()
        write(10)
        session.commit()

    in_session(work)
    one, both = {"user": 1, "more": True}, {"user": 2}
    assert [event[2:] for event in recorded(Note, "id", "marks")] == [
        (1, "x", one),
        (2, "", one),
        (3, "", both),
        (5, "", both),
        (6, "", one),
        (7, "x", one),
        (10, "x", None),
    ]
