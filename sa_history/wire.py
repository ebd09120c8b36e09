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

from sa_history.frames import Frame, in_force
from sa_history.sql.naming import CONTEXT_ID, CONTEXT_METADATA, CONTEXT_PARENT_ID

INFO_KEY = "sa_history"
"""Where stacks and wires stand in ``info`` and in execution options."""

SETTINGS = (CONTEXT_ID, CONTEXT_METADATA, CONTEXT_PARENT_ID)


def settings_for(frame: Frame | None) -> tuple[str, str, str]:
    """Return the values of :data:`SETTINGS` for a frame; empty ones for None."""
    if frame is None:
        return "", "", ""
    return str(frame.id), frame.json, str(frame.parent.id) if frame.parent else ""


class Wire:
    """One database connection: who uses it, and what it was told.

    It stands in the ``info`` of the pooled connection and lives as long.
    """

    def __init__(self) -> None:
        self._connection: weakref.ref[Connection] | None = None
        self._sessions: list[weakref.ref[Session]] = []
        self._told: tuple[Frame, str] | None = None
        self._certain = True

    def begin(self, connection: Connection) -> None:
        """Note that a transaction begins, for this user."""
        if self._connection is None or self._connection() is not connection:
            self._connection = weakref.ref(connection)
        self._sessions.clear()
        self._told, self._certain = None, True

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

    def news(self, status: TransactionStatus) -> News | None:
        """Return what the connection has to be told now, None for nothing.

        :param status: of the connection, before the statement.
        """
        if status == TransactionStatus.IDLE:
            # A new transaction; local settings ended with the last one.
            self._told, self._certain = None, True
        elif status == TransactionStatus.INERROR:
            # Only a rollback is possible, and it must not fail because of us.
            return None
        frame = self._in_force()
        if frame is None:
            return News(None) if self._told or not self._certain else None
        if self._certain and self._told is not None:
            told_frame, told_json = self._told
            if told_frame is frame and told_json is frame.json:
                return None
        return News(frame)

    def told(self, news: News) -> None:
        """Note that the connection has the settings."""
        self._told = (news.frame, news.frame.json) if news.frame else None
        self._certain = True

    def unsure(self) -> None:
        """Note that settings may have gone back to those at a savepoint."""
        if self._told is not None:
            self._certain = False

    @property
    def was_told(self) -> bool:
        """Whether settings were sent in this transaction."""
        return self._told is not None or not self._certain


class News:
    """What a connection has to be told: a frame, or that none is in force."""

    __slots__ = ("frame", "values")

    def __init__(self, frame: Frame | None) -> None:
        self.frame = frame
        self.values = settings_for(frame)


def wire_in(info: dict[Any, Any]) -> Wire:
    """Return the wire that stands in the ``info`` of a database connection."""
    wire = info.get(INFO_KEY)
    if not isinstance(wire, Wire):
        wire = info[INFO_KEY] = Wire()
    return wire
