"""All that history has of one object, for the person whom it is about."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, overload

from sqlalchemy import ColumnElement, Date, DateTime, Interval, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from sa_history.definition.mapped_tables import Model
from sa_history.exc import EventsError
from sa_history.query.aggregate import AggregateEvent, AggregateRow
from sa_history.tracking.databases import ModelSession
from sa_history.tracking.events import key_values, trackings_with_subclasses
from sa_history.tracking.value_text import as_json
from sa_history.util.sessions import (
    AnyAsyncSession,
    SyncSession,
    is_async_session,
    session_of,
)


@overload
def subject(
    session: SyncSession,
    model: Model,
    key: Any,
    *,
    references: int = ...,
    user: Any = ...,
) -> dict[str, Any]: ...


@overload
def subject(
    session: AnyAsyncSession,
    model: Model,
    key: Any,
    *,
    references: int = ...,
    user: Any = ...,
) -> Awaitable[dict[str, Any]]: ...


def subject(
    session: SyncSession | AnyAsyncSession,
    model: Model,
    key: Any,
    *,
    references: int = 1,
    user: Any = None,
) -> dict[str, Any] | Awaitable[dict[str, Any]]:
    """Return all that history has of one object, in types that JSON has.

    It is what a person may ask for whose data is stored, such as by article 15 of the
    GDPR. What was erased is ``{"erased": true}``.

    :param session: the session to read with. With an async one, await the result.
    :param model: a tracked class or table.
    :param key: the key of the object, a tuple for a key of several columns. The object
        need not exist any more.
    :param references: how many foreign keys to follow to the object, to add the events
        of rows that referred to it; 0 for none.
    :param user: what contexts have as ``user`` if it was this person who made a change,
        to add the events that were made so; None to leave them out.
    :return: ``row``, as it is now, None if it is deleted; ``events`` of the object;
        ``references``, the events of rows that referred to it; and ``made``, the events
        that the person made.
    :raises EventsError: the model is not tracked, the key has another number of
        columns, or the session is none.

    Example::

        print(json.dumps(history.subject(session, Person, 7)))
        await history.subject(async_session, Person, 7, user=7)
    """
    target = session_of(session, "subject", EventsError)
    if is_async_session(target):
        awaitable: Awaitable[dict[str, Any]] = target.run_sync(
            _subject, model, key, references, user
        )
        return awaitable
    return _subject(target, model, key, references, user)


def _subject(
    session: Session, model: Model, key: Any, references: int, user: Any
) -> dict[str, Any]:
    trackings = trackings_with_subclasses(model)
    values = key_values(trackings[0], key)
    row = None
    for tracking in trackings:
        columns = tracking.tracked_columns
        found = columns.by_attribute
        is_row = (
            found[name] == value
            for name, value in zip(columns.key, values, strict=True)
        )
        read = select(*map(_as_read, found.values())).where(*is_row)
        now = ModelSession(session, tracking).execute(read).first()
        if now is not None:
            pairs = zip(found, map(as_json, now), strict=True)
            row = {**dict(pairs), **(row or {})}
    tables = dict.fromkeys(tracking.table for tracking in trackings)
    objects = [(table, tuple(values)) for table in tables]
    # In two steps, since one statement about many models takes PostgreSQL seconds.
    own = AggregateEvent.page(session, *objects)
    others = AggregateEvent.page(session, *objects, references=references)
    numbers = {row.pgh_id for row in own}
    metadata = trackings[0].table.metadata
    made = (
        []
        if user is None
        else AggregateEvent.page(session, metadata, context={"user": user})
    )
    return {
        "model": trackings[0].subject,
        "key": as_json(values),
        "row": row,
        "events": [_event(row) for row in own],
        "references": [_event(row) for row in others if row.pgh_id not in numbers],
        "made": [_event(row) for row in made],
    }


def _as_read(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a column as it is read: times as JSON, as Python has not all of them."""
    is_time = isinstance(column.type, (Date, DateTime, Interval))
    return func.to_jsonb(column, type_=JSONB) if is_time else column


def _event(row: AggregateRow | Any) -> dict[str, Any]:
    return {
        "id": row.pgh_id,
        "model": row.pgh_obj_model,
        "key": row.pgh_obj_id,
        "label": row.pgh_label,
        "operation": row.pgh_op,
        "time": as_json(row.pgh_created_at),
        "transaction": row.pgh_xact_id,
        "context": as_json(row.pgh_context),
        "data": as_json(row.pgh_data),
    }
