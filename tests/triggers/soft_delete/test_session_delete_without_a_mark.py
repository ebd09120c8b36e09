"""Flushes in which a row is not marked: conditions, ignoring, refusals, versions."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import DateTime, Engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.orm.exc import StaleDataError

import sa_history as history
from sa_history import (
    AfterDelete,
    Delete,
    Protect,
    Snapshot,
    SoftDelete,
    Touch,
    Update,
    Versioned,
    attach,
    old,
    track,
)
from sa_history.exc import ProtectedError
from tests.triggers.soft_delete.helpers import states
from tests.triggers.statements import sent

Stored = Callable[..., list[tuple[Any, ...]]]
InSession = Callable[[Callable[[Session], Any]], Any]


def test_an_object_that_is_not_marked_is_deleted(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
) -> None:
    @attach(SoftDelete("is_active", condition=old.kind == "100% it's :soft"))
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column("the % kind")
        is_active: Mapped[bool] = mapped_column(default=True)

    create_all()

    def work(session: Session) -> None:
        soft, hard = Account(id=1, kind="100% it's :soft"), Account(id=2, kind="b")
        session.add_all([soft, hard])
        session.commit()
        soft.kind, hard.kind = "b", "100% it's :soft"  # What is stored counts.
        session.delete(soft)
        session.delete(hard)
        session.flush()
        assert (states(soft), states(hard)) == ({"persistent"}, {"deleted"})
        session.commit()
        assert states(hard) == {"detached"}
        assert (soft.kind, soft.is_active) == ("100% it's :soft", False)

    in_session(work)
    assert stored(Account) == [(1, "100% it's :soft", False)]


@pytest.mark.parametrize("bound_to", ["session", "connection", "thread"])
def test_ignored_it_deletes_the_object(
    account: Any, pg_session: Session, stored: Stored, bound_to: str
) -> None:
    one, two = account(id=1), account(id=2)
    pg_session.add_all([one, two])
    pg_session.commit()
    block = {
        "session": lambda: history.ignore(pg_session, account, "soft_delete"),
        "connection": lambda: history.ignore(pg_session.connection(), "soft_delete"),
        "thread": lambda: history.ignore(account),
    }[bound_to]
    with block():
        pg_session.delete(one)
        pg_session.flush()
    assert states(one) == {"deleted"}
    pg_session.delete(two)
    pg_session.commit()
    assert (states(one), states(two)) == ({"detached"}, {"persistent"})
    assert stored(account) == [(2, "a", False)]


def test_a_block_that_is_left_before_the_flush_ignores_nothing(
    account: Any, pg_session: Session, stored: Stored
) -> None:
    one = account(id=1)
    pg_session.add(one)
    pg_session.commit()
    with history.ignore(pg_session, account):
        pg_session.delete(one)
    pg_session.commit()
    assert stored(account) == [(1, "a", False)]


@pytest.mark.parametrize("operation", [Delete, Update])
def test_a_refused_mark_leaves_all_as_it_was_after_the_rollback(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    operation: Any,
) -> None:
    @attach(SoftDelete("is_active"), Protect(operation))
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        is_active: Mapped[bool] = mapped_column(default=True)

    create_all()

    def work(session: Session) -> None:
        one = Account(id=1)
        session.add(one)
        session.commit()
        session.delete(one)
        with pytest.raises(ProtectedError):
            session.flush()
        session.rollback()
        assert states(one) == {"persistent"}
        assert one.is_active is True

    in_session(work)


def test_what_other_triggers_write_is_seen_too(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    recorded: Callable[..., list[Any]],
) -> None:
    @attach(SoftDelete("is_active"), Versioned("version"), Touch("at"))
    @track(Snapshot, AfterDelete)
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        is_active: Mapped[bool] = mapped_column(default=True)
        version: Mapped[int] = mapped_column(default=1)
        at: Mapped[datetime.datetime | None] = mapped_column(DateTime(timezone=True))

    create_all()

    def work(session: Session) -> None:
        one = Page(id=1)
        session.add(one)
        session.flush()
        with history.context(session, user=7):
            session.delete(one)
            session.flush()
            with sent(session) as words:
                assert (one.is_active, one.version) == (False, 2)
                assert one.at is not None
            assert words == []
        session.commit()

    in_session(work)
    assert [(e[0], e[1], *e[2:]) for e in recorded(Page, "is_active", "version")] == [
        ("snapshot", "I", True, 1, None),
        ("snapshot", "U", False, 2, {"user": 7}),
    ]


@pytest.fixture
def seat(base: type[DeclarativeBase], create_all: Callable[[], None]) -> Any:
    @attach(SoftDelete("is_active"), Versioned("version"))
    class Seat(base):  # type: ignore[misc, valid-type]
        __tablename__ = "seat"
        id: Mapped[int] = mapped_column(primary_key=True)
        guest: Mapped[str | None]
        is_active: Mapped[bool] = mapped_column(default=True)
        version: Mapped[int] = mapped_column(default=1)
        __mapper_args__ = {"version_id_col": version, "version_id_generator": False}

    create_all()
    return Seat


def test_a_row_that_somebody_else_has_changed_is_not_marked(
    seat: Any, in_session: InSession, pg_engine: Engine, stored: Stored
) -> None:
    def work(session: Session) -> None:
        one = seat(id=1)
        session.add(one)
        session.commit()
        session.connection(execution_options={"isolation_level": "READ COMMITTED"})
        assert one.version == 1
        with pg_engine.begin() as connection:
            connection.execute(text("UPDATE seat SET guest = 'Ann'"))
        session.delete(one)
        with pytest.raises(StaleDataError, match="0 were matched"):
            session.flush()
        session.rollback()
        assert (one.guest, one.version) == ("Ann", 2)
        session.delete(one)
        session.commit()
        assert (one.is_active, one.version) == (False, 3)
        one.guest = "Ben"
        session.commit()

    in_session(work)
    assert stored(seat) == [(1, "Ben", False, 4)]


def test_a_version_of_the_mapper_alone_is_compared_as_well(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    pg_engine: Engine,
) -> None:
    @attach(SoftDelete("is_active"))
    class Seat(base):  # type: ignore[misc, valid-type]
        __tablename__ = "seat"
        id: Mapped[int] = mapped_column(primary_key=True)
        is_active: Mapped[bool] = mapped_column(default=True)
        version: Mapped[int] = mapped_column()
        __mapper_args__ = {"version_id_col": version}

    create_all()
    one = Seat(id=1)
    pg_session.add(one)
    pg_session.commit()
    assert one.version == 1
    pg_session.delete(one)
    pg_session.commit()
    assert (one.is_active, one.version) == (False, 1)
    one.is_active = True
    pg_session.commit()
    pg_session.connection(execution_options={"isolation_level": "READ COMMITTED"})
    assert one.version == 2
    with pg_engine.begin() as connection:
        connection.execute(text("UPDATE seat SET version = 9"))
    pg_session.delete(one)
    with pytest.raises(StaleDataError):
        pg_session.flush()
