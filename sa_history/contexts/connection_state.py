"""What a database connection was told of the blocks in force.

The context, and what is ignored, travel in transaction-local settings. Just before a
statement they are compared with what the connection was told last; where they differ,
the settings are sent with the statement. So the user's SQL is never read or changed,
whatever writes has its context, and a transaction that stays in one context is told
once.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Collection
from typing import Any, TypeAlias

from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, event
from sqlalchemy.orm import Session, SessionTransaction

from sa_history.contexts.stack import Blocks, Frame, ambient, ignored, in_force

INFO_KEY = "sa_history"
"""Where stacks and wires stand in ``info`` and in execution options."""

Settings: TypeAlias = tuple[str, str, str, str]
"""What a connection is told: the context's settings, and what is ignored as JSON."""

_IDLE, _INERROR = TransactionStatus.IDLE, TransactionStatus.INERROR

NOTHING: Settings = ("", "", "", "")
"""What a connection is told where no block is in force."""


_Joined: TypeAlias = "tuple[weakref.ref[Session], weakref.ref[SessionTransaction]]"


def _still_in(
    session: weakref.ref[Session], transaction: weakref.ref[SessionTransaction]
) -> Session | None:
    """Return the session, None if it has ended the transaction."""
    known, joined = session(), transaction()
    if known is None or joined is None or known.get_transaction() is not joined:
        return None
    return known


class Wire:
    """One database connection: who uses it, and what it was told.

    It stands in the ``info`` of the pooled connection and lives as long.
    """

    def __init__(self) -> None:
        self._connection: weakref.ref[Connection] | None = None
        # Each with the transaction that it joined; in its next one it may be elsewhere.
        self._sessions: list[_Joined] = []
        # What the connection has; None where that is not known.
        self._told: Settings | None = NOTHING
        self.was_told = False
        """Whether settings were sent in this transaction."""
        self.failed = False
        """Whether the transaction has failed; for drivers that do not know it."""
        self.blocks_of_driver = 0
        """How many blocks of ``transaction()`` are open, where COMMIT is refused."""

    def change_hands(self) -> None:
        """Note that its last user has given it back to the pool."""
        self.may_lose_its_user()
        self._connection = None
        self._sessions.clear()

    def belongs_to(self, connection: Connection) -> None:
        """Note who uses it."""
        if self._connection is None or self._connection() is not connection:
            self._connection = weakref.ref(connection)

    def may_lose_its_user(self) -> None:
        """Have a user that goes on with another connection, or with this one, say so.

        It can where this one is lost, is detached from its pool, or is one that
        several share. It is not asked to before: a Connection that is listened to
        spends more on each statement than it takes to tell the context.
        """
        user = self._connection() if self._connection else None
        if user is not None and not user.closed:
            claim_when_it_begins(user)

    def begin(self, connection: Connection) -> None:
        """Note that SQLAlchemy begins a transaction, for this user."""
        self.belongs_to(connection)
        self._sessions.clear()
        self.forget()

    def used_by(self, session: Session) -> None:
        """Note that a session joins the transaction."""
        # It may be here already, with a savepoint; others may have ended.
        self._sessions = [
            known
            for known in self._sessions
            if (other := _still_in(*known)) is not None and other is not session
        ]
        transaction = session.get_transaction()
        assert transaction is not None  # it has just begun
        self._sessions.append((weakref.ref(session), weakref.ref(transaction)))

    def in_force(self) -> Frame | None:
        """Return the context in force for who uses it now, in this thread."""
        return in_force(self._blocks())

    def ignores(self) -> bool:
        """Return whether who uses it now ignores anything, in this thread."""
        return bool(ignored(self._blocks()))

    def _blocks(self) -> list[Blocks]:
        """Return those that are in use: of the thread, and of who uses it now."""
        blocks = [ambient.blocks] if ambient.blocks else []
        connection = self._connection() if self._connection else None
        if connection is not None:
            of_connection = connection.get_execution_options().get(INFO_KEY)
            if of_connection:
                blocks.append(of_connection)
        # Of sessions that share the connection the one that joined last; a session
        # that has ended its transaction does not use it any more.
        for known in reversed(self._sessions):
            session = _still_in(*known)
            if session is not None:
                of_session = session.info.get(INFO_KEY)
                if of_session:
                    blocks.append(of_session)
                break
        return blocks

    def _settings(self) -> Settings:
        blocks = self._blocks()
        frame, names = in_force(blocks), ignored(blocks)
        if frame is None and not names:
            return NOTHING
        context = frame.settings if frame else ("", "", "")
        return *context, _listed(names)

    def is_calm(self) -> bool:
        """Return whether there is no block, and the connection was not told of one.

        Most statements of a program find that, and need not pay for more. So nothing is
        called here that need not be.
        """
        of_thread = ambient.blocks
        if self.was_told or of_thread.contexts or of_thread.ignored:
            return False
        if self._connection:
            return not self._blocks()
        for joined, _ in self._sessions:
            session = joined()
            if session is not None and session.info.get(INFO_KEY):
                return not self._blocks()
        return True

    def news(self, status: TransactionStatus) -> Settings | None:
        """Return what the connection has to be told now, None for nothing.

        Whoever tells it says so first, by :meth:`telling`.

        :param status: of the connection, before the statement.
        """
        if status == _IDLE:
            if self.was_told:
                self.forget()
        elif status == _INERROR:
            # Only a rollback is possible, and it must not fail because of us.
            return None
        wanted = self._settings()
        return None if wanted == self._told else wanted

    def telling(self) -> None:
        """Note that settings are being sent; the statement may yet fail."""
        self._told, self.was_told = None, True

    def last_news(self, status: TransactionStatus) -> Settings | None:
        """Return what the connection has to be told before COMMIT, None for nothing.

        Triggers that were deferred run in it, and what they write is ignored if it is
        ignored now. Their context is that of the last statement.

        :param status: of the connection.
        """
        if self.is_calm() or status in (_IDLE, _INERROR):
            return None
        if self._told is None:
            return self._settings()
        names = _listed(ignored(self._blocks()))
        return None if names == self._told[3] else (*self._told[:3], names)

    def told(self, news: Settings) -> None:
        """Note that the connection has the settings."""
        self._told = news

    def unsure(self) -> None:
        """Note that settings may have gone back to those at a savepoint."""
        if self.was_told:
            self._told = None

    def forget(self) -> None:
        """Note that a transaction begins; settings end with the one before."""
        self._told, self.was_told, self.failed = NOTHING, False, False


def _listed(names: Collection[str]) -> str:
    return json.dumps(sorted(names)) if names else ""


def claim_when_it_begins(connection: Connection) -> None:
    """Have a Connection say that it uses its database connection, as it begins."""
    for begins in ("begin", "begin_twophase"):
        if not event.contains(connection, begins, _claim):
            event.listen(connection, begins, _claim)


def _claim(connection: Connection, *_: Any) -> None:
    wire_in(connection.info).belongs_to(connection)


def wire_in(info: dict[Any, Any]) -> Wire:
    """Return the wire that stands in the ``info`` of a database connection."""
    wire = info.get(INFO_KEY)
    if not isinstance(wire, Wire):
        wire = info[INFO_KEY] = Wire()
    return wire
