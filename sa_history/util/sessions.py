"""Sessions and connections of all kinds, and the sync objects behind async ones.

SQLAlchemy's asyncio extension is not imported here: it needs greenlet, which a program
without async code may not have. Whoever has an async session has imported it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import Connection
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from sa_history.exc import HistoryError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import (
        AsyncConnection,
        AsyncSession,
        async_scoped_session,
    )

# Each is one string: of a string in parts, only mypy makes a type.
SyncSession: TypeAlias = Session | scoped_session[Any]
"""A session whose methods are called."""

AnyAsyncSession: TypeAlias = "AsyncSession | async_scoped_session[Any]"
"""A session whose methods are awaited."""

SyncTarget: TypeAlias = Session | scoped_session[Any] | Connection
"""A session or connection whose methods are called."""

AsyncTarget: TypeAlias = "AsyncSession | async_scoped_session[Any] | AsyncConnection"
"""A session or connection whose methods are awaited."""

Target: TypeAlias = "SyncTarget | AsyncTarget"
"""What a context can be bound to."""


def unscoped(target: Any) -> Any:
    """Return the current session of a scoped session; any other object unchanged.

    :param target: may be a ``scoped_session`` or an ``async_scoped_session``.
    """
    scoped = isinstance(target, scoped_session) or _is(target, "async_scoped_session")
    return target() if scoped else target


def session_of(target: Any, function: str, error: type[HistoryError]) -> Any:
    """Return the session that a target is: sync, or an ``AsyncSession``.

    :param target: a session, or a ``scoped_session`` or ``async_scoped_session``.
    :param function: the name of what was called, for the error.
    :param error: the class of the error.
    :raises HistoryError: of that class: the target is no session.
    """
    session = unscoped(target)
    if isinstance(session, Session) or is_async_session(session):
        return session
    raise error(
        f"{function} takes a session, got {target!r}; give a Session or an AsyncSession"
    )


def sync_side(target: Any) -> Any:
    """Return the sync session or connection of a target; any other object unchanged.

    :param target: any :data:`Target`, such as an ``AsyncSession``.
    """
    if isinstance(target, (Session, Connection)):
        return target
    target = unscoped(target)
    if _is(target, "AsyncSession"):
        return target.sync_session
    if _is(target, "AsyncConnection"):
        return target.sync_connection
    return target


def is_async_session(target: Any) -> bool:
    """Return True for an ``AsyncSession``, whose methods are awaited."""
    return _is(target, "AsyncSession")


def is_async(target: Any) -> bool:
    """Return True for an async session, connection or engine, scoped or not."""
    kinds = ("AsyncSession", "AsyncConnection", "AsyncEngine")
    plain = unscoped(target)
    return any(_is(plain, kind) for kind in kinds)


def may_await() -> bool:
    """Return True within ``run_sync``, where sync code can wait for an async driver."""
    current = sys.modules["greenlet"].getcurrent()  # an async engine has imported it
    return getattr(current, "__sqlalchemy_greenlet_provider__", False)


def is_async_engine(target: Any) -> bool:
    """Return True for an ``AsyncEngine``, whose connections are awaited."""
    return _is(target, "AsyncEngine")


def async_attrs_of(model: type[Any] | None) -> type[Any] | None:
    """Return SQLAlchemy's ``AsyncAttrs`` if a class inherits it; None for any other."""
    extension = sys.modules.get("sqlalchemy.ext.asyncio")
    if extension is None or model is None:
        return None
    attrs: type[Any] = extension.AsyncAttrs
    return attrs if issubclass(model, attrs) else None


def is_sessionmaker(target: Any) -> bool:
    """Return True for a ``sessionmaker`` or an ``async_sessionmaker``."""
    return isinstance(target, sessionmaker) or _is(target, "async_sessionmaker")


def _is(target: Any, name: str) -> bool:
    extension = sys.modules.get("sqlalchemy.ext.asyncio")
    return extension is not None and isinstance(target, getattr(extension, name))
