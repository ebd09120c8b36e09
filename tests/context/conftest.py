"""A tracked model, what was recorded of it, and engines to write it with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import AfterDelete, Snapshot, track


@pytest.fixture
def note(base: type[DeclarativeBase], create_all: Callable[[], None]) -> Any:
    """A tracked model; a test writes notes to see which context they get."""

    @track(Snapshot, AfterDelete)
    class Note(base):  # type: ignore[misc, valid-type]
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]

        def __init__(self, body: str, id: int | None = None) -> None:
            self.id, self.body = id, body

    create_all()
    return Note


@pytest.fixture
def add(note: Any) -> Callable[[Session, str], None]:
    """Write a note, and nothing else, through a session."""

    def write(session: Session, body: str) -> None:
        session.add(note(body))
        session.flush()

    return write


@pytest.fixture
def seen(
    note: Any, recorded: Callable[..., list[tuple[Any, ...]]]
) -> Callable[[], list[tuple[str, Any]]]:
    """Return the body and the context of each committed event, oldest first."""
    return lambda: [(body, context) for _, _, body, context in recorded(note, "body")]


@pytest.fixture
def contexts(pg_engine: Engine, note: Any) -> Callable[[], list[history.Context]]:
    """Return the committed contexts in the order of their first events."""

    def read() -> list[history.Context]:
        events = history.events(note)
        with Session(pg_engine, expire_on_commit=False) as session:
            mapped = events.model.pgh_context.property.mapper.class_
            rows = {row.id: row for row in session.scalars(select(mapped))}
            used = session.scalars(
                select(events.model.pgh_context_id).order_by(events.model.pgh_id)
            )
            order = [id_ for id_ in dict.fromkeys(used) if id_ is not None]
        assert set(order) <= rows.keys()
        return [rows.pop(id_) for id_ in order] + list(rows.values())

    return read


@pytest.fixture
def engine_with(pg_url: URL) -> Iterator[Callable[..., Engine]]:
    """Make an engine on the test's database, with options; it is disposed of."""
    engines = []

    def make(**options: Any) -> Engine:
        engines.append(create_engine(options.pop("url", pg_url), **options))
        return engines[-1]

    yield make
    for engine in engines:
        engine.dispose()


@pytest.fixture
def writing_function(pg_engine: Engine, note: Any) -> None:
    """A function and a procedure of the application that write notes."""
    with pg_engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION write_note(text) RETURNS bigint LANGUAGE sql AS"
            " 'INSERT INTO note (body) VALUES ($1) RETURNING id'"
        )
