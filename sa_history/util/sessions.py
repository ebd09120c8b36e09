"""Sessions and connections of all kinds, and the sync ones behind them.

SQLAlchemy's asyncio extension is not imported here: it needs greenlet, which a program
without async code may not have. Whoever has an async session has imported it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import Connection
from sqlalchemy.orm import Session, scoped_session

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import (
        AsyncConnection,
        AsyncSession,
        async_scoped_session,
    )

Target: TypeAlias = (
    "Session | scoped_session[Any] | Connection"
    " | AsyncSession | async_scoped_session[Any] | AsyncConnection"
)
"""What a context can be bound to."""


def unscoped(target: Any) -> Any:
    """Return the session that a scoped session has now; others as they are."""
    scoped = isinstance(target, scoped_session) or _is(target, "async_scoped_session")
    return target() if scoped else target


def sync_side(target: Any) -> Any:
    """Return the sync session or connection of any target; others as they are."""
    if isinstance(target, (Session, Connection)):
        return target
    target = unscoped(target)
    if _is(target, "AsyncSession"):
        return target.sync_session
    if _is(target, "AsyncConnection"):
        return target.sync_connection
    return target


def is_async_session(target: Any) -> bool:
    """Return whether it is a session whose methods are awaited."""
    return _is(target, "AsyncSession")


def is_async_engine(target: Any) -> bool:
    """Return whether it is an engine whose connections are awaited."""
    return _is(target, "AsyncEngine")


def _is(target: Any, name: str) -> bool:
    extension = sys.modules.get("sqlalchemy.ext.asyncio")
    return extension is not None and isinstance(target, getattr(extension, name))
