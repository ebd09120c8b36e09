"""What is changed in a block and flushed after it is not in its context: a warning."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history

Seen = Callable[[], list[tuple[str, Any]]]

LATE = (
    "Note was changed in a block of history.{} and is flushed after the block, which "
    "has no effect on it then; flush or commit within the block"
)


@pytest.fixture
def caught() -> Iterator[list[Any]]:
    """The warnings that are given in the test."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def insert(session: Session, note: Any) -> None:
    session.add(note("x"))


def update(session: Session, note: Any) -> None:
    session.get_one(note, 100).body = "x"


def delete(session: Session, note: Any) -> None:
    session.delete(session.get_one(note, 100))


@pytest.fixture
def stored(pg_engine: Engine, note: Any) -> None:
    """A note that is there already."""
    with Session(pg_engine) as session:
        session.add(note("before", id=100))
        session.commit()


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize("change", [insert, update, delete])
def test_a_commit_after_the_block_is_told(
    change: Callable[[Session, Any], None],
    pg_engine: Engine,
    note: Any,
    caught: list[Any],
    seen: Seen,
) -> None:
    with Session(pg_engine) as session:
        with history.context(session, user=1):
            change(session, note)
        session.commit()
    assert [str(each.message) for each in caught] == [LATE.format("context")]
    assert seen()[-1][1] is None


def test_a_commit_of_an_async_session_after_the_block_is_told(
    pg_async_engine: AsyncEngine, note: Any, caught: list[Any], seen: Seen
) -> None:
    async def main() -> None:
        async with (
            AsyncSession(pg_async_engine) as session,
            session.begin(),
            history.context(session, user=1),
        ):
            session.add(note("x"))

    asyncio.run(main())
    assert [str(each.message) for each in caught] == [LATE.format("context")]
    assert seen() == [("x", None)]


def test_what_was_to_be_ignored_is_told(
    pg_session: Session, note: Any, caught: list[Any], seen: Seen
) -> None:
    with history.ignore(pg_session, note):
        pg_session.add(note("x"))
    pg_session.commit()
    assert [str(each.message) for each in caught] == [LATE.format("ignore")]
    assert seen() == [("x", None)]


def flushed_within(session: Session, note: Any) -> None:
    with history.context(session, user=1):
        session.add(note("x"))
        session.flush()


def changed_before(session: Session, note: Any) -> None:
    session.add(note("x"))
    with history.context(session, user=1):
        session.connection().execute(text("SELECT 1"))


def changed_after(session: Session, note: Any) -> None:
    with history.context(session, user=1):
        pass
    session.add(note("x"))


def rolled_back(session: Session, note: Any) -> None:
    first = note("x")
    with history.context(session, user=1):
        session.add(first)
    session.rollback()
    session.add(first)


def taken_out(session: Session, note: Any) -> None:
    first = note("x")
    with history.context(session, user=1):
        session.add(first)
    session.expunge(first)
    session.add(note("y"))


def assigned_the_same(session: Session, note: Any) -> None:
    first = note("x")
    session.add(first)
    session.flush()
    with history.context(session, user=1):
        first.body = first.body
    session.add(note("y"))


@pytest.mark.parametrize(
    "write",
    [
        flushed_within,
        changed_before,
        changed_after,
        rolled_back,
        taken_out,
        assigned_the_same,
    ],
)
def test_where_no_change_loses_its_block_nothing_is_told(
    write: Callable[[Session, Any], None],
    pg_session: Session,
    note: Any,
    caught: list[Any],
) -> None:
    write(pg_session, note)
    pg_session.commit()
    assert not caught


def test_what_is_not_tracked_is_not_told(
    base: type[DeclarativeBase],
    note: Any,
    create_all: Callable[[], None],
    pg_session: Session,
    caught: list[Any],
) -> None:
    class Visit(base):  # type: ignore[misc, valid-type]
        __tablename__ = "visit"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    with history.context(pg_session, user=1):
        pg_session.add(Visit())
    pg_session.commit()
    assert not caught
