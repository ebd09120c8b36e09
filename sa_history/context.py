"""Contexts: who makes changes, and why."""

from __future__ import annotations

import asyncio
import functools
import inspect
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeAlias, TypeVar

from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, event, func, select
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncSession,
    async_scoped_session,
)
from sqlalchemy.orm import Session, SessionTransaction, scoped_session
from sqlalchemy.pool import ConnectionPoolEntry, Pool, PoolProxiedConnection

from sa_history._types import UNSET, Unset
from sa_history.cursors import give_cursors, has_cursors
from sa_history.exc import ContextError, DialectError, refusal_for
from sa_history.frames import Frame, ambient_frames, in_force
from sa_history.sql.settings import SETTING_NAMES
from sa_history.wire import INFO_KEY, wire_in

Target: TypeAlias = (
    Session
    | AsyncSession
    | scoped_session[Any]
    | async_scoped_session[Any]
    | Connection
    | AsyncConnection
)
"""What a context can be bound to."""

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
        self._entered: list[tuple[list[Frame], Frame]] = []

    def __enter__(self) -> Frame:
        stack = _stack(self._target)
        around = in_force() if stack is ambient_frames() else in_force([stack])
        frame = Frame(self._metadata, around)
        stack.append(frame)
        self._entered.append((stack, frame))
        return frame

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        stack, frame = self._entered.pop()
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
    frame = in_force([] if target is UNSET else [_stack(target)])
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
    if isinstance(target, (scoped_session, async_scoped_session)):
        target = target()
    if isinstance(target, AsyncSession):
        target = target.sync_session
    if isinstance(target, AsyncConnection):
        target = target.sync_connection
    if isinstance(target, Session):
        stack: list[Frame] = target.info.setdefault(INFO_KEY, [])
        return stack
    if isinstance(target, Connection):
        return _connection_stack(target)
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
        "a context for the whole thread cannot be entered inside a running event loop, "
        "where other tasks would get it too; pass the session: "
        "history.context(session, ...)"
    )


# The listeners below are for the whole process, because a block without a target
# names no engine, and because a session meets its connections by itself. They are
# registered when this module is imported, so that no transaction is missed, and
# leave connections to other databases alone.


@event.listens_for(Pool, "checkout")
def _check_out(_: Any, record: ConnectionPoolEntry, __: PoolProxiedConnection) -> None:
    # Not in "begin": a Connection makes the cursor of its first statement before.
    give_cursors(record.driver_connection, wire_in(record.info))


@event.listens_for(Engine, "begin")
def _begin(connection: Connection) -> None:
    if connection.dialect.name != "postgresql":
        return
    wire_in(connection.info).begin(connection)
    if not has_cursors(connection.connection.driver_connection):
        _tell_by_events(connection)


@event.listens_for(Engine, "begin_twophase")
def _begin_twophase(connection: Connection, xid: Any) -> None:
    _begin(connection)


@event.listens_for(Session, "after_begin")
def _session_begins(
    session: Session, transaction: SessionTransaction, connection: Connection
) -> None:
    if connection.dialect.name == "postgresql":
        wire_in(connection.info).used_by(session)


@event.listens_for(Engine, "handle_error", retval=True)
def _as_refusal(error: ExceptionContext) -> BaseException | None:
    original: Any = error.original_exception
    sqlstate = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    refusal = refusal_for(sqlstate)
    if refusal is None:
        return None
    return refusal(
        error.statement,
        error.parameters,
        original,
        hide_parameters=bool(error.engine and error.engine.hide_parameters),
    )


def _tell_by_events(connection: Connection) -> None:
    """Have a connection of another driver than psycopg tell the context.

    It costs a round trip more in each transaction that has one.
    """
    if event.contains(connection, "before_cursor_execute", _tell):
        return
    event.listen(connection, "before_cursor_execute", _tell)
    event.listen(connection, "rollback_savepoint", _rolled_back)


def _tell(connection: Connection, cursor: Any, *_: Any) -> None:
    wire = wire_in(connection.info)
    news = wire.news(TransactionStatus.INTRANS)
    if news is None:
        return
    if getattr(connection.connection.dbapi_connection, "autocommit", False):
        warnings.warn(
            "the context in force is not recorded: in AUTOCOMMIT only the psycopg "
            "driver can send it together with the statement",
            stacklevel=2,
        )
        return
    wire.told(news)  # first: the next line comes here again
    connection.execute(
        select(
            *(
                func.set_config(name, value, True)
                for name, value in zip(SETTING_NAMES, news, strict=True)
            )
        )
    )


def _rolled_back(connection: Connection, name: str, _: None) -> None:
    wire_in(connection.info).unsure()
