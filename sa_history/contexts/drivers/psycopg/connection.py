# Made of connection_async.py by tools/async_to_sync.py: change that file, and run it.
"""Methods of a psycopg connection that begin or end a transaction without a cursor.

They reset the state of the connection, and send what deferred triggers need before the
transaction ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from sa_history.contexts.connection_state import Settings
from sa_history.contexts.drivers.psycopg.connection_base import MethodsBase
from sa_history.contexts.drivers.psycopg.cursors import set_config
from sa_history.sql.session_settings import SET_CONFIG


class ConnectionMethods(MethodsBase):
    """The methods of one connection; each calls that of the connection's class."""

    @contextmanager
    def transaction(self, *args: Any, **options: Any) -> Iterator[Any]:
        """Open a block of a transaction or a savepoint."""
        connection = self._connection
        is_outermost = self._is_idle()
        own = type(connection).transaction
        self._state.transaction_blocks += 1
        try:
            with own(connection, *args, **options) as transaction:
                if is_outermost:
                    self._state.reset()
                yield transaction
                if is_outermost and (settings := self._pending()):
                    self._send(settings)
        finally:
            self._state.transaction_blocks -= 1
            self._state.invalidate()

    def commit(self) -> None:
        """Commit the transaction, with the settings in the message of COMMIT."""
        connection = self._connection
        settings = self._pending()
        in_pipeline = connection.pgconn.pipeline_status
        if settings and (in_pipeline or self._state.on_citus):
            self._send(settings)
        elif settings is not None and self._may_commit():
            # In one message, so that it costs no round trip.
            cursor = psycopg.ClientCursor(connection, row_factory=tuple_row)
            with self._state.own_cursor():
                cursor.execute(f"{SET_CONFIG}; COMMIT", settings)
        type(connection).commit(connection)

    def tpc_begin(self, *args: Any) -> None:
        """Begin a transaction of two phases."""
        connection = self._connection
        type(connection).tpc_begin(connection, *args)
        self._state.reset()

    def tpc_prepare(self) -> None:
        """Perform the first phase."""
        connection = self._connection
        if settings := self._pending():
            self._send(settings)
        type(connection).tpc_prepare(connection)

    def tpc_commit(self, *args: Any, **options: Any) -> None:
        """Commit a transaction of two phases; it may be one that is not prepared."""
        connection = self._connection
        if settings := self._pending():
            self._send(settings)
        type(connection).tpc_commit(connection, *args, **options)

    def _send(self, settings: Settings) -> None:
        with self._state.own_cursor():
            set_config(self._connection, self._state, settings)
