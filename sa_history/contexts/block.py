"""The base of ``history.context(...)`` and ``history.ignore(...)``: a block.

A block is a context manager, sync and async, and a decorator. It puts an entry on a
stack of its target when it is entered, and removes it when it is left.
"""

from __future__ import annotations

import functools
import inspect
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from types import TracebackType
from typing import Any, ClassVar, Generic, TypeVar, cast

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from sa_history._types import UNSET
from sa_history.contexts.connection_state import rebind_on_begin, state_of
from sa_history.contexts.stack import (
    Stacks,
    stacks_of_connection,
    stacks_of_session,
    this_thread,
)
from sa_history.contexts.unflushed import leave_unflushed, unflushed_objects
from sa_history.exc import HistoryError, HistoryWarning
from sa_history.util.event_loop import is_event_loop_running
from sa_history.util.postgresql import require_postgresql
from sa_history.util.sessions import sync_side

F = TypeVar("F", bound="Callable[..., Any] | classmethod[Any, Any, Any]")
Entered = TypeVar("Entered")


class Block(ABC, Generic[Entered]):
    """A context manager, sync and async, and a decorator.

    :param target: the session or connection that the block is bound to, or UNSET for
        the thread.
    """

    error: ClassVar[type[HistoryError]]
    """The class of the errors that are raised."""
    function: ClassVar[str]
    """The name of the public function, for errors."""

    _is_unused = False

    def __init__(self, target: Any) -> None:
        self._target = target
        self._entered: tuple[Stacks, list[Entered], Entered] | None = None
        self._session: Session | None = None
        self._unflushed: AbstractSet[Any] = frozenset()
        self._is_unused = True

    def __del__(self) -> None:
        # As Python does for a coroutine that is never awaited.
        if self._is_unused and not sys.is_finalizing():
            warnings.warn(
                f"{self.function}(...) was called and never entered, so it did "
                f"nothing; write 'with {self.function}(...):' around the changes and "
                "their commit",
                HistoryWarning,
                stacklevel=2,
            )

    @abstractmethod
    def copy(self) -> Block[Entered]:
        """Return a block with the same arguments, which is not entered."""

    @abstractmethod
    def push(self, stacks: Stacks) -> tuple[list[Entered], Entered]:
        """Put a new entry on the block's stack, and return the stack and the entry."""

    def __enter__(self) -> Entered:
        self._is_unused = False
        if self._entered is not None:
            raise self.error(
                "this block is entered already, perhaps by another thread; call "
                f"{self.function}(...) for each"
            )
        stacks = stacks_of(self._target, self.function, self.error)
        self._entered = stacks, *self.push(stacks)
        bound_to = sync_side(self._target)
        if isinstance(bound_to, Session):
            self._session = bound_to
            self._unflushed = unflushed_objects(bound_to)
        return self._entered[2]

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._entered is not None
        stacks, stack, entered = self._entered
        self._entered = None
        stack.remove(entered)
        if self._session is not None:
            leave_unflushed(self._session, self._unflushed, self.function)
            self._session = None
        if self._target is UNSET and stacks is not this_thread.stacks:
            raise self.error(
                f"{self.function} for the whole thread was left in another thread than "
                "it was entered in; what was written in between may have been recorded "
                "without it, and what others wrote in the first thread with it. In a "
                "generator that a framework runs in a pool of threads, as FastAPI does "
                f"with dependencies, pass the session: {self.function}(session, ...)"
            )

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
        """Return a function that runs in a copy of the block at each call."""
        self._is_unused = False
        wrapper: Any
        if isinstance(function, (classmethod, staticmethod)):
            wrapper = type(function)(self(function.__func__))
            return cast("F", wrapper)
        if _makes_generator(function):
            raise self.error(
                f"{self.function} cannot decorate the generator {_name(function)}: "
                f"its body runs after the call; write 'with {self.function}(...)' in it"
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def wrapper(*args: Any, **kwargs: Any) -> Any:
                with self.copy():
                    return await function(*args, **kwargs)

        else:

            @functools.wraps(function)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                with self.copy():
                    return function(*args, **kwargs)

        return cast("F", wrapper)


def _makes_generator(function: Any) -> bool:
    """Return True if the body of a function runs after the call, as a generator's does.

    So does that of a generator within ``contextlib.contextmanager`` and its like. A
    coroutine function that has a generator within runs it while it is awaited.
    """
    while not inspect.iscoroutinefunction(function):
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(
            function
        ):
            return True
        if isinstance(function, functools.partial):
            function = function.func
        elif (function := getattr(function, "__wrapped__", None)) is None:
            return False
    return False


def _name(function: Any) -> str:
    return getattr(function, "__name__", None) or repr(function)


def stacks_of(target: Any, function: str, error: type[HistoryError]) -> Stacks:
    """Return the stacks of a target, which live as long as the target does.

    :param target: a session or connection, or UNSET for the thread.
    :param function: the name of what was called, for errors.
    :param error: the class of the error for a target that cannot have blocks.
    :raises HistoryError: of that class.
    :raises DialectError: a connection to another database than PostgreSQL.
    """
    if target is UNSET:
        if is_event_loop_running():
            raise error(
                f"{function} for the whole thread cannot be entered or changed inside "
                "a running event loop, where other tasks would get it too; pass the "
                f"session: {function}(session, ...)"
            )
        return this_thread.stacks
    bound_to = sync_side(target)
    if isinstance(bound_to, Session):
        return stacks_of_session(bound_to)
    if isinstance(bound_to, Connection):
        require_postgresql(bound_to, function)
        _bind(bound_to)
        return stacks_of_connection(bound_to)
    if isinstance(target, Mapping):
        raise error(
            f"{function} got {target!r} in the place of a session; give keys and "
            f"values as keywords, such as {function}(session, user=7)"
        )
    raise error(
        f"{function} is bound to a session or a connection, got {target!r}; give one, "
        "or none for the thread"
    )


def _bind(connection: Connection) -> None:
    if connection.invalidated:
        rebind_on_begin(connection)
    elif not connection.closed:
        # A COPY by the driver may come before any statement of SQLAlchemy.
        state_of(connection.info).bind(connection)
