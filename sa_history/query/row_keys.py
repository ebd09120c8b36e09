"""The keys of rows: of targets, of events before and after a change, of references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

from sqlalchemy import ColumnElement, ForeignKeyConstraint, FromClause, func
from sqlalchemy import cast as sql_cast

from sa_history.capture.event_table import OLD_KEY, key_columns
from sa_history.tracking.events import key_values
from sa_history.tracking.identity import key_of
from sa_history.tracking.registry import Tracking


def keys_of(tracking: Tracking, events: FromClause) -> list[ColumnElement[Any]]:
    """Return the columns that hold the key of an event's row, in the key's order.

    :param events: the event table, or an alias of it.
    :return: no columns if the tracked table has no primary key.
    """
    keys = key_columns(tracking.tracked_columns, tracking.event_table)
    return [events.c[key.name] for key in keys]


def old_keys_of(tracking: Tracking, events: FromClause) -> list[ColumnElement[Any]]:
    """Return the key that an event's row had before the event, in the key's order.

    It is the key after the event, unless the event changed it.

    :param events: the event table, or an alias of it.
    """
    return [
        key
        if key.key == tracking.distributed_by  # Citus refuses to change it
        else func.coalesce(
            sql_cast(events.c[OLD_KEY][position].astext, key.type), key, type_=key.type
        )
        for position, key in enumerate(keys_of(tracking, events))
    ]


def are_together(
    tracking: Tracking, events: FromClause, others: FromClause
) -> list[ColumnElement[bool]]:
    """Return what lets Citus look for the events of a row on the node that has it.

    It says nothing new of events of one row, as Citus refuses to change that column.

    :param events: the event table, or an alias of it.
    :param others: another alias of it.
    :return: no criterion, if Citus does not distribute the table.
    """
    name = tracking.distributed_by
    return [] if name is None else [events.c[name] == others.c[name]]


def have_key(
    tracking: Tracking, events: FromClause, key: Sequence[Any]
) -> list[ColumnElement[bool]]:
    """Return the criteria of events whose row has a key.

    :param events: the event table, or an alias of it.
    :param key: values, or columns of another event, in the key's order.
    """
    pairs = zip(keys_of(tracking, events), key, strict=True)
    return [column == value for column, value in pairs]


def referring_columns(constraint: ForeignKeyConstraint) -> list[str] | None:
    """Return the columns of a foreign key that hold the primary key it refers to.

    :return: the names of the columns, in the order of that primary key; None if the
        foreign key refers to a unique constraint without the primary key's columns.
    """
    by_target = {e.column.name: e.parent.name for e in constraint.elements}
    names = [column.name for column in constraint.referred_table.primary_key]
    if not names or any(name not in by_target for name in names):
        return None
    return [by_target[name] for name in names]


def key_of_target(tracking: Tracking, target: Any) -> list[Any]:
    """Return the values of the key that a target names, in the key's order.

    :param target: an object, or a pair of a class or table and a key.
    :raises EventsError: the object is not of the tracked class or has no key yet, or
        the pair's key has another number of values.
    """
    if is_pair(target):
        return key_values(tracking, target[1])
    return [value for _, value in key_of(tracking, target)]


def is_pair(target: Any) -> TypeGuard[tuple[Any, Any]]:
    """Return whether a target is a pair, whose second part is a key."""
    return isinstance(target, tuple) and len(target) == 2
