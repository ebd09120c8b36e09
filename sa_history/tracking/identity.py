"""The identity of mapped objects, and the keys of their rows in each table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, inspect
from sqlalchemy.orm import InstanceState, Mapper

from sa_history.exc import EventsError
from sa_history.tracking.registry import Tracking


def key_by_identity(
    mapper: Mapper[Any], key: Sequence[Column[Any]], identity: Sequence[Any]
) -> dict[Column[Any], Any]:
    """Return the values of a table's primary key, from the identity of an object.

    :param key: the primary key of one of the mapper's tables.
    :param identity: the values of the mapper's primary key.
    """
    values = dict(zip(mapper.primary_key, identity, strict=True))
    return {column: values[c] for column, c in _identity_columns(mapper, key)}


def identity_by_key(
    mapper: Mapper[Any], key: Mapping[Column[Any], Any]
) -> tuple[Any, ...]:
    """Return the identity of an object, from the primary key of one of its tables.

    :param key: the values of that primary key, in its order.
    """
    values = {c: key[column] for column, c in _identity_columns(mapper, [*key])}
    return tuple(values[column] for column in mapper.primary_key)


def _identity_columns(
    mapper: Mapper[Any], key: Sequence[Column[Any]]
) -> list[tuple[Column[Any], Any]]:
    """Return the columns of a table's primary key, each with the mapper's for it.

    With joined inheritance the two may differ in name and order. The table's foreign
    keys say which are the same; without one, their order does.
    """
    found = []
    for position, column in enumerate(key):
        same: Any = column
        while same not in mapper.primary_key:
            parents = [k.column for k in same.foreign_keys]
            parents = [c for c in parents if c.primary_key and c.table in mapper.tables]
            same = parents[0] if parents else mapper.primary_key[position]
        found.append((column, same))
    return found


def key_of(tracking: Tracking, obj: object) -> list[tuple[Column[Any], Any]]:
    """Return the key columns of the tracked table with the object's values.

    :raises EventsError: the object is not of the tracked class, or has no key yet.
    """
    require_object_of(tracking, obj)
    columns = tracking.tracked_columns
    state: InstanceState[Any] = inspect(obj, raiseerr=True)
    if state.identity is not None:
        # Not by the attributes: reading an expired one would need a round trip.
        key = columns.columns_of_key
        by_column = key_by_identity(state.mapper, key, state.identity)
        values = {name: by_column[columns.by_attribute[name]] for name in columns.key}
    else:
        values = {name: state.dict.get(name) for name in columns.key}
    if not columns.key or any(values.get(name) is None for name in columns.key):
        raise EventsError(
            f"{tracking.subject} object has no key yet, so it has no events; flush the "
            "session first"
        )
    return [(columns.by_attribute[name], values[name]) for name in columns.key]


def require_object_of(tracking: Tracking, obj: object) -> None:
    """Refuse an object that is not of the tracked class.

    :raises EventsError: it is not.
    """
    if tracking.model is None or not isinstance(obj, tracking.model):
        raise EventsError(f"{obj!r} is not a {tracking.subject}; give one that is")
