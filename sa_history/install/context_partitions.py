"""The maintenance of the partitions of a context table.

The id of a context begins with the time at which it was made, so a partition is the
contexts of some time, exactly. They are removed one period after the events of that
time, since an event is made after its context.
"""

from __future__ import annotations

import datetime
import itertools
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace

from sqlalchemy import (
    Connection,
    Table,
    TableClause,
    Uuid,
    column,
    delete,
    func,
    insert,
    literal,
    select,
    table,
    text,
)

from sa_history._types import PartitionPeriod
from sa_history.capture.partitioning import (
    ContextPartitioning,
    bound_at,
    time_of_bound,
)
from sa_history.ddl.partitions import REMOVED, RangePartition, comment_on_table
from sa_history.install.partition_plan import end_of, length_of
from sa_history.install.partition_steps import (
    MaintenanceStep,
    Postponed,
    RunSettings,
    TableMaintenance,
)
from sa_history.install.partition_survey import MaintenanceSurvey
from sa_history.sql.compose import Qualified, SchemaNames
from sa_history.tracking.registry import Tracking

_PERIODS: tuple[PartitionPeriod, ...] = ("day", "week", "month", "year")


class ContextMaintenance(TableMaintenance):
    """The maintenance of the partitions of one context table.

    :param trackings: those whose events have contexts there.
    """

    def __init__(
        self,
        settings: RunSettings,
        connection: Connection,
        partitioning: ContextPartitioning,
        trackings: Sequence[Tracking],
        schemas: SchemaNames,
    ) -> None:
        partitioned = partitioning.partitioned
        name = partitioned.name.in_database(schemas)
        super().__init__(
            settings,
            connection,
            replace(partitioned, name=name),
            schemas,
            partitioning.comment,
            partitioning.context_table.metadata,
        )
        self._partitioning = partitioning
        self._trackings = trackings
        self._columns = [(c.name, c.type) for c in partitioning.context_table.columns]
        self._period = longest_period(trackings)

    def first_partition(self) -> tuple[Qualified, None]:
        """Return the name of the first partition, which has no lower bound."""
        return self._partitioning.name(None).in_database(self.schemas), None

    def steps(self, survey: MaintenanceSurvey) -> Iterator[MaintenanceStep]:
        """Yield the steps that there are now, in their order.

        :param survey: what there was when the run began.
        """
        found = [p for p in self.current() if not p.is_default]
        going = [p for p in found if p.is_going]
        used = [p for p in found if not p.is_going]
        yield from self.finish_removals(going, survey)
        if used and used[-1].upper is None:
            yield from self._steps_of(used, survey)
        else:
            lower = used[-1].upper if used else None
            tail = self._partitioning.name(lower).in_database(self.schemas)
            what = f"create the last partition of {self.table.name.dotted}"
            yield self.create_tail(tail, lower, what)

    def _steps_of(
        self, used: list[RangePartition], survey: MaintenanceSurvey
    ) -> Iterator[MaintenanceStep]:
        """Yield the steps of partitions of which the last has no upper bound."""
        yield from self.protect(used, survey)
        # The partition of now, and the one after it.
        this = end_of(self._period, self.settings.now or survey.now)
        ends = (this, end_of(self._period, this))
        due = [end for end in ends if (used[-1].lower or 0) < bound_at(end)]
        if due:
            yield self._cut(used[-1], due[0])
        if self.settings.removes_some and self._may_be_removable(used, survey):
            removable = self._removable(self.connection, used)
            if removable:
                yield self._remove(removable)

    def _cut(self, tail: RangePartition, end: datetime.datetime) -> MaintenanceStep:
        """Return the step that gives the tail an end, with a new tail after it."""
        upper = bound_at(end)

        def run() -> None:
            with self.transaction() as connection:
                self.lock(connection, "ACCESS EXCLUSIVE")
                self.execute(connection, self.table.detach(tail.name))
                name = self._partitioning.name(upper).in_database(self.schemas)
                self.execute(connection, self.table.create(name, upper, None))
                # Ids of others are random, and those of a clock that is fast are early.
                contexts, later = self._rows_of(tail.name), self._rows_of(name)
                bound = literal(uuid.UUID(int=upper), Uuid)
                moved = (
                    delete(contexts)
                    .where(contexts.c.id >= bound)
                    .returning(*contexts.c)
                    .cte()
                )
                names = [column_name for column_name, _ in self._columns]
                connection.execute(insert(later).from_select(names, select(moved)))
                self.execute(
                    connection, self.table.attach(tail.name, tail.lower, upper)
                )
                self.adopt(connection, name)

        name = tail.name.dotted
        return MaintenanceStep(("end", name), f"end {name} before {end:%Y-%m-%d}", run)

    def _rows_of(self, partition: Qualified) -> TableClause:
        columns = [column(name, type_) for name, type_ in self._columns]
        return table(partition.name, *columns, schema=partition.schema)

    def _may_be_removable(
        self, used: list[RangePartition], survey: MaintenanceSurvey
    ) -> bool:
        """Return False if no partition can be removed, by what is known already."""
        if survey.is_old:
            return True
        times = [self.settings.now or survey.now]
        for tracking in self._trackings:
            oldest = survey.oldest(self._name_of(tracking.event_table))
            times += [] if oldest is None else [oldest]
        before = min(times) - length_of(self._period)
        return any(
            time_of_bound(partition.upper) <= before
            for partition in used
            if partition.upper is not None and partition.name != self._first(partition)
        )

    def _removable(
        self, connection: Connection, used: list[RangePartition]
    ) -> list[RangePartition]:
        """Return the partitions of contexts that no event has, the oldest first."""
        oldest = self._oldest_event(connection)
        if oldest is None:
            return []
        before = oldest - length_of(self._period)
        archived = self.archived.all(connection)

        def is_older(partition: RangePartition) -> bool:
            if partition.upper is None or time_of_bound(partition.upper) > before:
                return False
            if self.reason_to_keep(archived, partition) is not None:
                return False
            contexts = self._rows_of(partition.name)
            last = connection.scalar(select(func.max(contexts.c.updated_at)))
            return last is None or last <= before

        found = list(itertools.takewhile(is_older, used))
        # One that has replaced others is not replaced by itself.
        is_alone = [p.name for p in found] == [self._first(p) for p in found]
        return [] if is_alone else found

    def _first(self, last: RangePartition) -> Qualified:
        """Return the name of the partition that replaces those up to one."""
        assert last.upper is not None
        return self._partitioning.name_of_first(last.upper).in_database(self.schemas)

    def _oldest_event(self, connection: Connection) -> datetime.datetime | None:
        """Return the time of the oldest event that was not removed.

        :return: None if there are event tables whose events are not removed at all.
        """
        if self._other_tables(connection):
            return None
        oldest = self.now()
        for tracking in self._trackings:
            events = tracking.event_table
            first = select(events.c.pgh_created_at).where(events.c.pgh_id > 0)
            found = connection.scalar(first.order_by(events.c.pgh_id).limit(1))
            oldest = min(oldest, found or oldest)
        return oldest

    def _other_tables(self, connection: Connection) -> bool:
        """Return True if tables without partitions may have contexts there."""
        ours = [t.event_table for t in self._trackings if t.options.partition_by]
        known = [self._name_of(events).render(str) for events in ours]
        query = text(
            "SELECT count(*) FROM pg_catalog.pg_attribute AS a"
            " JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid"
            " WHERE a.attname = 'pgh_context_id' AND NOT a.attisdropped"
            " AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
            " AND COALESCE(obj_description(c.oid, 'pg_class'), '') NOT LIKE :going"
            " AND c.oid <> ALL (CAST(CAST(:known AS text[]) AS regclass[]))"
        )
        found = connection.scalar(query, {"known": known, "going": f"{REMOVED}%"})
        return bool(found)

    def _name_of(self, table: Table) -> Qualified:
        return Qualified.of(table, self.schemas)

    def _remove(self, going: list[RangePartition]) -> MaintenanceStep:
        """Return the step that takes partitions out of the table.

        What has an id of their time still comes, from a process that goes on in a
        context that it has entered then. So there is a partition for it at once.
        """

        def run() -> None:
            with self.transaction() as connection:
                self.lock(connection, "ACCESS EXCLUSIVE")
                if self._removable(connection, going) != going:
                    raise Postponed("somebody has used a context of that time again")
                for partition in going:
                    self.require_archived(connection, partition)
                    comment = comment_on_table(partition.name, REMOVED + self.comment)
                    self.execute(connection, self.table.detach(partition.name), comment)
                first, upper = self._first(going[-1]), going[-1].upper
                self.create_partition(connection, first, None, upper)

        names = ", ".join(partition.name.dotted for partition in going)
        then = tuple(self.drop(partition.name) for partition in going)
        return MaintenanceStep(("remove",), f"remove {names}", run, then)


def longest_period(trackings: Sequence[Tracking]) -> PartitionPeriod:
    """Return the longest period of some event tables; a month for those of none."""
    given = [tracking.options.partition_by for tracking in trackings]
    found = [period for period in _PERIODS if period in given]
    return found[-1] if found else "month"
