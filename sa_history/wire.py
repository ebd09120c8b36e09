"""What a database connection was told of the context in force.

The context travels in transaction-local settings. Just before a statement it is
compared with what the connection was told last; where it differs, the settings are
sent with the statement. So the user's SQL is never read or changed, whatever writes
has its context, and a transaction that stays in one context is told once.
"""

from __future__ import annotations

import weakref
from typing import Any

from psycopg.pq import TransactionStatus
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from sa_history.frames import Frame, Settings, in_force

INFO_KEY = "sa_history"
"""Where stacks and wires stand in ``info`` and in execution options."""

NOTHING: Settings = ("", "", "")
"""What a connection is told where no context is in force."""


class Wire:
    """One database connection: who uses it, and what it was told.

    It stands in the ``info`` of the pooled connection and lives as long.
    """

    def __init__(self) -> None:
        self._connection: weakref.ref[Connection] | None = None
        self._sessions: list[weakref.ref[Session]] = []
        # What the connection has; None where that is not known.
        self._told: Settings | None = NOTHING
        self._was_told = False

    def begin(self, connection: Connection) -> None:
        """Note that a transaction begins, for this user."""
        if self._connection is None or self._connection() is not connection:
            self._connection = weakref.ref(connection)
        self._sessions.clear()
        self._forget()

    def used_by(self, session: Session) -> None:
        """Note that a session joins the transaction."""
        self._sessions.append(weakref.ref(session))

    def _in_force(self) -> Frame | None:
        stacks: list[list[Frame]] = []
        connection = self._connection() if self._connection else None
        if connection is not None:
            stack = connection.get_execution_options().get(INFO_KEY)
            if stack:
                stacks.append(stack)
        # Of sessions that share the connection the one that joined last; a session
        # that has ended its transaction does not use it any more.
        for reference in reversed(self._sessions):
            session = reference()
            if session is not None and session.in_transaction():
                stack = session.info.get(INFO_KEY)
                if stack:
                    stacks.append(stack)
                break
        return in_force(stacks)

    def news(self, status: TransactionStatus) -> Settings | None:
        """Return what the connection has to be told now, None for nothing.

        :param status: of the connection, before the statement.
        """
        if status == TransactionStatus.IDLE:
            self._forget()
        elif status == TransactionStatus.INERROR:
            # Only a rollback is possible, and it must not fail because of us.
            return None
        frame = self._in_force()
        wanted = frame.settings if frame else NOTHING
        return None if wanted == self._told else wanted

    def told(self, news: Settings) -> None:
        """Note that the connection has the settings."""
        self._told = news
        self._was_told = True

    def unsure(self) -> None:
        """Note that settings may have gone back to those at a savepoint."""
        if self._was_told:
            self._told = None

    @property
    def was_told(self) -> bool:
        """Whether settings were sent in this transaction."""
        return self._was_told

    def _forget(self) -> None:
        # Settings that are local to a transaction end with it.
        self._told, self._was_told = NOTHING, False


def wire_in(info: dict[Any, Any]) -> Wire:
    """Return the wire that stands in the ``info`` of a database connection."""
    wire = info.get(INFO_KEY)
    if not isinstance(wire, Wire):
        wire = info[INFO_KEY] = Wire()
    return wire
