"""The tables that an archive has: those of events and of contexts, with partitions."""

from __future__ import annotations

import datetime
import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, MetaData, TableClause, column, func, select
from sqlalchemy import table as table_clause

from sa_history.capture.event_table import key_columns
from sa_history.capture.partitioning import (
    CONTEXT_KEY,
    FIRST_ID,
    KEY,
    ContextPartitioning,
    time_of_bound,
)
from sa_history.ddl.partitions import RangePartition, read_partitions_of
from sa_history.install.context_partitions import longest_period
from sa_history.install.drift import dotted, in_database
from sa_history.install.expected import trackings_in
from sa_history.install.partition_plan import length_of, removable
from sa_history.install.partition_state import PartitionState, sorted_out
from sa_history.sql.compose import Qualified, SchemaNames
from sa_history.tracking.registry import Tracking, history_of


@dataclass(frozen=True)
class Extent:
    """What there is in a partition, or is written of one.

    :param rows: the number of rows.
    :param first_id: the lowest key, as text; None if there are no rows.
    :param last_id: the highest one.
    :param since: the earliest ``pgh_created_at``; None of contexts.
    :param until: the latest one.
    """

    rows: int
    first_id: str | None
    last_id: str | None
    since: datetime.datetime | None = None
    until: datetime.datetime | None = None


class ArchivableTable(ABC):
    """A partitioned table that can be archived.

    :param name: with its schema in the database.
    :param metadata: the models that it is of.
    """

    key: str
    """The column by which it is partitioned."""

    file_name: str
    """The name of its files."""

    def __init__(self, name: Qualified, metadata: MetaData) -> None:
        self.name = name
        self.metadata = metadata

    @property
    def folder(self) -> str:
        """The name of the table in an archive, and of its folder there."""
        return dotted(self.name)

    @property
    @abstractmethod
    def order_by(self) -> Sequence[str]:
        """The columns that rows of a file are sorted by."""

    @abstractmethod
    def closed(
        self,
        connection: Connection,
        partitions: Sequence[RangePartition],
        before: datetime.datetime | None,
    ) -> list[RangePartition]:
        """Return the partitions to which no more rows come, the oldest first.

        :param partitions: all of them, in the order of their bounds.
        :param before: the time that their events have to be before; None for any.
        """

    @abstractmethod
    def extent(self, connection: Connection, rows: TableClause) -> Extent:
        """Return what rows there are in a partition."""

    @abstractmethod
    def bound(self, number: int) -> str:
        """Return a bound as a manifest has it."""

    @abstractmethod
    def rows_of(self, partition: Qualified) -> TableClause:
        """Return a partition as a table of SQLAlchemy, with some of its columns."""

    @abstractmethod
    def start_of(self, partition: RangePartition, is_first: bool) -> str:
        """Return what a partition's folder is named by.

        :param is_first: True if nothing of the table has been archived.
        """

    def partitions(self, connection: Connection) -> list[RangePartition]:
        """Return the partitions in the order of their bounds, none if it has none."""
        return read_partitions_of(connection, self.name) or []


class EventsToArchive(ArchivableTable):
    """An event table with partitions.

    :param tracking: the tracking with the event table.
    :param schemas: gives the name in the database of a schema of the models.
    """

    key = KEY
    file_name = "events.parquet"

    def __init__(self, tracking: Tracking, schemas: SchemaNames) -> None:
        partitioning = tracking.partitioning()
        assert partitioning is not None
        self.state = PartitionState(tracking, partitioning, schemas)
        super().__init__(self.state.table.name, tracking.event_table.metadata)
        keys = key_columns(tracking.tracked_columns, tracking.event_table)
        self._order_by = (*(c.name for c in keys), KEY)

    @property
    def order_by(self) -> Sequence[str]:
        """The columns of the object's key, and then the number of the event."""
        return self._order_by

    def closed(
        self,
        connection: Connection,
        partitions: Sequence[RangePartition],
        before: datetime.datetime | None,
    ) -> list[RangePartition]:
        """Return those whose times are known, without kept events."""
        _, used = sorted_out(partitions)
        used = [p for p in used if not p.is_going]
        latest = datetime.datetime.max.replace(tzinfo=datetime.timezone.utc)
        next_id = self.state.next_id(connection)
        return removable(used, latest if before is None else before, next_id)

    def extent(self, connection: Connection, rows: TableClause) -> Extent:
        """Return what events there are."""
        number, time = rows.c.pgh_id, rows.c.pgh_created_at
        found = select(
            func.count(),
            func.min(number),
            func.max(number),
            func.min(time),
            func.max(time),
        )
        count, first, last, since, until = connection.execute(
            found.select_from(rows)
        ).one()
        return Extent(count, _text(first), _text(last), since, until)

    def bound(self, number: int) -> str:
        """Return the number of an event."""
        return str(number)

    def rows_of(self, partition: Qualified) -> TableClause:
        """Return a partition with all columns of an event."""
        return self.state.rows_of(partition)

    def start_of(self, partition: RangePartition, is_first: bool) -> str:
        """Return the lowest number of an event."""
        return str(partition.lower or FIRST_ID)


class ContextsToArchive(ArchivableTable):
    """A context table with partitions.

    :param partitioning: how it is partitioned.
    :param trackings: those whose events have contexts there.
    :param schemas: gives the name in the database of a schema of the models.
    """

    key = CONTEXT_KEY
    file_name = "contexts.parquet"
    order_by = (CONTEXT_KEY,)

    def __init__(
        self,
        partitioning: ContextPartitioning,
        trackings: Sequence[Tracking],
        schemas: SchemaNames,
        now: datetime.datetime,
    ) -> None:
        name = in_database(partitioning.partitioned.name, schemas)
        super().__init__(name, partitioning.context_table.metadata)
        self._columns = [(c.name, c.type) for c in partitioning.context_table.columns]
        # An event is made after its context: the last period is not settled yet.
        self._settled = now - length_of(longest_period(trackings))

    def closed(
        self,
        connection: Connection,
        partitions: Sequence[RangePartition],
        before: datetime.datetime | None,
    ) -> list[RangePartition]:
        """Return those that ended a period ago, and that old events refer to."""
        found = []
        for partition in partitions:
            lower, upper = partition.lower, partition.upper
            if partition.is_default or partition.is_going or upper is None:
                continue
            if time_of_bound(upper) > self._settled:
                break
            if before is not None and lower and time_of_bound(lower) >= before:
                break
            rows = self.rows_of(partition.name)
            latest = connection.scalar(select(func.max(rows.c.updated_at)))
            if latest is not None and latest > self._settled:
                break
            found.append(partition)
        return found

    def extent(self, connection: Connection, rows: TableClause) -> Extent:
        """Return what contexts there are."""
        first, last = (
            select(rows.c.id).order_by(by).limit(1)
            for by in (rows.c.id, rows.c.id.desc())
        )
        count = connection.execute(select(func.count()).select_from(rows))
        return Extent(
            count.scalar_one(),
            _text(connection.scalar(first)),
            _text(connection.scalar(last)),
        )

    def bound(self, number: int) -> str:
        """Return the id of a context."""
        return str(uuid.UUID(int=number))

    def rows_of(self, partition: Qualified) -> TableClause:
        """Return a partition with all columns of a context."""
        columns = [column(name, type_) for name, type_ in self._columns]
        return table_clause(partition.name, *columns, schema=partition.schema)

    def start_of(self, partition: RangePartition, is_first: bool) -> str:
        """Return the lowest id, or "first"; with the end if others were removed."""
        if partition.lower is not None:
            return self.bound(partition.lower)
        assert partition.upper is not None
        if is_first:
            return "first"
        return f"first_{time_of_bound(partition.upper):%Y%m%d}"


def tables_of(
    connection: Connection,
    metadata: MetaData,
    schemas: SchemaNames,
    now: datetime.datetime,
) -> list[ArchivableTable]:
    """Return the partitioned tables of a MetaData: those of events, then contexts."""
    history = history_of(metadata)
    if history is None:
        return []
    trackings = trackings_in(metadata)
    found: list[ArchivableTable] = [
        EventsToArchive(tracking, schemas)
        for tracking in trackings
        if tracking.partitioning() is not None
    ]
    partitioning = history.shared.partitioning
    if partitioning is not None:
        found.append(ContextsToArchive(partitioning, trackings, schemas, now))
    return found


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
