"""FSM: rows of partitioned tables, and those that move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_history import FSM, attach
from sa_history.exc import RefusedError, TransitionError

Attempt = Callable[..., "type[RefusedError] | None"]
CreateAll = Callable[[], None]


@pytest.fixture
def job(
    base: type[DeclarativeBase], create_all: CreateAll, pg_session: Session
) -> Callable[..., Any]:
    """Make a table with a part for each place, with these triggers."""

    def make(*triggers: Any) -> Any:
        @attach(*triggers)
        class Job(base):  # type: ignore[misc, valid-type]
            __tablename__ = "job"
            __table_args__ = {"postgresql_partition_by": "LIST (place)"}
            id: Mapped[int] = mapped_column(primary_key=True)
            place: Mapped[str] = mapped_column(primary_key=True)
            state: Mapped[str]

        create_all()
        for place in ("here", "there"):
            part = f"CREATE TABLE {place} PARTITION OF job FOR VALUES IN ('{place}')"
            pg_session.execute(text(part))
        jobs = [Job(id=n, place="here", state="new") for n in (1, 2)]
        pg_session.add_all(jobs)
        pg_session.commit()
        return Job

    return make


def test_row_that_moves_to_another_partition_goes_its_way(
    job: Any, attempt: Attempt, level: str
) -> None:
    model = job(FSM("state", transitions=[("new", "old")], level=level))
    move = update(model).where(model.id == 1)
    assert attempt(move.values(place="there", state="done")) is TransitionError
    assert attempt(move.values(place="there", state="old")) is None
    assert attempt(move.values(place="here", state="new")) is TransitionError
    assert attempt(move.values(place="here")) is None


def test_row_that_moves_to_another_partition_begins_again_at_row_level_only(
    job: Any, attempt: Attempt, level: str
) -> None:
    """For PostgreSQL's row triggers a move is a DELETE and an INSERT."""
    model = job(
        FSM("state", transitions=[("new", "old")], initial=["new"], level=level)
    )
    assert attempt(update(model).values(place="there")) is None
    assert attempt(update(model).values(state="old")) is None
    moved = attempt(update(model).values(place="here"))
    assert moved is (TransitionError if level == "row" else None)
