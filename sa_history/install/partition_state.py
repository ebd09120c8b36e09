"""What the partitions of an event table are like, and how far its numbers are."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Connection,
    DateTime,
    Row,
    Select,
    TableClause,
    column,
    func,
    literal,
    select,
    table,
    union_all,
)

from sa_history.capture.partitioning import FIRST_ID, EventPartitioning
from sa_history.ddl.partitions import RangePartition
from sa_history.install.partition_plan import (
    Usage,
    is_count_needed,
    is_full,
)
from sa_history.sql.compose import Qualified, SchemaNames
from sa_history.tracking.registry import Tracking

FirstEvent = tuple[int, datetime.datetime]
"""The number and the time of the first event of a partition."""


class PartitionState:
    """Reads the state of the partitions of one event table.

    :param tracking: the tracking with the event table.
    :param partitioning: how the event table is partitioned.
    :param schemas: gives the name in the database of a schema of the models.
    """

    def __init__(
        self,
        tracking: Tracking,
        partitioning: EventPartitioning,
        schemas: SchemaNames,
    ) -> None:
        self._event_table = tracking.event_table
        self.partition_by = partitioning.partition_by
        partitioned = partitioning.partitioned
        self.table = replace(partitioned, name=partitioned.name.in_database(schemas))
        """The event table, with its schema in the database."""
        sequence = tracking.history.shared.pg_sequence().name
        self.sequence = sequence.in_database(schemas)
        """The sequence that numbers the events, with its schema in the database."""
        self.first_events: dict[Qualified, FirstEvent | None] = {}
        """The first events of partitions, as far as they were read."""

    def rows_of(self, partition: Qualified) -> TableClause:
        """Return a partition as a table of SQLAlchemy."""
        columns = [column(c.name, c.type) for c in self._event_table.columns]
        return table(partition.name, *columns, schema=partition.schema)

    def current(
        self, used: Sequence[RangePartition], next_id: int
    ) -> RangePartition | None:
        """Return the partition that takes the next event; None if none does.

        :param used: the partitions, in the order of their bounds.
        :param next_id: the number of the next event.
        """
        begun = [p for p in used if (p.lower or FIRST_ID) <= next_id]
        return begun[-1] if begun and not is_full(begun[-1], next_id) else None

    def next_id(self, connection: Connection) -> int:
        """Return the number that the sequence gives next."""
        sequence = table(
            self.sequence.name,
            column("last_value", BigInteger),
            column("is_called", Boolean),
            schema=self.sequence.schema,
        )
        last, is_called = connection.execute(select(sequence)).one()
        return int(last) + bool(is_called)

    def usage(
        self,
        connection: Connection,
        used: Sequence[RangePartition],
        next_id: int,
        now: datetime.datetime,
    ) -> Usage | None:
        """Return how the partition is used that takes the next event.

        :param used: the partitions, in the order of their bounds.
        :param next_id: the number of the next event.
        :param now: the time.
        :return: None if no partition takes it.
        """
        current = self.current(used, next_id)
        if current is None:
            return None
        if current.name not in self.first_events:
            self.first_events |= read_first_events(connection, [current.name])
        first_id, first_time = self.first_events[current.name] or (None, None)
        following = used[used.index(current) + 1 :]
        usage = Usage(current, following, next_id, now, first_id, first_time)
        if not isinstance(self.partition_by, int) or first_id is None:
            return usage
        rows = usage.numbers
        if is_count_needed(usage, self.partition_by):
            count = select(func.count()).select_from(self.rows_of(current.name))
            rows = connection.execute(count).scalar_one()
        return replace(usage, rows=rows)


def read_next_ids(
    connection: Connection, states: Iterable[PartitionState]
) -> dict[Qualified, int]:
    """Read the number that each sequence of some event tables gives next."""
    by_sequence = {state.sequence: state for state in states}
    return {name: state.next_id(connection) for name, state in by_sequence.items()}


_AT_ONCE = 50
"""How many partitions are read at once, as each takes some locks."""


def read_by_partition(
    connection: Connection, queries: Mapping[Qualified, Select[Any]]
) -> dict[Qualified, Row[Any]]:
    """Execute a query of each of some partitions, many at once.

    :param queries: each gives one row or none, and the same columns as the others.
    :return: the rows, by the names of the partitions.
    """
    found: dict[Qualified, Row[Any]] = {}
    names = list(queries)
    for begin in range(0, len(names), _AT_ONCE):
        numbered = [
            queries[name].add_columns(literal(number).label("position"))
            for number, name in enumerate(names[begin : begin + _AT_ONCE], begin)
        ]
        for row in connection.execute(union_all(*numbered)):
            found[names[row.position]] = row
    return found


def read_first_events(
    connection: Connection, partitions: Sequence[Qualified]
) -> dict[Qualified, FirstEvent | None]:
    """Read the first event of each of some partitions; None if it has no event."""
    queries: dict[Qualified, Select[Any]] = {}
    for name in partitions:
        columns = column("pgh_id", BigInteger), column("pgh_created_at", _TIME)
        events = table(name.name, *columns, schema=name.schema)
        queries[name] = select(*events.c).order_by(events.c.pgh_id).limit(1)
    rows = read_by_partition(connection, queries)
    firsts = {name: (row.pgh_id, row.pgh_created_at) for name, row in rows.items()}
    return {name: firsts.get(name) for name in partitions}


_TIME = DateTime(timezone=True)


def sorted_out(
    partitions: Sequence[RangePartition],
) -> tuple[list[RangePartition], list[RangePartition]]:
    """Return the partitions of kept events, and those of all others.

    A default partition is neither.
    """
    ours = [p for p in partitions if not p.is_default]
    kept = [p for p in ours if p.upper is not None and p.upper <= FIRST_ID]
    return kept, [p for p in ours if p not in kept]
