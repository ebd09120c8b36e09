"""Which operations are recorded row by row at statement level."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import (
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    Table,
)

from sa_history import Level
from sa_history.definition.row_order import CHANGES, ROWS, operations_by_row

DELETING = {"ondelete": "CASCADE"}
UPDATING = {"ondelete": "SET NULL"}
BOTH = {"ondelete": "CASCADE", "onupdate": "CASCADE"}


def child(*keys: dict[str, str], parent: str = "parent", **options: Any) -> Table:
    """Make a table with foreign keys to another, and one that has keys of its own."""
    metadata = MetaData()
    Table("root", metadata, Column("id", Integer, primary_key=True))
    Table("parent", metadata, Column("id", Integer, primary_key=True))
    Table(
        "middle",
        metadata,
        Column("id", ForeignKey("root.id", **BOTH), primary_key=True),
    )
    return Table(
        "child",
        metadata,
        Column("id", Integer, primary_key=True),
        *(
            Column(f"k{n}", ForeignKey(f"{parent}.id", **key))
            for n, key in enumerate(keys)
        ),
        **options,
    )


@pytest.mark.parametrize(
    "keys",
    [
        [DELETING, UPDATING],
        [DELETING, {"ondelete": "SET DEFAULT"}],
        [DELETING, {"ondelete": "set null (k1)"}],
        [DELETING, {"onupdate": "CASCADE"}],
        [DELETING, {"onupdate": "SET NULL"}],
        [{"ondelete": " cascade"}, UPDATING, {}],
        [BOTH, BOTH],
    ],
)
def test_changes_by_foreign_keys_that_update_and_delete_are_recorded_by_row(
    keys: list[dict[str, str]],
) -> None:
    assert operations_by_row(child(*keys), Level.STATEMENT) == CHANGES


@pytest.mark.parametrize(
    "keys",
    [
        [],
        [{}],
        [DELETING, DELETING],
        [UPDATING, {"onupdate": "CASCADE"}],
        [DELETING, {"ondelete": "RESTRICT", "onupdate": "NO ACTION"}],
        [BOTH],
    ],
)
def test_changes_by_other_foreign_keys_are_recorded_by_statement(
    keys: list[dict[str, str]],
) -> None:
    assert operations_by_row(child(*keys), Level.STATEMENT) == frozenset()


@pytest.mark.parametrize("parent", ["child", "middle"])
def test_one_key_that_does_both_can_do_them_to_one_row_where_its_parent_has_such_a_key(
    parent: str,
) -> None:
    assert operations_by_row(child(BOTH, parent=parent), Level.STATEMENT) == CHANGES
    assert operations_by_row(child(DELETING, parent=parent), Level.STATEMENT) == set()


def test_foreign_keys_and_their_tables_may_come_later() -> None:
    table = child(BOTH, parent="later")
    assert operations_by_row(table, Level.STATEMENT) == frozenset()
    Table("later", table.metadata, Column("id", ForeignKey("root.id", **BOTH)))
    assert operations_by_row(table, Level.STATEMENT) == CHANGES
    table = child(DELETING)
    assert operations_by_row(table, Level.STATEMENT) == frozenset()
    table.append_constraint(ForeignKeyConstraint(["id"], ["parent.id"], **UPDATING))
    assert operations_by_row(table, Level.STATEMENT) == CHANGES


def test_tables_with_partitions_and_those_that_inherit_are_recorded_by_row() -> None:
    partitioned = child(postgresql_partition_by="LIST (id)")
    assert operations_by_row(partitioned, Level.STATEMENT) == ROWS
    inheriting = child(postgresql_inherits="parent")
    assert operations_by_row(inheriting, Level.STATEMENT) == CHANGES


def test_everything_is_recorded_by_row_at_row_level() -> None:
    assert operations_by_row(child(), Level.ROW) == ROWS
