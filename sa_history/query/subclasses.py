"""The events of rows of a mapped class that shares its tables with other classes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    FromClause,
    Table,
    inspect,
    select,
    tuple_,
)
from sqlalchemy.orm import Mapper

from sa_history.exc import EventsError
from sa_history.tracking.event_keys import keys_of
from sa_history.tracking.registry import Tracking, trackings_of_table


def events_of_class(model: Any, tracking: Tracking) -> ColumnElement[bool] | None:
    """Return the criterion of events whose row is of a class.

    It is the discriminator that the event stores. Events without it, such as those of
    the other tables of joined inheritance, are found by the key of the row.

    :param model: a mapped class, or any other target.
    :param tracking: the tracking of one of the class's tables.
    :return: None if all rows of the table are of the class.
    :raises EventsError: no event stores which rows are of the class.
    """
    if not isinstance(model, type) or not hasattr(model, "__mapper__"):
        return None
    mapper: Mapper[Any] = inspect(model)
    owners = [m for m in mapper.iterate_to_root() if m.local_table is tracking.table]
    if not owners or owners[-1] is mapper:
        return None
    kind = mapper.polymorphic_on
    if kind is None and mapper.local_table is tracking.table:
        return None  # SQLAlchemy does not tell these classes apart either
    if isinstance(kind, Column):
        if kind.table is tracking.table and _all_store(tracking, kind):
            return _is_of_class(mapper, tracking.event_table.c[kind.name])
        for other in trackings_of_table(kind.table):
            if kind.name in other.event_table.c:
                events = other.event_table.alias("of_class")
                is_of_class = _is_of_class(mapper, events.c[kind.name])
                return _has_key_of(tracking, other, events, is_of_class)
    own, inherited = mapper.local_table, mapper.inherits
    if (
        isinstance(own, Table)
        and inherited is not None
        and own is not inherited.local_table
    ):
        # Of joined inheritance: the rows of the class have one in its own table.
        for other in trackings_of_table(own):
            events = other.event_table.alias("of_class")
            return _has_key_of(tracking, other, events)
    raise EventsError(
        f"{model.__name__} shares the table {tracking.table.name!r} with other "
        "classes, and no event stores the column that tells them apart; track that "
        "column, or give the table"
    )


def _is_of_class(
    mapper: Mapper[Any], discriminator: ColumnElement[Any]
) -> ColumnElement[bool]:
    found = [m.polymorphic_identity for m in mapper.self_and_descendants]
    return discriminator.in_([identity for identity in found if identity is not None])


def _has_key_of(
    tracking: Tracking,
    other: Tracking,
    events: FromClause,
    *criteria: ColumnElement[bool],
) -> ColumnElement[bool]:
    """Return the criterion of events whose row has the key of one of other events."""
    query = select(*keys_of(other, events)).where(*criteria)
    return tuple_(*keys_of(tracking, tracking.event_table)).in_(query)


def _all_store(tracking: Tracking, column: Column[Any]) -> bool:
    """Return whether the events of all trackers store a column."""
    columns = tracking.tracked_columns
    stored = [t.stored(columns) for t in tracking.trackers]
    return all(
        any(columns.by_attribute[name] is column for name in names) for names in stored
    )
