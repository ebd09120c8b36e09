"""The tables that an archive has: those of events and of contexts, with partitions."""

from __future__ import annotations

import datetime
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy import MetaData

from sa_history.archiving.manifest import folder_of
from sa_history.capture.event_table import key_columns
from sa_history.capture.partitioning import (
    CONTEXT_KEY,
    FIRST_ID,
    KEY,
    ContextPartitioning,
    time_of_bound,
)
from sa_history.ddl.partitions import PartitionedTable, RangePartition
from sa_history.install.archived import ArchivedPartitions
from sa_history.install.context_partitions import longest_period
from sa_history.install.partition_plan import length_of, removable
from sa_history.install.partition_state import PartitionState, sorted_out
from sa_history.sql.compose import Qualified, SchemaNames
from sa_history.tracking.registry import Tracking, history_of, trackings_in


class ArchivableTable(ABC):
    """A partitioned table that can be archived.

    :param table: the table, with its schema in the database.
    :param metadata: the models that it is of.
    """

    file_name: str
    """The name of its files."""

    time: str | None = None
    """The column of times that a manifest has the first and the last of, if any."""

    lowest: int | None = None
    """The lowest key of rows that are archived; None for any."""

    def __init__(self, table: PartitionedTable, metadata: MetaData) -> None:
        self.table = table
        self.metadata = metadata
        self.archived = ArchivedPartitions(metadata, table)

    @property
    def name(self) -> Qualified:
        """The name of the table, with its schema in the database."""
        return self.table.name

    @property
    def key(self) -> str:
        """The column by which it is partitioned."""
        return self.table.key

    @property
    def folder(self) -> str:
        """The name of the table's folder in an archive."""
        return folder_of(str(self.name.schema), self.name.name)

    @property
    @abstractmethod
    def order_by(self) -> Sequence[str]:
        """The columns that rows of a file are sorted by."""

    @abstractmethod
    def closed(
        self,
        partitions: Sequence[RangePartition],
        next_ids: Mapping[Qualified, int],
        before: datetime.datetime | None,
    ) -> list[RangePartition]:
        """Return the partitions to which no more rows come, the oldest first.

        :param partitions: all of them, in the order of their bounds.
        :param next_ids: the number that each sequence of events gives next.
        :param before: the time that their events have to be before; None for any.
        """

    @abstractmethod
    def start_of(self, partition: RangePartition, is_first: bool) -> str:
        """Return what a partition's folder is named by.

        :param is_first: True if nothing of the table has been archived.
        """


class EventsToArchive(ArchivableTable):
    """An event table with partitions.

    :param tracking: the tracking with the event table.
    :param schemas: gives the name in the database of a schema of the models.
    """

    file_name = "events.parquet"
    time = "pgh_created_at"
    lowest = FIRST_ID

    def __init__(self, tracking: Tracking, schemas: SchemaNames) -> None:
        partitioning = tracking.partitioning()
        assert partitioning is not None
        self.state = PartitionState(tracking, partitioning, schemas)
        self.tracking = tracking
        self.partitioning = partitioning
        super().__init__(self.state.table, tracking.event_table.metadata)
        keys = key_columns(tracking.tracked_columns, tracking.event_table)
        self._order_by = (*(c.name for c in keys), KEY)

    @property
    def order_by(self) -> Sequence[str]:
        """The columns of the object's key, and then the number of the event."""
        return self._order_by

    def closed(
        self,
        partitions: Sequence[RangePartition],
        next_ids: Mapping[Qualified, int],
        before: datetime.datetime | None,
    ) -> list[RangePartition]:
        """Return those whose times are known, without kept events."""
        _, used = sorted_out(partitions)
        used = [p for p in used if not p.is_going]
        latest = datetime.datetime.max.replace(tzinfo=datetime.timezone.utc)
        next_id = next_ids[self.state.sequence]
        return removable(used, latest if before is None else before, next_id)

    def start_of(self, partition: RangePartition, is_first: bool) -> str:
        """Return the lowest number of an event."""
        return str(partition.lower or FIRST_ID)


class ContextsToArchive(ArchivableTable):
    """A context table with partitions.

    :param partitioning: how it is partitioned.
    :param trackings: those whose events have contexts there.
    :param schemas: gives the name in the database of a schema of the models.
    """

    file_name = "contexts.parquet"
    order_by = (CONTEXT_KEY,)

    def __init__(
        self,
        partitioning: ContextPartitioning,
        trackings: Sequence[Tracking],
        schemas: SchemaNames,
        now: datetime.datetime,
    ) -> None:
        partitioned = partitioning.partitioned
        name = partitioned.name.in_database(schemas)
        metadata = partitioning.context_table.metadata
        super().__init__(replace(partitioned, name=name), metadata)
        self.partitioning = partitioning
        self.trackings = trackings
        # An event is made after its context: the last period is not settled yet.
        self._settled = now - length_of(longest_period(trackings))

    def closed(
        self,
        partitions: Sequence[RangePartition],
        next_ids: Mapping[Qualified, int],
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
            found.append(partition)
        return found

    def start_of(self, partition: RangePartition, is_first: bool) -> str:
        """Return the lowest id, or "first"; with the end if others were removed."""
        if partition.lower is not None:
            return self.table.text(partition.lower)
        assert partition.upper is not None
        if is_first:
            return "first"
        return f"first_{time_of_bound(partition.upper):%Y%m%d}"


def tables_of(
    metadata: MetaData, schemas: SchemaNames, now: datetime.datetime
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
