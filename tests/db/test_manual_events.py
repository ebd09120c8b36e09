"""Events that the application creates by ``create_event``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, delete, text
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
from sa_history import Manual, Snapshot, track
from sa_history.exc import EventsError
from tests.db.helpers import BY, people

Recorded = Callable[..., list[tuple[Any, ...]]]
CreateAll = Callable[[], None]


@pytest.fixture
def user(base: type[DeclarativeBase], create_all: CreateAll) -> Any:
    @track(Manual("login"), Manual("mail", columns=["mail"]), Snapshot)
    class User(base):  # type: ignore[misc, valid-type]
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        mail: Mapped[str] = mapped_column(default="a@b")

    create_all()
    return User


def test_manual_event_stores_the_row_as_it_is_after_the_flush(
    user: Any, pg_session: Session, recorded: Recorded
) -> None:
    ann = user(id=1, name="Ann")
    pg_session.add(ann)
    with history.context(pg_session, **BY):
        history.create_event(pg_session, ann, label="login")
        ann.name = "Anne"
        history.create_event(pg_session, ann, label="mail")
        pg_session.commit()
    assert recorded(user, "id", "name", "mail") == [
        ("snapshot", "I", 1, "Ann", "a@b", BY),
        ("login", "M", 1, "Ann", "a@b", BY),
        ("snapshot", "U", 1, "Anne", "a@b", BY),
        ("mail", "M", 1, None, "a@b", BY),
    ]
    events = pg_session.scalars(ann.events.select()).all()
    assert [event.pgh_obj_id for event in events] == [1, 1, 1, 1]


def test_manual_event_through_a_scoped_session(
    user: Any, pg_engine: Engine, recorded: Recorded
) -> None:
    session = scoped_session(sessionmaker(pg_engine))
    # The flush is what gives the object its key.
    ann = user(name="Ann")
    session.add(ann)
    history.create_event(session, ann, label="login")
    session.commit()
    session.remove()
    assert [event[0] for event in recorded(user)] == ["snapshot", "login"]


def test_manual_event_through_an_async_session(
    user: Any, pg_async_engine: AsyncEngine, recorded: Recorded
) -> None:
    async def log_in() -> None:
        async with AsyncSession(pg_async_engine) as session:
            ann = user(name="Ann")
            session.add(ann)
            async with history.context(session, **BY):
                await history.create_event(session, ann, label="login")
                await session.commit()

    asyncio.run(log_in())
    assert recorded(user, "id", "name") == [
        ("snapshot", "I", 1, "Ann", BY),
        ("login", "M", 1, "Ann", BY),
    ]


@pytest.mark.parametrize("context", ["reference", "inline", None])
def test_manual_event_of_a_row_with_a_key_of_several_columns(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    pg_session: Session,
    recorded: Recorded,
    context: Any,
) -> None:
    @track(Manual("seen"), context=context)
    class Seat(base):  # type: ignore[misc, valid-type]
        __tablename__ = "seat"
        row: Mapped[str] = mapped_column("Row", primary_key=True)
        number: Mapped[int] = mapped_column(primary_key=True)
        taken: Mapped[bool] = mapped_column(default=False)

    create_all()
    seats = [Seat(row="A", number=number) for number in (1, 2)]
    pg_session.add_all(seats)
    history.create_event(pg_session, seats[0], label="seen")
    with history.context(pg_session, **BY):
        history.create_event(pg_session, seats[1], label="seen")
        pg_session.commit()
    assert "pgh_obj_id" not in Seat.events.table.c
    assert recorded(Seat, "row", "number", "taken") == [
        ("seen", "M", "A", 1, False, None),
        ("seen", "M", "A", 2, False, BY if context else None),
    ]


@pytest.mark.parametrize("label", ["logout", "snapshot"])
def test_manual_event_needs_a_manual_tracker(
    user: Any, pg_session: Session, label: str
) -> None:
    ann = user(id=1, name="Ann")
    with pytest.raises(EventsError, match="no Manual tracker.*login"):
        history.create_event(pg_session, ann, label=label)


def test_manual_event_is_returned(user: Any, pg_session: Session) -> None:
    ann = user(id=1, name="Ann")
    pg_session.add(ann)
    event = history.create_event(pg_session, ann, label="login")
    assert (event.pgh_label, event.name, event.pgh_obj) == ("login", "Ann", ann)


def test_manual_event_of_a_row_that_is_gone_is_refused(
    user: Any, pg_session: Session, recorded: Recorded
) -> None:
    ann = user(id=1, name="Ann")
    pg_session.add(ann)
    pg_session.commit()
    pg_session.execute(delete(user).execution_options(synchronize_session=False))
    with pytest.raises(EventsError, match="User has no row in the database"):
        history.create_event(pg_session, ann, label="login")
    pg_session.commit()
    assert [event[0] for event in recorded(user)] == ["snapshot"]


def test_model_of_manual_events_only_has_no_trigger(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    @track(Manual("seen"))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    page = Page(id=1)
    pg_session.add(page)
    history.create_event(pg_session, page, label="seen")
    pg_session.commit()
    assert recorded(Page, "id") == [("seen", "M", 1, None)]
    triggers = text("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal")
    assert pg_session.scalar(triggers) == 0
    base.metadata.drop_all(pg_session.connection())
    pg_session.commit()
    functions = text("SELECT count(*) FROM pg_proc WHERE proname ~ '^(page|pghis)'")
    assert pg_session.scalar(functions) == 0


def test_manual_event_of_a_joined_object_is_found_in_the_table_that_has_it(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    person, employee_class = people(
        base, track(Manual("met")), track(Manual("promoted"))
    )
    create_all()
    employee = employee_class(id=1, name="Ann", salary=10)
    pg_session.add(employee)
    history.create_event(pg_session, employee, label="met")
    history.create_event(pg_session, employee, label="promoted")
    pg_session.commit()
    assert recorded(person, "id", "name") == [("met", "M", 1, "Ann", None)]
    assert recorded(employee_class, "salary") == [("promoted", "M", 10, None)]
