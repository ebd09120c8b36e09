"""What a database has of all partitioned tables, when a check or a run begins.

Most runs of maintenance find nothing to do. So all tables are looked at by a few
statements, however many there are; a table with something to do is read anew before
each of its steps.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from sa_history.ddl.catalog import InstalledTrigger, read_triggers
from sa_history.ddl.execution import time_in_database
from sa_history.ddl.partitions import (
    REMOVED,
    RangePartition,
    read_range_partitions,
    read_tables_by_comment,
)
from sa_history.install.partition_state import (
    PartitionState,
    read_first_events,
    read_next_ids,
    sorted_out,
)
from sa_history.sql.compose import Qualified

TriggersOf = dict[Qualified, list[InstalledTrigger]]
"""Triggers by the tables that they are on."""


class PartitionSurvey:
    """How far all event tables are.

    :param connection: the connection to the database.
    :param partitions: the partitions of the tables, in the order of their bounds, by
        the names of the tables, with their schemas in the database.
    :param states: those of the event tables, which the user may read; they are given
        the first events of the partitions that take the next ones.
    """

    def __init__(
        self,
        connection: Connection,
        partitions: Mapping[Qualified, list[RangePartition]],
        states: Sequence[PartitionState],
    ) -> None:
        self.now = time_in_database(connection)
        """The time."""
        self.partitions = partitions
        """The partitions of each table that has some."""
        self.next_ids = read_next_ids(connection, states)
        """The number that each sequence gives next.

        What others write meanwhile is left to the next run.
        """
        self._first_events = read_first_events(
            connection,
            [part.name for part in map(self._current, states) if part is not None],
        )
        for state in states:
            state.first_events |= self._first_events

    def _current(self, state: PartitionState) -> RangePartition | None:
        _, used = sorted_out(self.partitions.get(state.table.name, ()))
        staying = [partition for partition in used if not partition.is_going]
        return state.current(staying, self.next_ids[state.sequence])

    def oldest(self, table: Qualified) -> datetime.datetime | None:
        """Return a time before which an event table has no event that was not removed.

        :param table: its name, with the schema in the database.
        :return: None if it is not known.
        """
        _, used = sorted_out(self.partitions.get(table, ()))
        oldest = next(iter(used), None)
        if oldest is not None and oldest.is_closed:
            return oldest.since
        first = None if oldest is None else self._first_events.get(oldest.name)
        return None if first is None else first[1]


class MaintenanceSurvey(PartitionSurvey):
    """What there is when a run of maintenance begins.

    :param connection: a connection that commits each statement.
    :param tables: the names of the partitioned tables, with their schemas in the
        database, and the comments on their partitions.
    :param states: those of the event tables among them.
    """

    def __init__(
        self,
        connection: Connection,
        tables: Mapping[Qualified, str],
        states: Sequence[PartitionState],
    ) -> None:
        schemas = sorted({str(name.schema) for name in tables})
        names = [name.name for name in tables]
        partitions = read_range_partitions(connection, schemas, names)
        super().__init__(connection, partitions, states)
        self.is_old = False
        """True once the run has changed something."""
        going = [REMOVED + comment for comment in tables.values()]
        self.removed = read_tables_by_comment(connection, schemas, going)
        """The detached partitions that are not yet dropped, by their comments."""
        self.triggers = triggers_of(
            connection,
            schemas,
            [part for name in tables for part in self.partitions.get(name, ())],
        )
        """The triggers of this package on partitions."""


def triggers_of(
    connection: Connection,
    schemas: Sequence[str],
    partitions: Sequence[RangePartition],
) -> TriggersOf:
    """Read the triggers of this package on partitions.

    :param schemas: the schemas of the partitions.
    """
    names = [partition.name.name for partition in partitions]
    found: TriggersOf = {}
    if names:
        for trigger in read_triggers(
            connection, schemas, definitions=False, relations=names
        ).values():
            found.setdefault(trigger.relation, []).append(trigger)
    return found
