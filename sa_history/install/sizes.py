"""How large event tables are, how fast they grow, and what could be removed of them.

Rows are counted as PostgreSQL's statistics have them, so that nothing is read through;
a table that was never analysed is counted.
"""

from __future__ import annotations

import datetime
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    DateTime,
    Text,
    bindparam,
    cast,
    column,
    func,
    null,
    select,
    table,
    text,
)

from sa_history.capture.partitioning import FIRST_ID
from sa_history.ddl.catalog import read_readable
from sa_history.ddl.citus import read_bytes, read_placements
from sa_history.ddl.execution import read_server, time_in_database
from sa_history.ddl.partitions import RangePartition, read_range_partitions
from sa_history.exc import InstallError
from sa_history.install.findings import MIGRATE
from sa_history.install.partition_plan import keep_since, removable
from sa_history.install.partition_state import (
    PartitionState,
    read_by_partition,
    read_next_ids,
    sorted_out,
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

    def as_json(self, tells_of_removal: bool) -> dict[str, Any]:
        """Return what there is to tell, as the names and values of a JSON object.

        :param tells_of_removal: False to have null as what is removed.
        """
        return {
            **_sized(self),
            "rows_a_month": self.rows_a_month,
            "bytes_a_month": self.bytes_a_month,
            "removed_rows": self.removed_rows if tells_of_removal else None,
            "removed_bytes": self.removed_bytes if tells_of_removal else None,
            "partitions": [
                {**_sized(relation), "removed": relation.is_removed}
                for relation in self.relations
                if self.is_partitioned
            ],
        }

    def _times(self, name: str) -> Iterator[datetime.datetime]:
        times = (getattr(relation, name) for relation in self.relations)
        return (time for time in times if time is not None)


def _sized(sized: EventTableSize | RelationSize) -> dict[str, Any]:
    return {
        "name": sized.name,
        "rows": sized.rows,
        "bytes": sized.bytes,
        "oldest": None if sized.oldest is None else sized.oldest.isoformat(),
        "newest": None if sized.newest is None else sized.newest.isoformat(),
    }


def human(size: int) -> str:
    """Return a number of bytes as people write it."""
    number, units = float(size), ["B", "KiB", "MiB", "GiB", "TiB"]
    while number >= 1024 and len(units) > 1:
        number /= 1024
        del units[0]
    is_whole = number >= 100 or units[0] == "B"
    return f"{number:.0f} {units[0]}" if is_whole else f"{number:.1f} {units[0]}"


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
    names = [Qualified.of(t.event_table, schemas) for t in trackings]
    partitions = read_range_partitions(
        connection, sorted({str(name.schema) for name in names})
    )
    parts = {
        name: partitions.get(name) or [RangePartition(name, "r", None, None)]
        for name in names
    }
    on_disk = _on_disk(
        connection,
        [*names, *(part.name for of_table in parts.values() for part in of_table)],
    )
    for name in names:
        if name not in on_disk:
            raise InstallError(f"there is no table {name.dotted}; {MIGRATE}")
    going: set[Qualified] = set()
    if since is not None:
        going = _removable(connection, trackings, partitions, schemas, since)
    relations = _relations(connection, parts, on_disk, going)
    return [
        EventTableSize(name.dotted, tuple(relations[name]), name in partitions)
        for name in names
    ]


def _on_disk(
    connection: Connection, relations: Sequence[Qualified]
) -> dict[Qualified, tuple[int, int]]:
    """Return the rows by the statistics, -1 without any, and the bytes of relations.

    What Citus has on its nodes has no statistics.
    """
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
    sizes = {Qualified(row.schema, row.name): (row.rows, row.bytes) for row in found}
    if read_server(connection).has_citus:
        for name in read_placements(connection, [str(r.schema) for r in relations]):
            if name in sizes:
                sizes[name] = (-1, read_bytes(connection, name))
    return sizes


def _removable(
    connection: Connection,
    trackings: Sequence[Tracking],
    partitions: Mapping[Qualified, list[RangePartition]],
    schemas: SchemaNames,
    since: datetime.datetime,
) -> set[Qualified]:
    """Return the names of the partitions all of whose events are older than a time."""
    states = [
        state
        for tracking in trackings
        if (partitioning := tracking.partitioning()) is not None
        for state in [PartitionState(tracking, partitioning, schemas)]
        if state.table.name in partitions
    ]
    readable = read_readable(connection, {state.sequence for state in states})
    next_ids = read_next_ids(connection, [s for s in states if s.sequence in readable])
    going: set[Qualified] = set()
    for state in states:
        _, used = sorted_out(partitions[state.table.name])
        # Partitions were full when they were closed, unless the sequence was set back.
        last = used[-1].lower if used else None
        next_id = next_ids.get(state.sequence, last or FIRST_ID)
        going.update(partition.name for partition in removable(used, since, next_id))
    return going


def _relations(
    connection: Connection,
    parts: Mapping[Qualified, Sequence[RangePartition]],
    on_disk: Mapping[Qualified, tuple[int, int]],
    going: Container[Qualified],
) -> dict[Qualified, list[RelationSize]]:
    """Return the sizes of partitions, by their tables.

    :param parts: the partitions of each table, or the table itself.
    :param on_disk: the rows by the statistics, and the bytes, of each of them.
    :param going: those that would be removed.
    """
    every = [(name, part) for name, of_table in parts.items() for part in of_table]
    summaries = read_by_partition(
        connection,
        {
            part.name: _summary(name, part, is_counted=on_disk[part.name][0] < 0)
            for name, part in every
            if on_disk[part.name][0] < 0 or not part.is_closed
        },
    )
    found: dict[Qualified, list[RelationSize]] = {name: [] for name in parts}
    for name, part in every:
        rows, size = on_disk[part.name]
        oldest, newest = part.since, part.until
        if part.name in summaries:
            summary = summaries[part.name]
            rows = rows if summary.rows is None else summary.rows
            oldest = oldest if part.is_closed else summary.oldest
            newest = newest if part.is_closed else summary.newest
        is_removed = part.name in going
        found[name].append(
            RelationSize(part.name.dotted, rows, size, oldest, newest, is_removed)
        )
    return found


def _summary(name: Qualified, partition: RangePartition, is_counted: bool) -> Any:
    """Return the SELECT of the number of a partition's events, and of two times.

    :param name: the event table, by whose name the events are read: a partition gives
        nobody a right.
    :param is_counted: False to have NULL for the number.
    """
    events = table(
        name.name,
        column("pgh_id", BigInteger),
        column("pgh_created_at", DateTime(timezone=True)),
        schema=name.schema,
    )
    criteria: list[ColumnElement[bool]] = []
    if partition.lower is not None:
        criteria.append(events.c.pgh_id >= partition.lower)
    if partition.upper is not None:
        criteria.append(events.c.pgh_id < partition.upper)
    rows: ColumnElement[Any] = cast(null(), BigInteger)
    if is_counted:
        count = select(func.count()).select_from(events).where(*criteria)
        rows = count.scalar_subquery()
    oldest, newest = (
        select(events.c.pgh_created_at).where(*criteria).order_by(order).limit(1)
        for order in (events.c.pgh_id, events.c.pgh_id.desc())
    )
    return select(
        rows.label("rows"),
        oldest.scalar_subquery().label("oldest"),
        newest.scalar_subquery().label("newest"),
    )
