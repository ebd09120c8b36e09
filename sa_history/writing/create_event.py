"""Events that an application writes itself, and not a trigger."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, overload

from sqlalchemy import (
    ColumnElement,
    Table,
    Text,
    insert,
    literal,
    literal_column,
    select,
    types,
)
from sqlalchemy import cast as cast_sql
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningInsert

from sa_history._types import Op
from sa_history.ddl.elements import DEFAULT_SCHEMA
from sa_history.definition.mapped_tables import MappedObject
from sa_history.exc import EventsError
from sa_history.sql.expressions import call_once
from sa_history.sql.session_settings import ASK_CITUS
from sa_history.tracking.databases import ModelSession
from sa_history.tracking.distribution import refuse_distributed, refuse_elsewhere
from sa_history.tracking.event_class import Event, map_events
from sa_history.tracking.events import TrackedObject, trackings_of
from sa_history.tracking.identity import key_of
from sa_history.tracking.registry import Tracking
from sa_history.util.messages import suggestion
from sa_history.util.sessions import (
    AnyAsyncSession,
    SyncSession,
    is_async_session,
    session_of,
)


@overload
def create_event(
    session: SyncSession, obj: MappedObject | TrackedObject, *, label: str
) -> Event: ...


@overload
def create_event(
    session: AnyAsyncSession, obj: MappedObject | TrackedObject, *, label: str
) -> Awaitable[Event]: ...


def create_event(
    session: SyncSession | AnyAsyncSession,
    obj: MappedObject | TrackedObject,
    *,
    label: str,
) -> Event | Awaitable[Event]:
    """Write an event for an object whose class has a :class:`Manual` tracker.

    The session is flushed first, and the event stores the row as it is in the database
    after that.

    :param session: the session to write in. With an async one, await the result.
    :param obj: the object that the event is about.
    :param label: the label of a Manual tracker of the object's class.
    :return: the event.
    :raises EventsError: the object's class has no Manual tracker of this label, its
        row is not in the database, or the session is none.
    :raises DistributionError: Citus has the events on another node.

    Example::

        history.create_event(session, user, label="user.login")
        await history.create_event(async_session, user, label="user.login")
    """
    target = session_of(session, "create_event", EventsError)
    tracking = _tracking_with(label, obj)
    refuse_distributed(tracking, "create_event")
    if is_async_session(target):
        awaitable: Awaitable[Event] = target.run_sync(_create, tracking, obj, label)
        return awaitable
    return _create(target, tracking, obj, label)


def _create(session: Session, tracking: Tracking, obj: object, label: str) -> Event:
    session.flush()  # before the INSERT is made: the object may get its key from it
    own = ModelSession(session, tracking)
    written = own.execute(_insert(tracking, obj, label)).first()
    event_id, citus = written or (None, None)
    if citus:
        connection = session.connection(bind_arguments=own.bind_arguments)
        refuse_elsewhere(tracking, connection, "create_event")
    event = None if event_id is None else session.get(map_events(tracking), event_id)
    if event is None:
        raise EventsError(
            f"this {tracking.subject} has no row in the database, so its event "
            f"{label!r} has nothing to store; record it before the row is deleted"
        )
    return event


def _insert(tracking: Tracking, obj: object, label: str) -> ReturningInsert[Any]:
    """Return the INSERT of an event, from a SELECT of the object's row."""
    tracker = tracking.tracker(label)
    assert tracker is not None
    columns = tracking.tracked_columns
    values: dict[str, Any] = {
        "pgh_label": literal(label),
        "pgh_op": literal(Op.MANUAL.value),
    }
    if columns.object_id:
        values[columns.object_id] = columns.by_attribute[columns.key[0]]
    for name in tracker.stored(columns):
        values[columns.column_name(name)] = columns.by_attribute[name]
    values.update(context_values(tracking))
    row = select(*values.values()).where(
        *(column == value for column, value in key_of(tracking, obj))
    )
    events = tracking.event_table
    # The setting is NULL unless the server has Citus.
    citus: ColumnElement[Any] = literal_column(ASK_CITUS)
    made = insert(events).from_select(list(values), row)
    return made.returning(events.c.pgh_id, citus)


def _tracking_with(label: str, obj: object) -> Tracking:
    manual: dict[str, Tracking] = {}
    for tracking in trackings_of(obj):
        for tracker in tracking.trackers:
            if not tracker.operations:
                manual.setdefault(tracker.event_label, tracking)
    if isinstance(obj, (type, Table)):
        raise EventsError(
            f"create_event takes an object, got {obj!r}; give the one whose event it is"
        )
    if not isinstance(label, str):
        raise EventsError(
            f"label is that of a Manual tracker, got {label!r}; give its text"
        )
    if label not in manual:
        raise EventsError(
            f"{type(obj).__name__} has no Manual tracker with the label {label!r}"
            + (suggestion(label, manual) if manual else "; give it Manual(label)")
        )
    return manual[label]


def context_values(tracking: Tracking) -> dict[str, ColumnElement[Any]]:
    """Return what triggers would store of the context, by the keys of event columns."""
    options, shared = tracking.options, tracking.history.shared
    values = tracking.context_storage.insert_values()
    for column in options.context_columns:
        value = call_once(
            shared.context_value,
            Text(),
            literal(column.name),
            literal(not column.nullable),
            literal(isinstance(column.type, types.JSON)),
            cast_sql(literal(tracking.table.schema or DEFAULT_SCHEMA), Text),
            cast_sql(literal(tracking.table.name), Text),
        )
        values[column.key] = cast_sql(value, column.type)
    return values
