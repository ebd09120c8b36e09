"""What the partitions of an event table are like, and how far its numbers are."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import (
    BigInteger,
    Boolean,
    Connection,
    DateTime,
    TableClause,
    column,
    func,
    literal,
    select,
    table,
    union_all,
)

from sa_history.capture.partitioning import FIRST_ID, EventPartitioning, Horizon
from sa_history.ddl.execution import time_in_database
from sa_history.ddl.partitions import RangePartition
from sa_history.install.drift import Problem
from sa_history.install.findings import Finding
from sa_history.install.partition_plan import (
    Usage,
    is_count_needed,
    is_full,
    is_late,
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

    def is_readable(
        self, connection: Connection, partitions: Sequence[RangePartition]
    ) -> bool:
        """Return True if the user may read the sequence and the partitions."""
        may = [
            func.has_sequence_privilege(_quoted(self.sequence), "SELECT"),
            *(func.has_table_privilege(_quoted(p.name), "SELECT") for p in partitions),
        ]
        return all(connection.execute(select(*may)).one())

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


_AT_ONCE = 50
"""Of how many partitions the first event is read at once, as each takes some locks."""


def read_first_events(
    connection: Connection, partitions: Sequence[Qualified]
) -> dict[Qualified, FirstEvent | None]:
    """Read the first event of each of some partitions; None if it has no event."""
    found: dict[Qualified, FirstEvent | None] = dict.fromkeys(partitions)
    for begin in range(0, len(partitions), _AT_ONCE):
        firsts = []
        for position in range(begin, min(begin + _AT_ONCE, len(partitions))):
            name = partitions[position]
            columns = column("pgh_id", BigInteger), column("pgh_created_at", _TIME)
            events = table(name.name, *columns, schema=name.schema)
            first = select(literal(position).label("position"), *events.c)
            firsts.append(first.order_by(events.c.pgh_id).limit(1))
        for row in connection.execute(union_all(*firsts)):
            found[partitions[row.position]] = row.pgh_id, row.pgh_created_at
    return found


_TIME = DateTime(timezone=True)


def _quoted(name: Qualified) -> str:
    return name.render(str)


def sorted_out(
    partitions: Sequence[RangePartition],
) -> tuple[list[RangePartition], list[RangePartition]]:
    """Return the partitions of kept events, and those of all others.

    A default partition is neither.
    """
    ours = [p for p in partitions if not p.is_default]
    kept = [p for p in ours if p.upper is not None and p.upper <= FIRST_ID]
    return kept, [p for p in ours if p not in kept]


def any_findings(table: Qualified, partitions: list[RangePartition]) -> list[Finding]:
    """Return what is wrong with partitions, be they of events or of contexts.

    :param table: the partitioned table.
    :param partitions: its partitions, in the order of their bounds.
    """
    foreign = [p for p in partitions if p.is_default or p.kind != "r"]
    found = [
        Finding(
            Problem.ORPHANED,
            "partition",
            partition.name.dotted,
            advice="sa_history has not made it; detach it",
        )
        for partition in foreign
    ]
    found += [
        Finding(Problem.OVERDUE, "partition", p.name.dotted, command="partitions")
        for p in partitions
        if p.is_going
    ]
    if not any(p.is_tail and not p.is_going for p in partitions):
        name = f"{table.dotted} without an end"
        found.append(Finding(Problem.MISSING, "partition", name, command="partitions"))
    return found


def partition_findings(
    connection: Connection, state: PartitionState, partitions: list[RangePartition]
) -> list[Finding]:
    """Return what is wrong with the partitions of an event table.

    :param state: reads the table.
    :param partitions: its partitions, in the order of their bounds.
    """
    found = any_findings(state.table.name, partitions)
    kept, used = sorted_out(partitions)
    staying = [p for p in used if not p.is_going]
    table = state.table.name.dotted
    horizon = Horizon.of_comment(kept[0].comment) if kept else None
    begins = FIRST_ID if horizon is None else horizon.first_id
    lowest = used[0].lower if used else None
    first = [(begins, lowest)] if lowest is not None and lowest > begins else []
    pairs = ((a.upper, b.lower) for a, b in itertools.pairwise(used))
    found += [
        Finding(
            Problem.MISSING,
            "partition",
            f"{table} from {lower} to {upper}",
            advice="events with such numbers are refused, and those that there were "
            "are not found; attach the partition",
        )
        for lower, upper in (*first, *pairs)
        if lower != upper
    ]
    if not state.is_readable(connection, used):
        return found
    next_id = state.next_id(connection)
    found += [
        Finding(Problem.OUTDATED, "partition", p.name.dotted, command="partitions")
        for p in staying
        if p.is_validated is not None and (not p.is_closed or not is_full(p, next_id))
    ]
    now = time_in_database(connection)
    usage = state.usage(connection, staying, next_id, now)
    if usage is not None and is_late(usage, state.partition_by):
        name = usage.partition.name.dotted
        found.append(Finding(Problem.OVERDUE, "partition", name, command="partitions"))
    return found
