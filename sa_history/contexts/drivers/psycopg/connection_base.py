"""What the replaced methods of a psycopg connection have in common; it does no I/O."""

from __future__ import annotations

from typing import Any, ClassVar
from weakref import ref

from psycopg.pq import TransactionStatus

from sa_history.contexts.connection_state import ConnectionState, Settings


class MethodsBase:
    """Methods that stand in for those of one connection, which they call.

    They are those that begin or end a transaction without a cursor.

    :param connection: psycopg's connection. It is referred to weakly, so that it is not
        part of a cycle.
    :param state: its state.
    """

    NAMES: ClassVar[tuple[str, ...]] = (
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

    @property
    def _connection(self) -> Any:
        return self._reference()

    def _is_idle(self) -> bool:
        status = self._connection.pgconn.transaction_status
        return bool(status == TransactionStatus.IDLE)

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
