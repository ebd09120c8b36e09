"""What contexts do on every connection of the process, by listeners of SQLAlchemy.

The listeners are for the whole process, because a context without a target names no
engine, and because a session meets its connections by itself. Importing sa_history
registers them, so that no transaction is missed; connections to other databases are
left alone. None of them is called for each statement; the driver of a connection takes
care of those.
"""

from __future__ import annotations

import contextlib
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.pool import ConnectionPoolEntry, Pool, PoolProxiedConnection

from sa_history.contexts.connection_state import existing_state, state_of
from sa_history.contexts.drivers.registry import OTHERS, driver_of

OTHERS.listen()


@event.listens_for(Pool, "connect")
def _connect(_: Any, record: ConnectionPoolEntry) -> None:
    driver_of(record.driver_connection).connected()


@event.listens_for(Pool, "checkout")
def _check_out(_: Any, record: ConnectionPoolEntry, __: PoolProxiedConnection) -> None:
    # Not in "begin": a Connection makes the cursor of its first statement before.
    connection = record.driver_connection
    driver_of(connection).checked_out(connection, record.info)


@event.listens_for(Pool, "invalidate")
@event.listens_for(Pool, "detach")
def _leave(_: Any, record: ConnectionPoolEntry, *__: Any) -> None:
    state_of(record.info).watch_owner()


@event.listens_for(Session, "after_begin")
def _session_begins(
    session: Session, _: SessionTransaction, connection: Connection
) -> None:
    if connection.dialect.name == "postgresql":
        state_of(connection.info).join(session)


@event.listens_for(Engine, "handle_error")
def _statement_failed(error: ExceptionContext) -> None:
    connection = error.connection
    if error.dialect.name != "postgresql" or connection is None:
        return
    # To ask an invalidated connection for its info would have it connect again.
    if connection.closed or connection.invalidated:
        return
    # A connection has no info while SQLAlchemy asks an engine's first one what server
    # it is. There is no transaction of a user then, and no context.
    with contextlib.suppress(NotImplementedError):
        state = existing_state(connection.info)
        if state is not None:
            state.invalidate()
