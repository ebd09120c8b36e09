"""Which operations are looked at row by row, whatever level was asked for.

A trigger for each statement gets the rows of one operation together. PostgreSQL lets
foreign keys update a row and then delete it within one statement; which of the two
triggers fires first does not depend on that. And it tells such a trigger nothing of a
row that MERGE moves to another partition, or that is written through another table.
"""

from __future__ import annotations

from collections.abc import Hashable

from sqlalchemy import ForeignKeyConstraint, Table
from sqlalchemy.exc import NoReferenceError

from sa_history._types import Level, Operation
from sa_history.ddl.foreign_keys import ReferentialActions, may_update_and_delete

ROWS = frozenset({Operation.INSERT, Operation.UPDATE, Operation.DELETE})
"""The operations that a trigger for each row can fire on."""

CHANGES = ROWS - {Operation.INSERT}
"""Those of them that change rows which are there."""

MOVES = frozenset({Operation.UPDATE})
"""Those of them that move rows to other partitions."""


def operations_by_row(table: Table, level: Level | str) -> frozenset[Operation]:
    """Return the operations on a table that are recorded row by row.

    :param table: the table, with the foreign keys that it has now.
    :param level: the level that was asked for.
    :return: all of :data:`ROWS` at row level; at statement level those whose events
        would be missing, or in the wrong order.
    """
    options = table.dialect_options["postgresql"]
    if level is Level.ROW or options["partition_by"]:
        return ROWS
    # No foreign key inserts: what the keys do comes after all that is inserted.
    if may_update_and_delete(table, _keys_around(table)):
        return CHANGES
    return operations_seen_by_row(table, level)


def operations_seen_by_row(table: Table, level: Level | str) -> frozenset[Operation]:
    """Return the operations of which a trigger that refuses looks at each row.

    :param table: the table.
    :param level: the level that was asked for.
    :return: all of :data:`ROWS` at row level; at statement level those of which a
        trigger for each statement is not told all rows.
    """
    options = table.dialect_options["postgresql"]
    if level is Level.ROW:
        return ROWS
    # A statement for the parent changes rows of a table that inherits from it, and of
    # the triggers of that table fires those for each row only. It inserts none there.
    if options["inherits"]:
        return CHANGES
    # For a trigger for each row that looks at INSERT or DELETE, a move is both.
    return MOVES if options["partition_by"] else frozenset()


def _keys_around(table: Table) -> dict[Hashable, list[ReferentialActions]]:
    own = [_actions(key) for key in table.foreign_key_constraints]
    parents = [key.parent for key in own if isinstance(key.parent, Table)]
    return {
        each: [_actions(key) for key in each.foreign_key_constraints]
        for each in (*parents, table)
    }


def _actions(key: ForeignKeyConstraint) -> ReferentialActions:
    try:
        parent = key.referred_table
    except NoReferenceError:  # it is defined later
        parent = None
    on_delete, on_update = _words(key.ondelete), _words(key.onupdate)
    return ReferentialActions(
        parent,
        deletes=on_delete == "CASCADE",
        updates=on_delete.startswith("SET") or on_update.startswith(("SET", "CASCADE")),
    )


def _words(action: str | None) -> str:
    return (action or "").strip().upper()
