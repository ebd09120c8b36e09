"""Which blocks are active where: for a session, a connection, or a thread.

A session keeps its stacks in ``Session.info``, a connection in its execution options
(``Connection.info`` outlives it in the pool), and a thread in :data:`this_thread`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from operator import attrgetter

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from sa_history.contexts.frame import ContextFrame

INFO_KEY = "sa_history"
"""The key of what contexts keep in ``info`` and in execution options."""

_ENTERED = attrgetter("entered")

_NO_KEYS: frozenset[str] = frozenset()


class Stacks:
    """The blocks that are entered for one session, connection or thread.

    ``contexts`` are the frames of ``history.context`` blocks, the innermost last, and
    ``ignored`` the keys that ``history.ignore`` blocks were given.
    """

    def __init__(self) -> None:
        self.contexts: list[ContextFrame] = []
        self.ignored: list[frozenset[str]] = []

    def __bool__(self) -> bool:
        return bool(self.contexts or self.ignored)


class _ThisThread(threading.local):
    """The stacks of blocks without a target."""

    def __init__(self) -> None:
        self.stacks = Stacks()


# Global by its nature: a block without a target is for whatever the thread does.
this_thread = _ThisThread()


def stacks_of_session(session: Session) -> Stacks:
    """Return the stacks of a session, which live as long as it does."""
    stacks: Stacks = session.info.setdefault(INFO_KEY, Stacks())
    return stacks


def stacks_of_connection(connection: Connection) -> Stacks:
    """Return the stacks of a connection, which live as long as it does."""
    stacks: Stacks | None = connection.get_execution_options().get(INFO_KEY)
    if stacks is None:
        stacks = Stacks()
        connection.execution_options(**{INFO_KEY: stacks})
    return stacks


def active_stacks(
    connection: Connection | None = None, session: Session | None = None
) -> list[Stacks]:
    """Return the stacks that hold any block: this thread's, and those of the given."""
    stacks = [this_thread.stacks] if this_thread.stacks else []
    if connection is not None:
        of_connection = connection.get_execution_options().get(INFO_KEY)
        if of_connection:
            stacks.append(of_connection)
    if session is not None:
        of_session = session.info.get(INFO_KEY)
        if of_session:
            stacks.append(of_session)
    return stacks


def current_frame(stacks: Iterable[Stacks]) -> ContextFrame | None:
    """Return the innermost frame, with the keys of all around it; None without any.

    :param stacks: those that count for what is written now, in any order.
    """
    frames: list[ContextFrame] = []
    for each in stacks:
        frames += each.contexts
    if len(frames) < 2:
        return frames[0] if frames else None
    frames.sort(key=_ENTERED)
    result, *rest = frames
    for frame in rest:
        result = frame.nested_in(result)
    return result


def ignored_keys(stacks: Iterable[Stacks]) -> frozenset[str]:
    """Return the keys that any ``history.ignore`` block of these stacks was given.

    :param stacks: those that count for what is written now, in any order.
    """
    keys: list[frozenset[str]] = []
    for each in stacks:
        keys += each.ignored
    return _NO_KEYS.union(*keys)
