"""The key of an event's row: where events store it, before and after a change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, FromClause, func
from sqlalchemy import cast as sql_cast

from sa_history.capture.event_table import OLD_KEY, key_columns
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
