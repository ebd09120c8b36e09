"""psycopg as one of the drivers that contexts know."""

from __future__ import annotations

from typing import Any

import psycopg
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from sa_history.contexts.connection_state import ConnectionState, state_of
from sa_history.contexts.drivers.base import Driver
from sa_history.contexts.drivers.psycopg.connection import ConnectionMethods
from sa_history.contexts.drivers.psycopg.connection_async import AsyncConnectionMethods
from sa_history.contexts.drivers.psycopg.cursors import (
    ContextCursor,
    ContextServerCursor,
)
from sa_history.contexts.drivers.psycopg.cursors_async import (
    AsyncContextCursor,
    AsyncContextServerCursor,
)
from sa_history.contexts.drivers.psycopg.cursors_base import ContextMixin


class PsycopgDriver(Driver):
    """Sends settings by cursors and methods that a connection is given."""

    connections = (psycopg.Connection, psycopg.AsyncConnection)
    # That of the async driver derives from it.
    dialects = (PGDialect_psycopg,)

    def connected(self) -> None:
        """Do nothing: a connection is prepared when it is checked out."""

    def checked_out(self, connection: Any, info: dict[Any, Any]) -> None:
        """Give a connection cursors and methods that send its settings.

        The connection's own cursor classes, an application's too, are their bases.

        :param connection: psycopg's connection, sync or async.
        :param info: what SQLAlchemy's pool keeps with it.
        """
        state = state_of(info)
        state.check_in()
        if isinstance(connection, psycopg.AsyncConnection):
            is_new = _set_cursors(
                connection, state, AsyncContextCursor, AsyncContextServerCursor
            )
            if is_new:
                AsyncConnectionMethods(connection, state).replace()
        elif _set_cursors(connection, state, ContextCursor, ContextServerCursor):
            ConnectionMethods(connection, state).replace()


def _set_cursors(
    connection: Any,
    state: ConnectionState,
    client: type[Any],
    server: type[Any],
) -> bool:
    """Set the cursor classes of a connection; return True if any was set anew."""
    is_new = False
    for attribute, context_cursor in (
        ("cursor_factory", client),
        ("server_cursor_factory", server),
    ):
        base = getattr(connection, attribute)
        if getattr(base, "connection_state", None) is state:
            continue
        if issubclass(base, ContextMixin):  # of another pool, which had it before
            base = base.base_cursor
        own = {"connection_state": state, "base_cursor": base}
        setattr(connection, attribute, type(base.__name__, (context_cursor, base), own))
        is_new = True
    return is_new
