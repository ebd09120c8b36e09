"""How an event table is partitioned: by ``pgh_id``, with a tail that has no end.

Numbers of events come from one sequence, so they grow with time, and a partition is the
events of some time. The last partition, the tail, takes whatever number comes, so that
no change of a tracked table is refused because its maintenance is late.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table

from sa_history._types import PartitionBy
from sa_history.ddl.elements import PGTrigger
from sa_history.ddl.partitions import PartitionedTable, comment_on_table
from sa_history.sql.compose import Fragment, Qualified
from sa_history.sql.naming import generated_name

KEY = "pgh_id"
"""The column by which event tables are partitioned."""

FIRST_ID = 1
"""The lower bound of the first partition, and the first number of the sequence."""


def partition_options(partition_by: PartitionBy | None) -> dict[str, Any]:
    """Return the options with which an event table is made.

    :param partition_by: the option of ``track``.
    """
    if partition_by is None:
        return {}
    return {"postgresql_partition_by": f"RANGE ({KEY})"}


def partition_name(table: Table, start: str) -> Qualified:
    """Return the name of a partition, in the schema of its table.

    :param table: the partitioned table.
    :param start: what the partition begins with, such as its first ``pgh_id``.
    """
    name = generated_name(
        table.metadata, "history_partition", event_table_name=table.name, first_id=start
    )
    return Qualified(table.schema, name)


@dataclass(frozen=True, eq=False)
class EventPartitioning:
    """The partitions of one event table.

    :param event_table: the table.
    :param partition_by: how much a partition holds.
    :param guard: the append-only trigger of the event table; None if it has none. A
        trigger for each statement fires for the table that the statement names, so
        each partition has one like it.
    """

    event_table: Table
    partition_by: PartitionBy
    guard: PGTrigger | None

    @property
    def partitioned(self) -> PartitionedTable:
        """The event table as PostgreSQL partitions it."""
        name = Qualified(self.event_table.schema, self.event_table.name)
        return PartitionedTable(name, KEY, "bigint")

    @property
    def comment(self) -> str:
        """The comment on each partition, which is that of the event table."""
        return str(self.event_table.comment)

    def name(self, first_id: int) -> Qualified:
        """Return the name of the partition that begins with an event."""
        return partition_name(self.event_table, str(first_id))

    def guards(self, partition: Qualified) -> list[PGTrigger]:
        """Return the triggers that a partition has to have."""
        return [] if self.guard is None else [self.guard.on(partition)]

    def first(self) -> tuple[list[Fragment], list[PGTrigger]]:
        """Return what creates the first partition, and the triggers of it."""
        name = self.name(FIRST_ID)
        statements = [
            self.partitioned.create(name, FIRST_ID, None),
            comment_on_table(name, self.comment),
        ]
        return statements, self.guards(name)
