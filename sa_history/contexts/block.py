"""What ``history.context(...)`` and ``history.ignore(...)`` have in common: a block."""

from __future__ import annotations

import asyncio
import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar, Generic, TypeVar, cast

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from sa_history._types import UNSET
from sa_history.contexts.connection_state import INFO_KEY, claim_when_it_begins, wire_in
from sa_history.contexts.stack import Blocks, ambient
from sa_history.exc import DialectError, HistoryError
from sa_history.util.sessions import sync_side

F = TypeVar("F", bound="Callable[..., Any] | classmethod[Any, Any, Any]")
Entered = TypeVar("Entered")


class Block(ABC, Generic[Entered]):
    """A context manager, sync and async, and a decorator.

    :param target: the session or connection it is bound to, or UNSET for the thread.
    """

    error: ClassVar[type[HistoryError]]
    function: ClassVar[str]

    def __init__(self, target: Any) -> None:
        self._target = target
        self._entered: tuple[list[Entered], Entered] | None = None

    @abstractmethod
    def anew(self) -> Block[Entered]:
        """Return another block like this one, for a call of a decorated function."""

    @abstractmethod
    def push(self, blocks: Blocks) -> tuple[list[Entered], Entered]:
        """Put what the block stands for on its stack, and return both."""

    def __enter__(self) -> Entered:
        if self._entered is not None:
            raise self.error(
                "this block is entered already, perhaps by another thread; call "
                f"{self.function}(...) for each"
            )
        self._entered = self.push(blocks_of(self._target, self.function, self.error))
        return self._entered[1]

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._entered is not None
        stack, entered = self._entered
        self._entered = None
        stack.remove(entered)

    async def __aenter__(self) -> Entered:
        return self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(exc_type, exc, traceback)

    def __call__(self, function: F) -> F:
        """Return the function with the block around each of its calls."""
        wrapper: Any
        if isinstance(function, (classmethod, staticmethod)):
            wrapper = type(function)(self(function.__func__))
            return cast("F", wrapper)
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(
            function
        ):
            raise self.error(
                f"{self.function} cannot decorate the generator {_name(function)}: "
                f"its body runs after the call; write 'with {self.function}(...)' in it"
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def wrapper(*args: Any, **kwargs: Any) -> Any:
                with self.anew():
                    return await function(*args, **kwargs)

        else:

            @functools.wraps(function)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                with self.anew():
                    return function(*args, **kwargs)

        return cast("F", wrapper)


def _name(function: Any) -> str:
    return getattr(function, "__name__", None) or repr(function)


def blocks_of(target: Any, function: str, error: type[HistoryError]) -> Blocks:
    """Return the blocks of a target, which live as long as the target does.

    :param target: a session or connection, or UNSET for the thread.
    :param function: what was called, for messages.
    :param error: raised where the target cannot have blocks.
    """
    if target is UNSET:
        _refuse_event_loop(function, error)
        return ambient.blocks
    bound_to = sync_side(target)
    if isinstance(bound_to, Session):
        blocks: Blocks = bound_to.info.setdefault(INFO_KEY, Blocks())
        return blocks
    if isinstance(bound_to, Connection):
        return _blocks_of_connection(bound_to, function)
    raise error(
        f"{function} is bound to a session or a connection, got {target!r}; give one, "
        "or none for the thread"
    )


def _blocks_of_connection(connection: Connection, function: str) -> Blocks:
    blocks: Blocks | None = connection.get_execution_options().get(INFO_KEY)
    if blocks is None:
        if connection.dialect.name != "postgresql":
            raise DialectError(
                f"{function} needs PostgreSQL, got a connection to "
                f"{connection.dialect.name}"
            )
        blocks = Blocks()
        # Connection.info outlives the Connection, in the pool; its options do not.
        connection.execution_options(**{INFO_KEY: blocks})
    if connection.invalidated:
        claim_when_it_begins(connection)
    elif not connection.closed:
        # A COPY by the driver may come before any statement of SQLAlchemy.
        wire_in(connection.info).belongs_to(connection)
    return blocks


def _refuse_event_loop(function: str, error: type[HistoryError]) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise error(
        f"{function} for the whole thread cannot be entered or changed inside a "
        "running event loop, where other tasks would get it too; pass the session: "
        f"{function}(session, ...)"
    )
