"""A model with sealed events, and what it takes to seal and verify them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, String
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import AfterDelete, Snapshot, track


@pytest.fixture(autouse=True)
def _read_committed(read_committed: None) -> None:
    """Erasing, and sealing on a connection, refuse other levels of isolation."""


@pytest.fixture
def person(base: type[DeclarativeBase], create_all: Callable[[], None]) -> Any:
    """A person with a sealed history, of which the name and the email can be erased."""

    @track(
        Snapshot,
        AfterDelete,
        sealed=True,
        erasable=["name", "email"],
        erasable_context=["ip"],
    )
    class Person(base):  # type: ignore[misc, valid-type]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String)
        email: Mapped[str | None] = mapped_column(default=None)
        points: Mapped[int] = mapped_column(default=0)

    create_all()
    return Person


@pytest.fixture
def some_events(person: Any, pg_engine: Engine) -> list[int]:
    """Twelve events of three persons, four in a context; their numbers."""
    with Session(pg_engine) as session:
        for number in (1, 2, 3):
            with history.context(session, user=number, ip=f"10.0.0.{number}"):
                session.add(
                    person(id=number, name=f"Name{number}", email=f"e{number}@x.org")
                )
                session.commit()
        for points in (1, 2, 3):
            for number in (1, 2, 3):
                session.get_one(person, number).points = points
                session.commit()
        events = session.scalars(person.events.select()).all()
        return [event.pgh_id for event in events]
