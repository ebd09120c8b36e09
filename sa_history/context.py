"""Contexts: who makes changes, and why."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from sa_history._types import UNSET, Unset
from sa_history.exc import ContextError, DialectError
from sa_history.frames import Frame, ambient_frames, in_force
from sa_history.targets import Target, sync_side
from sa_history.wire import INFO_KEY

F = TypeVar("F", bound=Callable[..., Any])


def context(target: Target | Unset = UNSET, /, **metadata: Any) -> ContextBlock:
    """Return a block in which every change is linked to these keys and values.

    It is a context manager, an async one, and a decorator. Leaving it restores the
    context that was in force before, within a transaction as well. Inside another
    block it has a context of its own, with the keys of both.

    Nothing is sent to the database here: the next statement carries it.

    :param target: a session or connection, sync or async, to which it is bound.
        Without one it is for whatever the thread does; inside a running event loop,
        where tasks share the thread, that is refused.
    :param metadata: any keys with values that JSON can hold, or UUID, date, time,
        Decimal and Enum.
    :raises ContextError: on entering: a value cannot be stored as JSON, or the
        target cannot have a context.

    Example::

        with history.context(session, user=7, url="/accounts/1"):
            account.balance -= 10
            session.commit()


        @history.context(job="interest")
        def add_interest(session): ...
    """
    return ContextBlock(target, metadata)


class ContextBlock:
    """What :func:`context` returns."""

    def __init__(self, target: Any, metadata: dict[str, Any]) -> None:
        self._target = target
        self._metadata = metadata
        self._entered: tuple[list[Frame], Frame] | None = None

    def __enter__(self) -> Frame:
        if self._entered is not None:
            raise ContextError(
                "this block is entered already, perhaps by another thread; call "
                "history.context(...) for each"
            )
        stack = _stack(self._target)
        around = in_force() if stack is ambient_frames() else in_force([stack])
        frame = Frame(self._metadata, around)
        stack.append(frame)
        self._entered = (stack, frame)
        return frame

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._entered is not None
        stack, frame = self._entered
        self._entered = None
        stack.remove(frame)

    async def __aenter__(self) -> Frame:
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
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(
            function
        ):
            raise ContextError(
                f"history.context cannot decorate the generator {function.__name__}: "
                "its body runs after the call; write 'with history.context(...)' in it"
            )
        wrapper: Any
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def wrapper(*args: Any, **kwargs: Any) -> Any:
                with ContextBlock(self._target, self._metadata):
                    return await function(*args, **kwargs)

        else:

            @functools.wraps(function)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                with ContextBlock(self._target, self._metadata):
                    return function(*args, **kwargs)

        result: F = wrapper
        return result


def annotate(target: Target | Unset = UNSET, /, **metadata: Any) -> None:
    """Add keys and values to the context in force.

    They are stored with the next change that is made in it; its earlier events are
    linked to the same context, and so have them too.

    :param target: the session or connection whose context is meant, else the
        thread's.
    :param metadata: as for :func:`context`.
    :raises ContextError: no context is in force, or a value cannot be stored.

    Example::

        with history.context(session, user=7):
            history.annotate(session, reason="chargeback")
            session.commit()
    """
    stack = _stack(target)
    frame = in_force() if stack is ambient_frames() else in_force([stack])
    if frame is None:
        raise ContextError(
            "there is no context to annotate; enter one with history.context(...) "
            "around this call"
        )
    frame.annotate(metadata)


def _stack(target: Any) -> list[Frame]:
    """Return the stack of a target, which lives as long as the target does."""
    if target is UNSET:
        _refuse_event_loop()
        return ambient_frames()
    bound_to = sync_side(target)
    if isinstance(bound_to, Session):
        stack: list[Frame] = bound_to.info.setdefault(INFO_KEY, [])
        return stack
    if isinstance(bound_to, Connection):
        return _connection_stack(bound_to)
    raise ContextError(
        f"a context is bound to a session or a connection, got {target!r}; give one, "
        "or only keyword arguments for a context of the thread"
    )


def _connection_stack(connection: Connection) -> list[Frame]:
    if connection.dialect.name != "postgresql":
        raise DialectError(
            f"a context needs PostgreSQL, got a connection to {connection.dialect.name}"
        )
    stack: list[Frame] | None = connection.get_execution_options().get(INFO_KEY)
    if stack is None:
        stack = []
        # Connection.info outlives the Connection, in the pool; its options do not.
        connection.execution_options(**{INFO_KEY: stack})
    return stack


def _refuse_event_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise ContextError(
        "a context for the whole thread cannot be entered or changed inside a running "
        "event loop, where other tasks would get it too; pass the session: "
        "history.context(session, ...)"
    )
