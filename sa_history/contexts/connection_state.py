"""Which settings each database connection has, so that only changes are sent.

The context, and what is ignored, are transaction-local settings of the database. Just
before a statement the settings that the active blocks ask for are compared with those
that the connection has; if they differ, they are sent with the statement. So the user's
SQL is never read or changed, whatever writes has its context, and a transaction that
stays in one context sends it once.
"""

from __future__ import annotations

import enum
import json
import weakref
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, event
from sqlalchemy.orm import Session, SessionTransaction

from sa_history.contexts.frame import ContextFrame
from sa_history.contexts.stack import (
    INFO_KEY,
    Stacks,
    active_stacks,
    current_frame,
    ignored_keys,
    this_thread,
)

Settings: TypeAlias = tuple[str, str, str, str]
"""The settings of a connection: the three of its context, and ignored keys as JSON."""

NO_SETTINGS: Settings = ("", "", "", "")
"""The settings without any block."""


class TransactionStatus(enum.IntEnum):
    """The status of a connection, by the numbers of libpq.

    psycopg's is equal to it. It is not imported, as there is none without libpq.
    """

    IDLE = 0
    ACTIVE = 1
    INTRANS = 2
    INERROR = 3


_IDLE, _INERROR = TransactionStatus.IDLE, TransactionStatus.INERROR

_JoinedSession: TypeAlias = (
    "tuple[weakref.ref[Session], weakref.ref[SessionTransaction]]"
)


class _NotSent(enum.Enum):
    EMPTY = "nothing was sent in this transaction"
    UNKNOWN = "what the connection has is not known"


EMPTY: Final = _NotSent.EMPTY
UNKNOWN: Final = _NotSent.UNKNOWN


class ConnectionState:
    """The state of one database connection: who uses it, and the settings it has.

    It is kept in the ``info`` of the pooled connection, and lives as long as that. Its
    settings are in one of three states:

    - EMPTY: nothing was sent in this transaction, so the connection has no settings.
    - SENT(settings): these were sent, and the connection has them.
    - UNKNOWN: some were sent, but the connection may have them or older ones.

    =====================  ================  ================  ================
    event                  from EMPTY        from SENT(old)    from UNKNOWN
    =====================  ================  ================  ================
    ``mark_sending()``     UNKNOWN           UNKNOWN           UNKNOWN
    ``mark_sent(new)``     SENT(new)         SENT(new)         SENT(new)
    ``invalidate()``       EMPTY             UNKNOWN           UNKNOWN
    ``reset()``            EMPTY             EMPTY             EMPTY
    =====================  ================  ================  ================

    ``invalidate()`` follows what may have taken settings back, as a rollback to a
    savepoint does, and any error: whether the server has met it is not asked.
    ``reset()`` follows the beginning of a transaction, for settings end with the one
    before. :meth:`pending` resets a connection that is found idle.
    """

    def __init__(self) -> None:
        self._owner: weakref.ref[Connection] | None = None
        # Each with the transaction that it joined; in its next one it may be elsewhere.
        self._sessions: list[_JoinedSession] = []
        # SENT(settings) is the settings themselves.
        self._sent: Settings | _NotSent = EMPTY
        self.transaction_blocks = 0
        """How many ``transaction()`` blocks of the driver are open."""
        self.in_own_cursor = False
        """True while a cursor of ours executes what it sends the settings of."""
        self.on_citus: bool | None = None
        """Whether the server has Citus; None until it was asked, with settings."""
        self.may_be_single_row = False
        """True if libpq may still be in the single-row mode of a stream."""

    # Who uses the connection.

    def bind(self, connection: Connection) -> None:
        """Make a Connection of SQLAlchemy the owner, whose blocks count."""
        if self._owner is None or self._owner() is not connection:
            self._owner = weakref.ref(connection)

    def join(self, session: Session) -> None:
        """Add a session that has begun a transaction here, and whose blocks count."""
        # It may be here already, with a savepoint; others may have ended.
        self._sessions = [
            joined
            for joined in self._sessions
            if (other := _still_joined(*joined)) is not None and other is not session
        ]
        transaction = session.get_transaction()
        assert transaction is not None  # it has just begun
        self._sessions.append((weakref.ref(session), weakref.ref(transaction)))

    def begin(self, connection: Connection) -> None:
        """Reset the state: SQLAlchemy begins a transaction for this owner."""
        self.bind(connection)
        self._sessions.clear()
        self.reset()

    def check_in(self) -> None:
        """Forget the owner and the sessions, which have given the connection back."""
        self.watch_owner()
        self._owner = None
        self._sessions.clear()

    def watch_owner(self) -> None:
        """Re-bind the owner when it next begins a transaction.

        Its pooled connection may have been invalidated, detached, or be shared. It is
        not listened to before: a Connection with listeners spends more on each
        statement than it takes to send the context.
        """
        owner = self._owner() if self._owner else None
        if owner is not None and not owner.closed:
            rebind_on_begin(owner)

    def current_frame(self) -> ContextFrame | None:
        """Return the context of what is written now, in this thread."""
        return current_frame(self._stacks())

    def is_ignoring(self) -> bool:
        """Return True if any trigger is ignored now, in this thread."""
        return bool(ignored_keys(self._stacks()))

    def _stacks(self) -> list[Stacks]:
        # Of sessions that share the connection the one that joined last counts; a
        # session that has ended its transaction does not use it any more.
        session = None
        for joined in reversed(self._sessions):
            session = _still_joined(*joined)
            if session is not None:
                break
        return active_stacks(self._owner() if self._owner else None, session)

    @contextmanager
    def own_cursor(self) -> Iterator[None]:
        """Set ``in_own_cursor`` within the block.

        The attribute is False afterwards, also if another task is in such a block. The
        statement of that task is then taken for one of any other cursor.
        """
        self.in_own_cursor = True
        try:
            yield
        finally:
            self.in_own_cursor = False

    # Which settings it has.

    def has_nothing_to_send(self) -> bool:
        """Return True if no block is active and nothing was sent in this transaction.

        It runs before every statement; keep it cheap. Nothing is called in it that need
        not be, as most statements of a program are outside of all blocks.
        """
        of_thread = this_thread.stacks
        if self._sent is not EMPTY or of_thread.contexts or of_thread.ignored:
            return False
        if self._owner:
            return not self._stacks()
        for joined, _ in self._sessions:
            session = joined()
            if session is not None and session.info.get(INFO_KEY):
                return not self._stacks()
        return True

    @property
    def has_sent(self) -> bool:
        """Whether settings were sent in this transaction."""
        return self._sent is not EMPTY

    def pending(self, status: int) -> Settings | None:
        """Return the settings to send before the next statement, or None for none.

        Call :meth:`mark_sending` before they are sent.

        :param status: a :class:`TransactionStatus`, before the statement.
        """
        if status == _IDLE:
            if self._sent is not EMPTY:
                self.reset()
        elif status == _INERROR:
            # Only a rollback is possible, and it must not fail because of us.
            return None
        wanted = self._wanted()
        sent = NO_SETTINGS if self._sent is EMPTY else self._sent
        return None if wanted == sent else wanted

    def pending_before_commit(self, status: int) -> Settings | None:
        """Return the settings to send before COMMIT, or None for none.

        Deferred triggers run in it, and what they write is ignored if it is ignored
        now. Their context is that of the last statement.

        :param status: a :class:`TransactionStatus`.
        """
        if self.has_nothing_to_send() or status in (_IDLE, _INERROR):
            return None
        if self._sent is UNKNOWN:
            return self._wanted()
        sent = NO_SETTINGS if self._sent is EMPTY else self._sent
        ignored = _as_json(ignored_keys(self._stacks()))
        return None if ignored == sent[3] else (*sent[:3], ignored)

    def _wanted(self) -> Settings:
        stacks = self._stacks()
        frame, ignored = current_frame(stacks), ignored_keys(stacks)
        if frame is None and not ignored:
            return NO_SETTINGS
        context = frame.settings if frame else ("", "", "")
        return *context, _as_json(ignored)

    def mark_sending(self) -> None:
        """Go to UNKNOWN: settings are being sent, and the statement may yet fail."""
        self._sent = UNKNOWN

    def mark_sent(self, settings: Settings) -> None:
        """Go to SENT: the connection has these settings."""
        self._sent = settings

    def invalidate(self) -> None:
        """Go to UNKNOWN, unless nothing was sent: settings may have been taken back."""
        if self._sent is not EMPTY:
            self._sent = UNKNOWN

    def reset(self) -> None:
        """Go to EMPTY: a transaction begins."""
        self._sent = EMPTY


def _still_joined(
    session: weakref.ref[Session], transaction: weakref.ref[SessionTransaction]
) -> Session | None:
    """Return the session, or None if it has ended the transaction."""
    known, joined = session(), transaction()
    if known is None or joined is None or known.get_transaction() is not joined:
        return None
    return known


def _as_json(keys: Collection[str]) -> str:
    return json.dumps(sorted(keys)) if keys else ""


def rebind_on_begin(connection: Connection) -> None:
    """Have a Connection bound to its database connection when it next begins.

    :param connection: one whose database connection may be another one by then.
    """
    for begins in ("begin", "begin_twophase"):
        if not event.contains(connection, begins, _rebind):
            event.listen(connection, begins, _rebind)


def _rebind(connection: Connection, *_: Any) -> None:
    state_of(connection.info).bind(connection)


def state_of(info: dict[Any, Any]) -> ConnectionState:
    """Return the state of a database connection, which is new if it had none.

    :param info: what SQLAlchemy's pool keeps with the connection.
    """
    state = existing_state(info)
    if state is None:
        state = info[INFO_KEY] = ConnectionState()
    return state


def existing_state(info: dict[Any, Any]) -> ConnectionState | None:
    """Return the state of a database connection, or None if it has none yet.

    :param info: what SQLAlchemy's pool keeps with the connection.
    """
    state = info.get(INFO_KEY)
    return state if isinstance(state, ConnectionState) else None
