"""Session events: statements about events go to the database of the tracked model.

Those that would change events are refused, unless they are asked for; and a flush warns
of what was changed in a block that has ended. The listeners are for all sessions of the
process, and leave other statements of one database alone. They are registered when the
first model is tracked, since SQLAlchemy spends some microseconds more on each statement
of a session that has such a listener.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Engine, event, update
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import Mapper, ORMExecuteState, Session

from sa_history.exc import EventsError
from sa_history.tracking.context_class import Context
from sa_history.tracking.databases import (
    ASKED,
    database_of,
    is_same_database,
    may_have_several,
    read_by,
    require_one_database,
    tables_in,
    written_by,
)
from sa_history.tracking.editing import refuse_statement
from sa_history.tracking.event_class import Event
from sa_history.tracking.late_flush import warn_of_late_flush
from sa_history.tracking.registry import Tracking, history_of

REQUIRES = "sa_history_requires"
"""The execution option of a statement with what it needs.

A function that is called before a session executes the statement, with the connection
and the parameters that were given.
"""


def listen_to_sessions() -> None:
    """Begin to lead statements about events to the databases of tracked models.

    And to warn of changes that are flushed after their block.
    """
    if not event.contains(Session, "do_orm_execute", _before_execution):
        event.listen(Session, "do_orm_execute", _before_execution)
        event.listen(Session, "before_flush", warn_of_late_flush)


def _before_execution(state: ORMExecuteState) -> None:
    _lead_to_the_model(state)
    require = state.execution_options.get(REQUIRES)
    if require is not None:
        connection = state.session.connection(bind_arguments={**state.bind_arguments})
        require(connection, state.parameters)


def _lead_to_the_model(state: ORMExecuteState) -> None:
    """Lead a statement about events to the database of the tracked model."""
    session, arguments = state.session, state.bind_arguments
    if state.is_update or state.is_delete:
        _refuse_changes(state)
    if "bind" in arguments or not may_have_several(session.info.get(ASKED, session)):
        return
    mapper: Any = state.bind_mapper
    if mapper is None:
        _lead_tables(state)
        return
    tracking = _tracking_of(state, mapper)
    if tracking is None:
        return
    by_itself = {"mapper": mapper, "clause": update(mapper.local_table)}
    try:
        own: Engine | None = database_of(session, by_itself)
    except UnboundExecutionError:
        own = None
    # Else the session chooses by itself, as it may have copies to read from.
    if own is None or not is_same_database(
        own, database_of(session, written_by(tracking))
    ):
        # Not the mapper: the ORM sets it again, to that of the statement.
        asked = {"clause": state.statement, **read_by(tracking)}
        arguments["bind"] = session.get_bind(**asked)


def _refuse_changes(state: ORMExecuteState) -> None:
    """Refuse to change events or contexts, as the flush of such an object does."""
    changed = None if state.bind_mapper is None else state.bind_mapper.class_
    if changed is None or not issubclass(changed, (Event, Context)):
        return
    if issubclass(changed, Context) or not changed.pgh_tracking.options.append_only:
        refuse_statement(state, changed)


def _lead_tables(state: ORMExecuteState) -> None:
    trackings = list(_trackings_in(state.statement))
    if trackings:
        require_one_database(state.session, trackings, "a SELECT", EventsError)
        is_write = state.is_insert or state.is_update or state.is_delete
        made_of = written_by if is_write else read_by
        state.bind_arguments.update(made_of(trackings[0]))


def _trackings_in(statement: Any) -> Iterator[Tracking]:
    """Yield the trackings whose events a statement of Core reads or writes.

    Those of the MetaData, if it is about contexts only.
    """
    tables = {*tables_in(statement)}
    for metadata in dict.fromkeys(table.metadata for table in tables):
        history = history_of(metadata)
        if history is not None:
            known = history.trackings.values()
            own = [tracking for tracking in known if tracking.event_table in tables]
            if not own and history.shared.context_table in tables:
                own = [*known]
            yield from own


def _tracking_of(state: ORMExecuteState, mapper: Mapper[Any]) -> Tracking | None:
    """Return the tracking that leads a statement about a class, None for none.

    :raises EventsError: contexts are asked for, and the session has several databases
        with tables of contexts.
    """
    if issubclass(mapper.class_, Event):
        return mapper.class_.pgh_tracking
    if not issubclass(mapper.class_, Context):
        return None
    for loading in _loading(state):
        if issubclass(loading.class_, Event):
            return loading.class_.pgh_tracking
    history = history_of(mapper.local_table.metadata)  # type: ignore[attr-defined]
    assert history is not None
    trackings = list(history.trackings.values())
    require_one_database(state.session, trackings, "a SELECT of contexts", EventsError)
    return next(iter(trackings), None)


def _loading(state: ORMExecuteState) -> Iterator[Mapper[Any]]:
    """Yield the mappers of the objects whose relationship a statement loads."""
    if state.lazy_loaded_from is not None:
        yield state.lazy_loaded_from.mapper
    path: Any = state.loader_strategy_path
    for entity in reversed(() if path is None else path.path):
        if hasattr(entity, "class_"):
            yield entity.mapper
