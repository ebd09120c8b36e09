"""Functions, methods and coroutine functions that ``ignore`` decorates."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import Insert, Protect, attach
from sa_history.exc import IgnoreError, ProtectedError

Add = Callable[[Session, str], None]
Seen = Callable[[], list[tuple[str, str]]]


def test_function_that_is_decorated_is_in_its_block_while_it_runs(
    pg_session: Session, note: Any, add: Add, seen: Seen
) -> None:
    @history.ignore("x")
    def write(body: str, *, depth: int = 0) -> str:
        """Write a note."""
        add(pg_session, body)
        if depth:
            write(body, depth=depth - 1)
            add(pg_session, body)
        return body

    @history.ignore(pg_session, note, "y")
    def fail() -> None:
        raise KeyError

    assert write("a", depth=1) == "a"
    assert (write.__name__, write.__doc__) == ("write", "Write a note.")
    with pytest.raises(KeyError):
        fail()
    add(pg_session, "after")
    pg_session.commit()
    assert seen() == [*[("a", "y")] * 3, ("after", "xy")]


def test_methods_that_are_decorated_are_the_official_interface(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
) -> None:
    def save(created: Any, session: Session) -> Any:
        session.add(created)
        session.flush()
        return created

    @attach(Protect(Insert))
    class Official(base):  # type: ignore[misc, valid-type]
        __tablename__ = "official"
        id: Mapped[int] = mapped_column(primary_key=True)

        @classmethod
        @history.ignore("protect_insert")
        def create(cls, session: Session) -> Any:
            return save(cls(), session)

        @history.ignore("protect_insert")
        @classmethod
        def create_too(cls, session: Session) -> Any:
            return save(cls(), session)

        @history.ignore("protect_insert")
        @staticmethod
        def create_statically(session: Session) -> Any:
            return save(Official(), session)

        @history.ignore("protect_insert")
        def copy(self, session: Session) -> Any:
            return save(type(self)(), session)

    create_all()
    first = Official.create(pg_session)
    Official.create_too(pg_session)
    Official.create_statically(pg_session)
    assert first.copy(pg_session).id == 4
    pg_session.commit()
    pg_session.add(Official())
    with pytest.raises(ProtectedError, match="INSERT of public.official is refused"):
        pg_session.flush()


def test_coroutine_function_that_is_decorated_is_in_its_block_while_it_runs(
    pg_async_engine: AsyncEngine, note: Any, seen: Seen
) -> None:
    async def main() -> None:
        async with AsyncSession(pg_async_engine) as session:

            @history.ignore(session, note, "x")
            async def work() -> str:
                session.add(note("inside"))
                await session.flush()
                return "done"

            coroutine = work()
            session.add(note("before it runs"))
            await session.flush()
            assert await coroutine == "done"
            session.add(note("after"))
            await session.commit()

    asyncio.run(main())
    assert seen() == [("before it runs", "xy"), ("inside", "y"), ("after", "xy")]


def test_generators_cannot_be_decorated() -> None:
    def rows(number: int) -> Iterator[int]:
        yield number

    async def async_rows() -> AsyncIterator[int]:
        yield 1

    for function in (rows, async_rows, functools.partial(rows, 1), classmethod(rows)):
        with pytest.raises(IgnoreError, match="rows.*: its body runs after the call"):
            history.ignore("x")(function)
