"""The identity of mapped objects, by the key columns of each of their tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column
from sqlalchemy.orm import Mapper


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
