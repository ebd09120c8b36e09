"""A context as the decorator of a function."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

import sa_history as history
from sa_history.exc import ContextError, IgnoreError

Add = Callable[[Session, str], None]
Seen = Callable[[], list[tuple[str, Any]]]
Contexts = Callable[[], list[history.Context]]


def test_decorated_function_runs_in_a_block_of_its_own(
    pg_session: Session, add: Add, seen: Seen, contexts: Contexts
) -> None:
    @history.context(pg_session, job="interest")
    def work(body: str, *, end: str) -> str:
        """Do it."""
        add(pg_session, body + end)
        return body

    assert (work.__name__, work.__doc__) == ("work", "Do it.")
    assert work("a", end="!") == "a"
    add(pg_session, "between")
    work("b", end="!")
    pg_session.commit()
    assert seen() == [
        ("a!", {"job": "interest"}),
        ("between", None),
        ("b!", {"job": "interest"}),
    ]
    assert len(contexts()) == 2


def test_decorated_function_that_fails_leaves_its_context(
    pg_session: Session, add: Add, seen: Seen
) -> None:
    @history.context(job="interest")
    def work() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        work()
    add(pg_session, "after")
    pg_session.commit()
    assert seen() == [("after", None)]


def test_decorated_function_may_call_itself(
    pg_session: Session, add: Add, contexts: Contexts
) -> None:
    @history.context(pg_session, job="interest")
    def work(depth: int) -> None:
        add(pg_session, str(depth))
        if depth:
            work(depth - 1)
            add(pg_session, f"{depth} again")

    work(2)
    pg_session.commit()
    first, second, third = contexts()
    assert (first.id, second.id) == (second.parent_id, third.parent_id)


def test_decorated_coroutine_function_is_in_its_block_while_it_runs(
    pg_async_engine: AsyncEngine, note: Any, seen: Seen
) -> None:
    async def main() -> None:
        async with AsyncSession(pg_async_engine) as session:

            @history.context(session, job="interest")
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
    assert seen() == [
        ("before it runs", None),
        ("inside", {"job": "interest"}),
        ("after", None),
    ]


def test_generators_cannot_be_decorated() -> None:
    def rows() -> Iterator[int]:
        yield 1

    async def async_rows() -> AsyncIterator[int]:
        yield 1

    for function in (
        rows,
        async_rows,
        contextlib.contextmanager(rows),
        contextlib.asynccontextmanager(async_rows),
    ):
        with pytest.raises(ContextError, match=f"{function.__name__}: its body runs"):
            history.context(a=1)(function)
    for partial in (rows, contextlib.contextmanager(rows)):
        with pytest.raises(IgnoreError, match="cannot decorate the generator"):
            history.ignore("protect")(functools.partial(partial))


def test_coroutine_function_that_runs_a_generator_can_be_decorated(
    pg_async_engine: AsyncEngine, note: Any, seen: Seen
) -> None:
    async def main() -> None:
        async with AsyncSession(pg_async_engine) as session:

            async def notes() -> AsyncIterator[Any]:
                yield note("a")

            @history.context(session, job="interest")
            @functools.wraps(notes)
            async def work() -> None:
                async for each in notes():
                    session.add(each)
                    await session.flush()

            await work()
            await session.commit()

    asyncio.run(main())
    assert seen() == [("a", {"job": "interest"})]
