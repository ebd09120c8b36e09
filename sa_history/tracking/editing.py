"""Changes of what is recorded: refused in a session, unless they are asked for.

An event is an object like any other, so that a careless assignment, or a ``delete`` of
too much, would change it with the next flush. Append-only event tables are left to the
database, which refuses more than sessions do. Statements of Core and of other programs
are refused by such a table only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, event, inspect
from sqlalchemy.orm import Mapper, ORMExecuteState, Session, object_session

from sa_history.exc import EventsError
from sa_history.util.sessions import Target, sync_side

EDITING = "sa_history_editing"
"""The key in ``Session.info`` of a session in a block of :func:`editing_events`."""


@contextmanager
def editing_events(session: Target) -> Iterator[None]:
    """Let a session change and delete events and contexts within the block.

    Elsewhere an :class:`EventsError` refuses it, as the session is flushed or an
    ``update`` or ``delete`` of an event class is executed. Flush or commit within the
    block. It changes nothing for ``append_only=True``, which the database enforces.

    :param session: the session, sync or async; the block is an ordinary ``with`` for
        both.
    :raises EventsError: ``session`` is not a session.

    Example::

        with history.editing_events(session):
            for event in session.scalars(Customer.events.of(7).select()):
                event.name = "(erased)"
            session.commit()
    """
    found = sync_side(session)
    if not isinstance(found, Session):
        raise EventsError(f"editing_events takes a session, got {session!r}")
    was_editing = found.info.get(EDITING, False)
    found.info[EDITING] = True
    try:
        yield
    finally:
        found.info[EDITING] = was_editing


def refuse_changes_of(recorded: type[Any]) -> None:
    """Refuse UPDATE and DELETE of the objects of a mapped event or context class."""
    event.listen(recorded, "before_update", _before_update)
    event.listen(recorded, "before_delete", _before_delete)


def refuse_statement(state: ORMExecuteState, recorded: type[Any]) -> None:
    """Refuse a statement that changes objects of a class, unless it is asked for.

    :param state: an UPDATE or DELETE.
    :param recorded: the event or context class.
    :raises EventsError: it is not asked for.
    """
    if not state.session.info.get(EDITING):
        raise EventsError(_message(f"{recorded.__name__} objects", state.is_update))


def _before_update(_: Mapper[Any], __: Connection, target: Any) -> None:
    state = inspect(target)
    columns = state.mapper.column_attrs.keys()
    # An assignment of the same value is no change.
    if any(state.attrs[name].history.has_changes() for name in columns):
        _refuse(target, is_update=True)


def _before_delete(_: Mapper[Any], __: Connection, target: Any) -> None:
    _refuse(target, is_update=False)


def _refuse(target: Any, *, is_update: bool) -> None:
    session = object_session(target)
    if session is not None and not session.info.get(EDITING):
        # Not its repr, which might have to load attributes.
        name = f"{type(target).__name__} {inspect(target).identity[0]}"
        raise EventsError(_message(name, is_update))


def _message(what: str, is_update: bool) -> str:
    verb = "change" if is_update else "delete"
    return (
        f"the session would {verb} {what}, and what is recorded stays as it is; if it "
        "has to go, flush within: with history.editing_events(session): ..."
    )
