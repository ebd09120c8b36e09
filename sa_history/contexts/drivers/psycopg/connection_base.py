"""What the replaced methods of a psycopg connection have in common; it does no I/O."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any, ClassVar
from weakref import ref

from psycopg.pq import TransactionStatus

from sa_history.contexts.connection_state import ConnectionState, Settings
from sa_history.contexts.drivers.base import warn_of_loss
from sa_history.contexts.drivers.psycopg.cursors_base import (
    begin_with,
    sends_begin,
    set_within,
)

_IDLE = TransactionStatus.IDLE


class MethodsBase:
    """Methods that stand in for those of one connection, which they call.

    They are those that begin or end a transaction without a cursor, and what every
    cursor calls before it sends a query.

    :param connection: psycopg's connection. It is referred to weakly, so that it is not
        part of a cycle.
    :param state: its state.
    """

    NAMES: ClassVar[tuple[str, ...]] = (
        "_start_query",
        "transaction",
        "commit",
        "tpc_begin",
        "tpc_prepare",
        "tpc_commit",
    )

    def __init__(self, connection: Any, state: ConnectionState) -> None:
        self._reference = ref(connection)
        self._state = state

    def replace(self) -> None:
        """Set the methods on the connection; those of an application stay."""
        connection = self._connection
        for name in self.NAMES:
            known = vars(connection).get(name)
            if known is None or isinstance(
                getattr(known, "__self__", None), MethodsBase
            ):
                setattr(connection, name, getattr(self, name))

    def _start_query(self) -> Iterable[Any]:
        """Begin a transaction, if psycopg would, before a cursor sends a query.

        A cursor that is made of its class, as psycopg.ClientCursor(connection), comes
        by here too. Its settings are sent here, in a round trip of their own if the
        transaction has begun.
        """
        connection: Any = self._reference()
        if self._state.in_own_cursor:
            if connection._autocommit or connection.pgconn.transaction_status != _IDLE:
                # psycopg's generator would do nothing. To leave it out pays for this
                # call, which is made for every statement.
                return ()
        else:
            self._state.may_be_single_row = True  # it may be a stream
            if not self._state.has_nothing_to_send():
                return self._start_in_context()
        own: Iterable[Any] = type(connection)._start_query(connection)
        return own

    def _start_in_context(self) -> Generator[Any, Any, None]:
        connection, state = self._connection, self._state
        settings = state.pending(connection.pgconn.transaction_status)
        if settings is None:
            # The query may be a rollback to a savepoint, which takes settings back.
            state.invalidate()
            yield from type(connection)._start_query(connection)
        elif connection.autocommit and self._is_idle():
            warn_of_loss(
                state,
                "in autocommit a cursor that is made of its class cannot send it "
                "together with the statement; use connection.cursor()",
                stacklevel=6,
            )
        else:
            # It stays unknown, for the same reason.
            state.mark_sending()
            if sends_begin(connection):
                yield from begin_with(connection, state, settings, asks=False)
            else:
                yield from type(connection)._start_query(connection)
                yield from set_within(connection, state, settings)

    @property
    def _connection(self) -> Any:
        return self._reference()

    def _is_idle(self) -> bool:
        return bool(self._connection.pgconn.transaction_status == _IDLE)

    def _pending(self) -> Settings | None:
        """Return the settings to send before COMMIT, or None; they are being sent."""
        status = self._connection.pgconn.transaction_status
        settings = self._state.pending_before_commit(status)
        if settings is not None:
            # psycopg may refuse to end the transaction, which then goes on.
            self._state.mark_sending()
        return settings

    def _may_commit(self) -> bool:
        """Return True if psycopg lets COMMIT be sent; it raises only when asked to."""
        # Of a transaction of two phases psycopg tells nobody else.
        in_two_phases = getattr(self._connection, "_tpc", None)
        return not (self._state.transaction_blocks or in_two_phases)
