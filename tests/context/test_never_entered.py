"""A block that is thrown away without being entered has done nothing, and says so."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

import sa_history as history
from sa_history.contexts.context import ContextBlock
from sa_history.exc import ContextError, HistoryWarning


@pytest.fixture
def caught() -> Iterator[list[Any]]:
    """The warnings that are given in the test."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught
        gc.collect()


@pytest.mark.parametrize(
    ("make", "function"),
    [
        (lambda: history.context(user=7), "history.context"),
        (lambda: history.context(Session(), user=7), "history.context"),
        (lambda: history.ignore("protect_delete"), "history.ignore"),
    ],
)
def test_a_block_that_is_thrown_away_is_told_at_the_line_of_the_call(
    make: Callable[[], Any], function: str, caught: list[Any]
) -> None:
    make()
    (warning,) = caught
    assert warning.category is HistoryWarning
    assert str(warning.message) == (
        f"{function}(...) was called and never entered, so it did nothing; write "
        f"'with {function}(...):' around the changes and their commit"
    )
    assert warning.filename == __file__


def test_a_block_that_is_kept_is_told_when_it_goes(caught: list[Any]) -> None:
    block = history.context(user=7)
    assert not caught
    del block
    assert len(caught) == 1


def with_block() -> None:
    with history.context(user=7):
        pass


def with_a_stack() -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(history.context(user=7))


def with_a_coroutine() -> None:
    async def work() -> None:
        async with history.context(AsyncSession(), user=7):
            pass

    asyncio.run(work())


def with_a_decorator() -> None:
    @history.context(user=7)
    def never_called() -> None: ...


def with_a_decorator_that_is_called() -> None:
    @history.context(user=7)
    def called() -> None: ...

    called()


def with_an_error_within() -> None:
    with contextlib.suppress(ZeroDivisionError), history.context(user=7):
        1 / 0


def with_a_target_that_is_refused() -> None:
    engine: Any = create_engine("postgresql+psycopg://")
    with pytest.raises(ContextError), history.context(engine, user=7):
        pass


def with_a_decorator_that_is_refused() -> None:
    with pytest.raises(ContextError):

        @history.context(user=7)
        def rows() -> Iterator[int]:
            yield 1


def with_arguments_that_are_refused() -> None:
    with pytest.raises(TypeError):
        ContextBlock()  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "use",
    [
        with_block,
        with_a_stack,
        with_a_coroutine,
        with_a_decorator,
        with_a_decorator_that_is_called,
        with_an_error_within,
        with_a_target_that_is_refused,
        with_a_decorator_that_is_refused,
        with_arguments_that_are_refused,
    ],
)
def test_a_block_that_is_used_is_not_told(
    use: Callable[[], None], caught: list[Any]
) -> None:
    use()
    gc.collect()
    assert not caught


def test_at_the_end_of_the_program_nothing_is_told() -> None:
    """What a module keeps is thrown away then, and says nothing of its use."""
    code = "import sa_history; block = sa_history.context(user=7)"
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", code], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_block_can_be_copied(caught: list[Any]) -> None:
    block = history.context(user=7)
    with copy.copy(block), block:
        pass
    assert not caught
