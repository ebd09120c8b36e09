"""The keys of rows that targets and foreign keys name."""

from __future__ import annotations

from typing import Any, TypeGuard

from sqlalchemy import ForeignKeyConstraint

from sa_history.tracking.events import key_values
from sa_history.tracking.identity import key_of
from sa_history.tracking.registry import Tracking


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
