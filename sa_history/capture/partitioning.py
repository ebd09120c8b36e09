"""How an event table is partitioned: by ``pgh_id``, with a tail that has no end.

Numbers of events come from one sequence, so they grow with time, and a partition is the
events of some time. The last partition, the tail, takes whatever number comes, so that
no change of a tracked table is refused because its maintenance is late.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table

from sa_history._types import PartitionBy
from sa_history.ddl.elements import PGTrigger
from sa_history.ddl.partitions import PartitionedTable, comment_on_table
from sa_history.sql.compose import Fragment, Qualified
from sa_history.sql.naming import generated_name

EVENT_COLUMNS = ("pgh_id", "pgh_created_at", "pgh_op", "pgh_label")
"""Columns that each event table has, and no other table."""

KEY = "pgh_id"
"""The column by which event tables are partitioned."""

FIRST_ID = 1
"""The lower bound of the first partition, and the first number of the sequence."""


KEPT_OFFSET = 2**52
"""By how much the number of an event is lowered that is kept when others are removed.

All such numbers are below the first one, in the order of the events, so that readers
find the kept event of a row where they look for what was before. Readers of JSON have
no more than 53 bits for a number.
"""


@dataclass(frozen=True)
class Horizon:
    """How far back events have been removed.

    :param first_id: the number of the first event that was not removed.
    :param until: the latest time of a removed event.
    :param transaction: the latest number of a transaction with a removed event.
    :param keeps_last: True if the last event of each row before ``first_id`` is kept,
        so that rows can be seen as of any later time.
    :param archive: the folder of the archive that they went to; None if there is none.
    """

    first_id: int
    until: datetime.datetime
    transaction: int
    keeps_last: bool
    archive: str | None = None

    @property
    def archive_hint(self) -> str:
        """What to say of the archive in an error; empty if there is none."""
        if self.archive is None:
            return ""
        return f"; what was archived of them is in {self.archive}"

    @property
    def comment(self) -> str:
        """The comment on the partition of kept events, which says it."""
        kept = "The last event of each row" if self.keeps_last else "No event"
        return (
            f"{kept} before event {self.first_id}; the others were removed, until "
            f"{self.until.isoformat()} and transaction {self.transaction}"
            f"{self.archive_hint}"
        )

    @classmethod
    def of_comment(cls, comment: str | None) -> Horizon | None:
        """Return what the comment on a partition says; None if it says nothing."""
        found = _HORIZON.fullmatch(comment or "")
        if found is None:
            return None
        kept, first_id, until, transaction, archive = found.groups()
        return cls(
            int(first_id),
            datetime.datetime.fromisoformat(until),
            int(transaction),
            kept != "No event",
            archive,
        )


_HORIZON = re.compile(
    r"(The last event of each row|No event) before event (\d+); the others were "
    r"removed, until (\S+) and transaction (-?\d+)"
    r"(?:; what was archived of them is in (.*))?"
)


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
    def table(self) -> Table:
        """The partitioned table."""
        return self.event_table

    @property
    def known_by(self) -> tuple[str, ...]:
        """The names of columns that each partition has."""
        return EVENT_COLUMNS

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

    @property
    def kept(self) -> Qualified:
        """The name of the partition of events that are kept when others are removed."""
        return self.name(0)

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


CONTEXT_KEY = "id"
"""The column by which context tables are partitioned; an id begins with the time."""


@dataclass(frozen=True, eq=False)
class ContextPartitioning:
    """The partitions of a context table.

    :param context_table: the table.
    """

    context_table: Table

    @property
    def table(self) -> Table:
        """The partitioned table."""
        return self.context_table

    @property
    def known_by(self) -> tuple[str, ...]:
        """The names of columns that each partition has."""
        return (CONTEXT_KEY, "parent_id", "metadata")

    @property
    def partitioned(self) -> PartitionedTable:
        """The context table as PostgreSQL partitions it."""
        name = Qualified(self.context_table.schema, self.context_table.name)
        return PartitionedTable(name, CONTEXT_KEY, "uuid")

    @property
    def comment(self) -> str:
        """The comment on each partition; that of the table is of no other one."""
        return f"Contexts of {self.context_table.fullname}"

    def name(self, lower: int | None) -> Qualified:
        """Return the name of a partition.

        :param lower: its lower bound; None for the first one, which has none.
        """
        start = "1" if lower is None else f"{time_of_bound(lower):%Y%m%d}"
        return partition_name(self.context_table, start)

    def name_of_first(self, upper: int) -> Qualified:
        """Return the name of the first partition after others were removed.

        :param upper: its upper bound.
        """
        return partition_name(self.context_table, f"0_{time_of_bound(upper):%Y%m%d}")

    def first(self) -> list[Fragment]:
        """Return what creates the first partition."""
        name = self.name(None)
        return [
            self.partitioned.create(name, None, None),
            comment_on_table(name, self.comment),
        ]


_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
_RANDOM_BITS = 80
"""The bits of a UUID of version 7 that follow the time in milliseconds."""


def bound_at(time: datetime.datetime) -> int:
    """Return the lowest id, as a number, of a context that is made at a time."""
    milliseconds = (time - _EPOCH) // datetime.timedelta(milliseconds=1)
    return milliseconds << _RANDOM_BITS


def time_of_bound(bound: int) -> datetime.datetime:
    """Return the time that an id begins with, given as a number."""
    return _EPOCH + datetime.timedelta(milliseconds=bound >> _RANDOM_BITS)
