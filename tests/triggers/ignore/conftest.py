"""A model whose rows say which triggers ran."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_history import attach
from tests.triggers.ignore.helpers import mark

Add = Callable[[Session, str], None]
Seen = Callable[[], list[tuple[str, str]]]


@pytest.fixture
def note(base: type[DeclarativeBase], create_all: Callable[[], None]) -> Any:
    """A model whose rows say which of the triggers "x" and "y" ran."""

    @attach(mark("x"), mark("y"))
    class Note(base):  # type: ignore[misc, valid-type]
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        marks: Mapped[str] = mapped_column(server_default="")

        def __init__(self, body: str) -> None:
            self.body = body

    create_all()
    return Note


@pytest.fixture
def add(note: Any) -> Add:
    """Write a note through a session."""

    def write(session: Session, body: str) -> None:
        session.add(note(body))
        session.flush()

    return write


@pytest.fixture
def seen(note: Any, pg_engine: Engine) -> Seen:
    """Return the body of each committed note, and which triggers ran for it."""

    def read() -> list[tuple[str, str]]:
        with pg_engine.connect() as connection:
            rows = select(note.body, note.marks).order_by(note.id)
            return [tuple(row) for row in connection.execute(rows)]

    return read
