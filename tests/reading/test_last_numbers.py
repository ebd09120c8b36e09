"""Events before a time, where a BRIN index of times and numbers tells the last one."""

from __future__ import annotations

import datetime
import random
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, Index, delete, event, insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_history import track
from sa_history.query.event_search import EventSearch
from sa_history.query.last_numbers import last_numbers_before
from sa_history.tracking.registry import Tracking

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
EVENTS = 400


def at(minutes: float) -> datetime.datetime:
    """Return a time some minutes after the first."""
    return START + datetime.timedelta(minutes=minutes)


def tracking_of(model: Any) -> Tracking:
    """Return the tracking of a model."""
    found: Tracking = model.events.model.pgh_tracking
    return found


@pytest.fixture
def note(base: type[DeclarativeBase]) -> Any:
    """A model with the index."""

    @track()
    class Note(base):  # type: ignore[valid-type, misc]
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)

    events = Note.events.table.c
    Index(
        "note_event_time",
        events.pgh_created_at,
        events.pgh_id,
        postgresql_using="brin",
        postgresql_with={"pages_per_range": 1},
    )
    return Note


@pytest.fixture
def other(base: type[DeclarativeBase]) -> Any:
    """A model whose index is one of another method."""

    @track()
    class Other(base):  # type: ignore[valid-type, misc]
        __tablename__ = "other"
        id: Mapped[int] = mapped_column(primary_key=True)

    events = Other.events.table.c
    Index("other_event_time", events.pgh_created_at, events.pgh_id)
    return Other


@pytest.fixture
def session(
    base: type[DeclarativeBase], note: Any, other: Any, pg_engine: Engine
) -> Iterator[Session]:
    """A session of a database with both."""
    base.metadata.create_all(pg_engine)
    with Session(pg_engine) as session:
        yield session


def fill(session: Session, model: Any, minutes: dict[int, float]) -> None:
    """Make events with these numbers, of transactions that began at these times."""
    rows = [
        {
            "pgh_id": number,
            "pgh_created_at": at(minute),
            "pgh_obj_id": number,
            "pgh_op": "I",
            "pgh_label": "snapshot",
            "id": number,
        }
        for number, minute in minutes.items()
    ]
    if rows:
        session.execute(insert(model.events.table), rows)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_greatest_number_whatever_the_order_of_the_times(
    session: Session, note: Any, seed: int
) -> None:
    generator = random.Random(seed)
    numbers = sorted(generator.sample(range(-50, 10 * EVENTS), EVENTS))
    minutes = {
        # Some transactions began long before they wrote.
        number: position
        - (generator.random() * EVENTS if generator.random() < 0.05 * seed else 0)
        for position, number in enumerate(numbers)
    }
    fill(session, note, minutes)
    times = [-2 * EVENTS, 0, 0.5, EVENTS - 1, 2 * EVENTS]
    for until in (*times, *(generator.random() * EVENTS for _ in range(20))):
        before = [n for n, minute in minutes.items() if minute < until]
        expected = {tracking_of(note): max(before, default=None)}
        assert last_numbers_before(session, [*expected], at(until)) == expected


def test_a_table_without_events_has_none(session: Session, note: Any) -> None:
    tracking = tracking_of(note)
    assert last_numbers_before(session, [tracking], at(0)) == {tracking: None}
    fill(session, note, {1: 5})
    assert last_numbers_before(session, [tracking], at(5)) == {tracking: None}


def test_a_table_without_such_an_index_is_left_out(
    session: Session, note: Any, other: Any
) -> None:
    fill(session, note, {1: 1})
    fill(session, other, {2: 1})
    found = last_numbers_before(session, [*map(tracking_of, (other, note))], at(2))
    assert found == {tracking_of(note): 1}
    assert last_numbers_before(session, [tracking_of(other)], at(2)) == {}


def test_a_search_begins_with_the_last_event_before_the_time(
    session: Session, note: Any, other: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sa_history.query.event_search.PAGE_SIZE", 3)
    fill(session, note, {number: number for number in range(0, 40, 2)})
    fill(session, note, {100: 1, 101: 50})
    fill(session, other, {number: number for number in range(1, 40, 2)})
    statements: list[str] = []

    @event.listens_for(session.get_bind(), "before_cursor_execute")
    def keep(_: Any, __: Any, statement: str, *___: Any) -> None:
        statements.append(statement)

    def numbers(until: float) -> list[int]:
        rows = EventSearch([note, other], until=at(until)).rows(session, None)
        return [row.pgh_id for _, row in rows]

    assert numbers(10) == [100, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert numbers(0) == []
    assert any("note_event.pgh_id <= " in statement for statement in statements)
    session.execute(delete(note.events.table).execution_options(sa_history_edit=True))
    assert numbers(3) == [1]
