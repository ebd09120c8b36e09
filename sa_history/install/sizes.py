"""How large event tables are, how fast they grow, and what could be removed of them.

Rows are counted as PostgreSQL's statistics have them, so that nothing is read through;
a table that was never analysed is counted.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Connection,
    DateTime,
    Text,
    bindparam,
    column,
    func,
    select,
    table,
    text,
)

from sa_history.ddl.partitions import RangePartition, read_range_partitions
from sa_history.exc import InstallError
from sa_history.install.findings import MIGRATE
from sa_history.install.partition_plan import keep_since, removable
from sa_history.install.partition_state import (
    PartitionState,
    sorted_out,
    time_in_database,
)
from sa_history.sql import catalog_queries as catalog
from sa_history.sql.compose import Qualified, SchemaNames
from sa_history.tracking.registry import Tracking

MONTH = datetime.timedelta(days=30)
"""The time that growth is told for."""

_LEAST_TIME = datetime.timedelta(days=1)
"""What is between the events that growth is told of; a forecast by less is none."""


@dataclass(frozen=True)
class RelationSize:
    """The size of a table without partitions, or of a partition.

    :param name: the name of the table or partition, with its schema.
    :param rows: about how many events it has.
    :param bytes: on disk, with indexes and what is stored out of line.
    :param oldest: the time of its first event, or the earliest one, if the partition is
        closed; None if it has no event.
    :param newest: the time of its last event, or the latest one; None likewise.
    :param is_removed: True if ``keep`` would remove it.
    """

    name: str
    rows: int
    bytes: int
    oldest: datetime.datetime | None
    newest: datetime.datetime | None
    is_removed: bool = False


@dataclass(frozen=True)
class EventTableSize:
    """The size of an event table.

    :param name: the name of the event table, with its schema.
    :param relations: its partitions, in the order of their events; the table itself, if
        it has none.
    :param is_partitioned: True if it has partitions.
    """

    name: str
    relations: tuple[RelationSize, ...]
    is_partitioned: bool

    @property
    def rows(self) -> int:
        """About how many events it has."""
        return sum(relation.rows for relation in self.relations)

    @property
    def bytes(self) -> int:
        """Its size on disk, with indexes."""
        return sum(relation.bytes for relation in self.relations)

    @property
    def oldest(self) -> datetime.datetime | None:
        """The time of its first event; None if it has none."""
        return min(self._times("oldest"), default=None)

    @property
    def newest(self) -> datetime.datetime | None:
        """The time of its last event; None if it has none."""
        return max(self._times("newest"), default=None)

    @property
    def removed_rows(self) -> int:
        """About how many events ``keep`` would remove."""
        return sum(relation.rows for relation in self._removed)

    @property
    def removed_bytes(self) -> int:
        """How much space on disk ``keep`` would free."""
        return sum(relation.bytes for relation in self._removed)

    @property
    def rows_a_month(self) -> int | None:
        """About how many events come in 30 days; None for those of less than a day."""
        return self._grown(sum(relation.rows for relation in self._recent))

    @property
    def bytes_a_month(self) -> int | None:
        """By how much it grows in 30 days; None for events of less than a day."""
        return self._grown(sum(relation.bytes for relation in self._recent))

    @property
    def _removed(self) -> list[RelationSize]:
        return [relation for relation in self.relations if relation.is_removed]

    @property
    def _recent(self) -> list[RelationSize]:
        """The last partitions that have the events of a month, if it has so many."""
        newest, recent = self.newest, list[RelationSize]()
        for relation in reversed(self.relations):
            recent.append(relation)
            oldest = relation.oldest
            if newest and oldest and newest - oldest >= MONTH:
                break
        return recent

    def _grown(self, amount: int) -> int | None:
        oldest = min((r.oldest for r in self._recent if r.oldest), default=None)
        newest = self.newest
        if oldest is None or newest is None or newest - oldest < _LEAST_TIME:
            return None
        return round(amount * (MONTH / (newest - oldest)))

    def _times(self, name: str) -> Iterator[datetime.datetime]:
        times = (getattr(relation, name) for relation in self.relations)
        return (time for time in times if time is not None)


def event_table_sizes(
    connection: Connection,
    trackings: Sequence[Tracking],
    schemas: SchemaNames,
    keep: str | None,
) -> list[EventTableSize]:
    """Read the sizes of event tables.

    :param trackings: those whose events are stored in the tables.
    :param schemas: gives the name in the database of a schema of the models.
    :param keep: for how long events would be kept; None to tell of no removal.
    :raises CommandError: ``keep`` is no time.
    :raises InstallError: there is no such table.
    """
    since = None if keep is None else keep_since(keep, time_in_database(connection))
    names = {t: _name(t, schemas) for t in trackings}
    partitions = read_range_partitions(
        connection, sorted({str(name.schema) for name in names.values()})
    )
    on_disk = _on_disk(
        connection,
        [
            relation
            for name in names.values()
            for relation in [name, *(p.name for p in partitions.get(name, ()))]
        ],
    )
    sizes = []
    for tracking, name in names.items():
        if name not in on_disk:
            raise InstallError(f"there is no table {name.dotted}; {MIGRATE}")
        parts = partitions.get(name)
        going = (
            []
            if parts is None or since is None
            else _removable(connection, tracking, parts, schemas, since)
        )
        sizes.append(
            EventTableSize(
                name.dotted,
                tuple(
                    _relation(connection, part, *on_disk[part.name], part in going)
                    for part in parts or [RangePartition(name, "r", None, None)]
                ),
                parts is not None,
            )
        )
    return sizes


def _name(tracking: Tracking, schemas: SchemaNames) -> Qualified:
    events = tracking.event_table
    return Qualified(schemas(events.schema), events.name)


def _on_disk(
    connection: Connection, relations: Sequence[Qualified]
) -> dict[Qualified, tuple[int, int]]:
    """Return the rows by the statistics, -1 without any, and the bytes of relations."""
    statement = text(catalog.SIZES).bindparams(
        bindparam("schemas", type_=ARRAY(Text)), bindparam("names", type_=ARRAY(Text))
    )
    found = connection.execute(
        statement,
        {
            "schemas": [relation.schema for relation in relations],
            "names": [relation.name for relation in relations],
        },
    )
    return {Qualified(row.schema, row.name): (row.rows, row.bytes) for row in found}


def _removable(
    connection: Connection,
    tracking: Tracking,
    partitions: Sequence[RangePartition],
    schemas: SchemaNames,
    since: datetime.datetime,
) -> list[RangePartition]:
    partitioning = tracking.partitioning()
    if partitioning is None:
        return []
    state = PartitionState(tracking, partitioning, schemas)
    _, used = sorted_out(partitions)
    return removable(used, since, state.next_id(connection))


def _relation(
    connection: Connection,
    partition: RangePartition,
    rows: int,
    size: int,
    is_removed: bool,
) -> RelationSize:
    events = table(
        partition.name.name,
        column("pgh_id", BigInteger),
        column("pgh_created_at", DateTime(timezone=True)),
        schema=partition.name.schema,
    )
    if rows < 0:
        count = select(func.count()).select_from(events)
        rows = connection.execute(count).scalar_one()
    oldest, newest = partition.since, partition.until
    if not partition.is_closed:
        created_at = select(events.c.pgh_created_at)
        oldest, newest = (
            connection.execute(created_at.order_by(order).limit(1)).scalar()
            for order in (events.c.pgh_id, events.c.pgh_id.desc())
        )
    name = partition.name.dotted
    return RelationSize(name, rows, size, oldest, newest, is_removed)
