"""What foreign keys do to the rows of their tables, by the statements of others."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ReferentialActions:
    """What a foreign key does to the rows of its table when those it refers to change.

    :param parent: the table that it refers to; None if that is not known yet.
    :param deletes: whether it deletes rows: ON DELETE CASCADE.
    :param updates: whether it updates rows: ON DELETE SET NULL or SET DEFAULT, and ON
        UPDATE CASCADE, SET NULL or SET DEFAULT.
    """

    parent: Hashable
    deletes: bool
    updates: bool


def may_update_and_delete(
    table: Hashable, keys: Mapping[Hashable, Sequence[ReferentialActions]]
) -> bool:
    """Return whether one statement can have foreign keys update a row and delete it.

    :param table: the table of the row.
    :param keys: the foreign keys of this table, and of those that it refers to.
    """
    own = keys.get(table, ())
    return any(
        deleting is not updating
        # One key that does both follows one row of the parent, and that is updated or
        # deleted; unless the parent's own keys do both to it.
        or deleting.parent == table
        or _do_both(keys.get(deleting.parent, ()))
        for deleting in own
        if deleting.deletes
        for updating in own
        if updating.updates
    )


def _do_both(keys: Sequence[ReferentialActions]) -> bool:
    return any(key.deletes for key in keys) and any(key.updates for key in keys)
