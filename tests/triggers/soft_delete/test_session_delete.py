"""What ``Session.delete`` does to an object whose row is marked."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, event, func, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    column_property,
    mapped_column,
)

import sa_history as history
from sa_history import SoftDelete, attach
from tests.triggers.soft_delete.helpers import states
from tests.triggers.statements import sent

Stored = Callable[..., list[tuple[Any, ...]]]
InSession = Callable[[Callable[[Session], Any]], Any]


def test_an_object_that_is_deleted_stays_in_the_session_with_its_new_values(
    account: Any, in_session: InSession, stored: Stored
) -> None:
    def work(session: Session) -> None:
        one = account(id=1)
        session.add(one)
        session.commit()
        session.delete(one)
        session.flush()
        assert states(one) == {"persistent"}
        assert one in session
        assert not session.dirty
        assert not session.deleted
        with sent(session) as words:
            assert (one.id, one.name, one.is_active) == (1, "a", False)
            assert session.get(account, 1) is one
        assert words == []
        session.commit()
        assert states(one) == {"persistent"}
        assert one.is_active is False

    in_session(work)
    assert stored(account) == [(1, "a", False)]


def test_an_async_program_reads_the_values_after_the_flush(
    account: Any, pg_async_engine: AsyncEngine
) -> None:
    async def main() -> None:
        async with AsyncSession(pg_async_engine) as session:
            one = account(id=1)
            session.add(one)
            await session.commit()
            await session.refresh(one)
            await session.delete(one)
            await session.flush()
            # Here a SELECT would raise MissingGreenlet.
            assert (one.name, one.is_active) == ("a", False)

    asyncio.run(main())


def test_an_object_may_be_deleted_again_and_taken_back(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
) -> None:
    @attach(SoftDelete("deleted_at", value=func.clock_timestamp()))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        deleted_at: Mapped[datetime.datetime | None]

    create_all()
    one = Page(id=1)
    pg_session.add(one)
    pg_session.flush()
    times = []
    for _ in range(2):
        pg_session.delete(one)
        pg_session.flush()
        times.append(one.deleted_at)
    assert times[0] is not None
    assert times[0] == times[1]
    one.deleted_at = None
    pg_session.flush()
    pg_session.delete(one)
    pg_session.flush()
    assert one.deleted_at > times[0]


def test_an_object_that_was_never_flushed_is_just_taken_out(
    account: Any, pg_session: Session, stored: Stored
) -> None:
    one = account(id=1)
    pg_session.add(one)
    pg_session.expunge(one)
    pg_session.commit()
    assert stored(account) == []


def test_many_objects_of_one_flush_are_all_marked(
    account: Any, in_session: InSession, stored: Stored
) -> None:
    def work(session: Session) -> None:
        accounts = [account(id=n) for n in range(1, 6)]
        session.add_all(accounts)
        session.commit()
        for one in accounts[:4]:
            session.delete(one)
        session.commit()
        assert [one.is_active for one in accounts] == [False] * 4 + [True]

    in_session(work)


def test_one_flush_adds_changes_and_deletes(
    account: Any, pg_session: Session, stored: Stored
) -> None:
    one, two = account(id=1), account(id=2)
    pg_session.add_all([one, two])
    pg_session.commit()
    pg_session.delete(one)
    two.name = "b"
    pg_session.add(account(id=3))
    pg_session.commit()
    assert stored(account) == [(1, "a", False), (2, "b", True), (3, "a", True)]


def test_a_value_that_was_unique_among_active_rows_is_free_in_the_same_flush(
    account: Any, pg_session: Session, stored: Stored
) -> None:
    index = "CREATE UNIQUE INDEX ON account (name) WHERE is_active"
    pg_session.execute(text(index))
    one = account(id=1)
    pg_session.add(one)
    pg_session.commit()
    pg_session.delete(one)
    pg_session.add(account(id=2))
    pg_session.commit()
    assert stored(account) == [(1, "a", False), (2, "a", True)]


def test_changes_of_a_deleted_object_are_forgotten(
    account: Any, in_session: InSession, stored: Stored
) -> None:
    def work(session: Session) -> None:
        one = account(id=1)
        session.add(one)
        session.commit()
        assert one.id == 1
        one.name, one.is_active, one.id = "b", None, 7
        session.delete(one)
        session.flush()
        assert (one.id, one.name, one.is_active) == (1, "a", False)
        session.commit()

    in_session(work)
    assert stored(account) == [(1, "a", False)]


def test_what_was_changed_before_in_the_transaction_is_kept(
    account: Any, pg_session: Session, stored: Stored
) -> None:
    one = account(id=1)
    pg_session.add(one)
    pg_session.flush()
    one.name = "b"
    pg_session.flush()
    pg_session.delete(one)
    pg_session.commit()
    assert stored(account) == [(1, "b", False)]


def test_an_expired_object_is_deleted_too(
    account: Any, in_session: InSession, stored: Stored
) -> None:
    def work(session: Session) -> None:
        one = account(id=1)
        session.add(one)
        session.commit()
        session.expire(one)
        session.delete(one)
        session.commit()

    in_session(work)
    assert stored(account) == [(1, "a", False)]


def test_a_rollback_takes_the_mark_of_the_object_away(
    account: Any, in_session: InSession, stored: Stored
) -> None:
    def work(session: Session) -> None:
        one = account(id=1)
        session.add(one)
        session.commit()
        session.delete(one)
        session.flush()
        assert one.is_active is False
        session.rollback()
        assert states(one) == {"persistent"}
        assert one.is_active is True
        session.delete(one)
        session.rollback()
        assert one not in session.deleted
        session.commit()

    in_session(work)
    assert stored(account) == [(1, "a", True)]


def test_a_rollback_to_a_savepoint_takes_the_mark_away(
    account: Any, in_session: InSession, stored: Stored
) -> None:
    def work(session: Session) -> None:
        one, two = account(id=1), account(id=2)
        session.add_all([one, two])
        session.flush()
        session.delete(two)
        session.flush()
        with session.begin_nested() as savepoint:
            session.delete(one)
            session.flush()
            assert one.is_active is False
            savepoint.rollback()
        assert (one.is_active, two.is_active) == (True, False)
        with session.begin_nested():
            session.delete(one)
        assert one.is_active is False
        session.commit()

    in_session(work)
    assert stored(account, "is_active") == [(False,), (False,)]


def test_an_object_whose_row_is_gone_for_good_leaves_the_session(
    account: Any, pg_engine: Engine, in_session: InSession
) -> None:
    def work(session: Session) -> None:
        one = account(id=1)
        session.add(one)
        session.commit()
        session.connection(execution_options={"isolation_level": "READ COMMITTED"})
        assert one.name == "a"
        with pg_engine.begin() as connection, history.ignore(connection, account):
            connection.execute(text("DELETE FROM account"))
        session.delete(one)
        session.flush()
        assert one not in session
        assert states(one) == {"detached"}
        assert session.get(account, 1) is None
        session.commit()

    in_session(work)


def test_only_what_is_loaded_of_deferred_columns_is_read(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    @attach(SoftDelete("is_active"))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        is_active: Mapped[bool] = mapped_column(default=True)
        large: Mapped[str] = mapped_column(default="x", deferred=True)
        twice: Mapped[int] = column_property(func.abs(id * 2))

    create_all()
    pg_session.add(Page(id=1))
    pg_session.commit()
    pg_session.expunge_all()
    one = pg_session.get_one(Page, 1)
    pg_session.delete(one)
    pg_session.flush()
    assert inspect(one).unloaded == {"large"}
    assert (one.is_active, one.twice) == (False, 2)
    one.large = "y"
    pg_session.delete(one)
    pg_session.flush()
    assert one.large == "x"


def test_events_of_the_mapper_know_of_no_deletion(
    account: Any, pg_session: Session
) -> None:
    called: list[str] = []
    for name in ("before_delete", "after_delete", "before_update", "after_update"):
        event.listen(account, name, lambda *_, name=name: called.append(name))
    one = account(id=1)
    pg_session.add(one)
    pg_session.flush()
    pg_session.delete(one)
    pg_session.flush()
    assert called == []
    with history.ignore(pg_session, account):
        pg_session.delete(one)
        pg_session.flush()
    assert called == ["before_delete", "after_delete"]


def test_what_a_listener_of_the_flush_deletes_is_marked_and_leaves_the_session(
    account: Any, pg_session: Session, stored: Stored
) -> None:
    one, two = account(id=1), account(id=2)
    pg_session.add_all([one, two])
    pg_session.commit()

    def delete_the_other(*_: Any) -> None:
        pg_session.delete(two)

    # Listeners of one session run after those of all sessions, where marking begins.
    event.listen(pg_session, "before_flush", delete_the_other, once=True)
    pg_session.delete(one)
    pg_session.commit()
    assert (states(one), states(two)) == ({"persistent"}, {"detached"})
    assert stored(account, "id", "is_active") == [(1, False), (2, False)]
    assert pg_session.get_one(account, 2).is_active is False
