"""Events and contexts change in a session only where that is asked for."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)

import sa_history as history
from sa_history import track
from sa_history.exc import AppendOnlyError, EventsError

InSession = Callable[[Callable[[Session], Any]], Any]


@pytest.fixture
def account(base: type[DeclarativeBase], create_all: Callable[[], None]) -> Any:
    @track()
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    create_all()
    return Account


@pytest.fixture
def written(account: Any, pg_engine: Engine) -> Any:
    """The class, with a row, its event and the context of it."""
    with Session(pg_engine) as session, history.context(session, user="ann"):
        session.add(account(id=1, name="Ann"))
        session.commit()
    return account


def event_of(session: Session, account: Any) -> Any:
    return session.scalars(account.events.select()).one()


def names(engine: Engine, account: Any) -> list[str]:
    with Session(engine) as session:
        return [event.name for event in session.scalars(account.events.select())]


def test_a_changed_or_deleted_event_is_refused_at_the_flush(
    written: Any, in_session: InSession, pg_engine: Engine
) -> None:
    def change(session: Session) -> None:
        event = event_of(session, written)
        event.name = "Eve"
        with pytest.raises(
            EventsError,
            match=r"the session would change AccountEvent 1, .*: with "
            r"history\.editing_events\(session\): \.\.\.",
        ):
            session.commit()
        session.rollback()
        assert event.name == "Ann"
        session.delete(event)
        with pytest.raises(EventsError, match="would delete AccountEvent 1"):
            session.flush()
        session.rollback()

    in_session(change)
    assert names(pg_engine, written) == ["Ann"]


def test_a_changed_or_deleted_context_is_refused_at_the_flush(
    written: Any, in_session: InSession
) -> None:
    def change(session: Session) -> None:
        context = event_of(session, written).pgh_context
        context.metadata = {"user": "eve"}
        with pytest.raises(EventsError, match=f"would change Context {context.id}"):
            session.flush()
        session.rollback()
        session.delete(context)
        with pytest.raises(EventsError, match="would delete Context "):
            session.flush()

    in_session(change)


def test_a_statement_about_an_event_or_context_class_is_refused(
    written: Any, in_session: InSession, pg_engine: Engine
) -> None:
    def change(session: Session) -> None:
        event_class = written.events.model
        context_class = type(event_of(session, written).pgh_context)
        for statement, verb in [
            (update(event_class).values(name="Eve"), "change AccountEvent"),
            (delete(event_class), "delete AccountEvent"),
            (delete(context_class), "delete Context"),
        ]:
            with pytest.raises(EventsError, match=f"would {verb} objects, "):
                session.execute(statement)
        with pytest.raises(EventsError, match="would delete AccountEvent objects"):
            session.query(event_class).delete()
        session.execute(update(written).values(name="Bea"))

    in_session(change)
    assert names(pg_engine, written) == ["Ann"]


def test_what_is_no_change_is_flushed(written: Any, pg_session: Session) -> None:
    event = event_of(pg_session, written)
    event.name = str(event.name)
    event.remark = "an attribute of no column"
    pg_session.add(written(id=2, name="Bob"))
    pg_session.merge(event)
    pg_session.commit()


def test_events_are_changed_where_that_is_asked_for(
    written: Any, in_session: InSession, pg_engine: Engine
) -> None:
    def change(session: Session) -> None:
        with history.editing_events(session):
            event = event_of(session, written)
            event.name = "(erased)"
            event.pgh_context.metadata = {}
            session.commit()
            event_class = written.events.model
            session.execute(
                update(event_class).values(name=event_class.name + "!"),
                execution_options={"synchronize_session": False},
            )
            session.commit()

    in_session(change)
    assert names(pg_engine, written) == ["(erased)!"]

    def remove(session: Session) -> None:
        with history.editing_events(session):
            session.delete(event_of(session, written))
            session.commit()

    in_session(remove)
    assert names(pg_engine, written) == []


def test_the_block_ends_with_its_end_whatever_happens(
    written: Any, pg_session: Session, pg_engine: Engine
) -> None:
    def is_refused(session: Session) -> bool:
        event_of(session, written).name = "Eve"
        try:
            session.flush()
        except EventsError:
            return True
        finally:
            session.rollback()
        return False

    with history.editing_events(pg_session):
        with history.editing_events(pg_session):
            pass
        assert not is_refused(pg_session), "the outer block has not ended"
        with Session(pg_engine) as other:
            assert is_refused(other), "it is of the other session only"
    assert is_refused(pg_session)
    with pytest.raises(ZeroDivisionError), history.editing_events(pg_session):
        raise ZeroDivisionError
    assert is_refused(pg_session)
    with history.editing_events(pg_session):
        event_of(pg_session, written).name = "Eve"
        pg_session.expire_all()
        event_of(pg_session, written).name = "Eva"
        pg_session.autoflush = False
    with pytest.raises(EventsError, match="would change AccountEvent 1"):
        pg_session.commit()


def test_the_block_takes_any_session_and_nothing_else(
    written: Any, pg_engine: Engine, pg_async_engine: AsyncEngine
) -> None:
    scoped = scoped_session(sessionmaker(pg_engine))
    with history.editing_events(scoped):
        event_of(scoped(), written).name = "Eve"
        scoped.commit()
    scoped.remove()

    async def main() -> None:
        async with AsyncSession(pg_async_engine) as session:
            with history.editing_events(session):
                event = (await session.scalars(written.events.select())).one()
                event.name += "!"
                await session.commit()
            event.name = "no"
            with pytest.raises(EventsError, match="would change AccountEvent 1"):
                await session.commit()

    asyncio.run(main())
    assert names(pg_engine, written) == ["Eve!"]
    for other in (pg_engine, None):
        block = history.editing_events(other)  # type: ignore[arg-type]
        with pytest.raises(EventsError, match="takes a session, got"), block:
            pass


def test_an_append_only_history_is_not_opened(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    @track(append_only=True)
    class Payment(base):  # type: ignore[misc, valid-type]
        __tablename__ = "payment"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    pg_session.add(Payment(id=1))
    pg_session.commit()
    for statement in (delete(Payment.events.model), delete(Payment.events.table)):
        with history.editing_events(pg_session), pytest.raises(AppendOnlyError):
            pg_session.execute(statement)
        pg_session.rollback()


def test_events_of_another_system_are_added_with_their_own_times(
    account: Any, in_session: InSession
) -> None:
    long_ago = datetime.datetime(2019, 5, 1, tzinfo=datetime.timezone.utc)

    def add(session: Session) -> Any:
        event_class = account.events.model
        common = {"pgh_label": "snapshot", "pgh_op": "I", "pgh_created_at": long_ago}
        session.add(event_class(id=1, pgh_obj_id=1, name="Ann", **common))
        session.flush()
        values = {"id": 2, "pgh_obj_id": 2, "name": "Bob", **common}
        session.execute(insert(event_class), [values])
        session.commit()
        found = select(event_class.name, event_class.pgh_created_at)
        return [tuple(row) for row in session.execute(found.order_by("name"))]

    assert in_session(add) == [("Ann", long_ago), ("Bob", long_ago)]
