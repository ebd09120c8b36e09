"""Lists of archived events, the newest first, that go on where those of a database end.

Whoever lists the live events has a connection already, and asks for a page of some
events. So the files alone are read here, and of the contexts those that are given.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Date, Table, cast, func, select

from sa_history.archiving.aggregate_rows import aggregate_rows
from sa_history.archiving.carriers import CarriedColumn, arrow_schema
from sa_history.archiving.folder import ArchiveFolder
from sa_history.archiving.live_part import RecordedPart, gaps, read_recorded
from sa_history.archiving.manifest import ArchivedColumn, ArchivedPart
from sa_history.archiving.packages import load
from sa_history.archiving.reader import ArchiveReader
from sa_history.capture.partitioning import FIRST_ID
from sa_history.ddl.execution import schema_names
from sa_history.query.aggregate import AggregateRow
from sa_history.query.pages import CriteriaOf
from sa_history.query.sources import EventSource
from sa_history.sql.compose import Qualified, SchemaNames
from sa_history.tracking.registry import History, Tracking


@dataclass(frozen=True)
class GivenContext:
    """A context that the database still has.

    :param id: its id.
    :param parent_id: the id of the context around it; None if there is none.
    :param metadata: its metadata, as the text of JSON.
    """

    id: uuid.UUID
    parent_id: uuid.UUID | None
    metadata: str


class ArchivedLists:
    """The events that an archive has and the database has no more.

    :param folder: the archive.
    :param history: the models.
    :param connection: the database, which is asked for nothing but names and for what
        it has archived, when the object is made; the files are read when the methods
        are called, and refused if they are of another database.
    :param first_live: the number of the first event of each table that was not removed.
        Tables without one have lost none, and nothing of them is read.
    :param contexts: those that criteria are to find beside the archived ones.

    Example::

        with ArchivedLists(folder, history, connection, {tracking: 801}) as archived:
            numbers = archived.newest(sources, lambda _: (), None, 50)
            rows = archived.rows(numbers)
    """

    def __init__(
        self,
        folder: ArchiveFolder,
        history: History,
        connection: Connection,
        first_live: Mapping[Tracking, int],
        contexts: Sequence[GivenContext] = (),
    ) -> None:
        self._first_live = first_live
        dialect: Any = connection.dialect
        given = _GivenPart(
            dialect._json_deserializer,
            # At once, as the database may not be asked where the files are read.
            schema_names(connection),
            history.shared.context_table,
            contexts,
        )
        given.read_recorded(connection, [t.event_table for t in first_live])
        self._reader = ArchiveReader(folder, history, given)

    def __enter__(self) -> ArchivedLists:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def newest(
        self,
        sources: Sequence[EventSource],
        criteria: CriteriaOf,
        before: int | None,
        limit: int,
    ) -> list[tuple[int, Tracking]]:
        """Return the numbers of the newest events that meet criteria.

        :param before: the number that theirs are smaller than; None for any.
        :param limit: how many there are at most.
        """
        found = [
            (number, source.tracking)
            for source in sources
            for number in self._newest(source, criteria, before, limit)
        ]
        return sorted(found, key=lambda pair: pair[0], reverse=True)[:limit]

    def _newest(
        self,
        source: EventSource,
        criteria: CriteriaOf,
        before: int | None,
        limit: int,
    ) -> list[int]:
        tracking = source.tracking
        end = self._first_live.get(tracking, FIRST_ID)
        end = end if before is None else min(end, before)
        number = tracking.event_table.c.pgh_id
        wanted = [*source.criteria(), *criteria(source)]
        found: list[int] = []
        # Of a table with years, a page mostly needs the last month.
        for first, last in _windows(self._parts(tracking), end):
            statement = (
                select(number)
                .where(*wanted, number >= first, number < min(last, end))
                .order_by(number.desc())
                .limit(limit - len(found))
            )
            found += self._reader.session.scalars(statement)
            if len(found) == limit:
                break
        return found

    def rows(self, numbers: Sequence[tuple[int, Tracking]]) -> list[AggregateRow]:
        """Return events, the newest first.

        :param numbers: some of those that :meth:`newest` returned.
        """
        by_tracking = _by_tracking(numbers)

        def criteria(source: EventSource) -> Iterator[Any]:
            return _are_among(source.tracking, by_tracking[source.tracking])

        sources = [EventSource(tracking, None) for tracking in by_tracking]
        return aggregate_rows(
            self._reader.session,
            sources,
            criteria,
            None,
            True,
            self._reader.covering,
        )

    def days(
        self, numbers: Sequence[tuple[int, Tracking]]
    ) -> list[tuple[datetime.date, Tracking, int]]:
        """Return how many events there are of each day, in UTC, and table.

        :param numbers: some of those that :meth:`newest` returned.
        """
        found = []
        for tracking, wanted in _by_tracking(numbers).items():
            day = cast(tracking.event_table.c.pgh_created_at, Date)
            statement = select(day, func.count()).group_by(day)
            chosen = statement.where(*_are_among(tracking, wanted))
            rows = self._reader.session.execute(chosen)
            found += [(row[0], tracking, row[1]) for row in rows]
        return found

    def missing(self, tracking: Tracking) -> list[tuple[int, int]]:
        """Return the numbers of events that were removed and are not in the archive.

        :return: of each range the first one and the end.
        """
        first_live = self._first_live[tracking]
        return [
            (first, first_live if end is None else min(end, first_live))
            for first, end in gaps(self._parts(tracking))
            if first < first_live
        ]

    def _parts(self, tracking: Tracking) -> Sequence[ArchivedPart]:
        table = self._reader.table(tracking.event_table)
        # Where it has no parts, nothing is read that would be refused.
        table.require_right_folder()
        return table.parts


def _by_tracking(
    numbers: Sequence[tuple[int, Tracking]],
) -> dict[Tracking, list[int]]:
    found: dict[Tracking, list[int]] = {}
    for number, tracking in numbers:
        found.setdefault(tracking, []).append(number)
    return found


def _are_among(tracking: Tracking, numbers: Sequence[int]) -> Iterator[Any]:
    """Yield the criteria of the events with some numbers."""
    number = tracking.event_table.c.pgh_id
    yield number.in_(numbers)
    # By which files are passed over.
    yield number.between(min(numbers), max(numbers))


def _windows(parts: Sequence[ArchivedPart], end: int) -> Iterator[tuple[int, int]]:
    """Yield the first number and the end of one partition, then of two, of four etc.

    :param parts: the oldest first.
    :param end: the number that all that are needed are below.
    """
    left = [part for part in parts if int(part.lower or FIRST_ID) < end]
    size = 1
    while left:
        window, left = left[-size:], left[:-size]
        size *= 2
        yield int(window[0].lower or FIRST_ID), int(window[-1].upper or end)


class _GivenPart:
    """In place of the live part of an archive: some contexts, and no event."""

    def __init__(
        self,
        json_deserializer: Any,
        schemas: SchemaNames,
        table: Table,
        contexts: Sequence[GivenContext],
    ) -> None:
        self.json_deserializer = json_deserializer
        self._schemas = schemas
        self._table = table
        self._contexts = contexts
        self._recorded: dict[Table, list[RecordedPart]] = {}

    def read_recorded(self, connection: Connection, tables: Sequence[Table]) -> None:
        """Read which partitions of event tables and of contexts were archived."""
        found = read_recorded(connection, [self._table, *tables], self.name_of)
        self._recorded = found or {}

    def close(self) -> None:
        """Leave the connection to whoever gave it."""

    def name_of(self, table: Table) -> Qualified:
        """Return the name of a table with its schema in the database."""
        return Qualified.of(table, self._schemas)

    def recorded(self, table: Table) -> list[RecordedPart] | None:
        """Return the partitions of a table that were archived; None if not known."""
        return self._recorded.get(table)

    def columns(self, table: Table) -> list[CarriedColumn]:
        """Return the columns that are given."""
        if table is not self._table:
            return []
        types = {"id": "uuid", "parent_id": "uuid", "metadata": "jsonb"}
        return [
            CarriedColumn(ArchivedColumn(name, type_, "string"), "")
            for name, type_ in types.items()
        ]

    def all_rows(self, table: Table, parts: Sequence[ArchivedPart]) -> Any:
        """Return the given rows that are in no part, as Arrow."""
        pa = load("pyarrow")
        given = [c for c in self._contexts if not any(_has(p, c.id) for p in parts)]
        texts: Sequence[Callable[[GivenContext], str | None]] = [
            lambda one: str(one.id),
            lambda one: None if one.parent_id is None else str(one.parent_id),
            lambda one: one.metadata,
            lambda one: None,
        ]
        return pa.Table.from_arrays(
            [pa.array([text(c) for c in given], pa.string()) for text in texts],
            schema=arrow_schema([c.column for c in self.columns(table)]),
        )

    def some_rows(
        self, table: Table, parts: Sequence[ArchivedPart], wanted: str
    ) -> Any:
        """Return the given rows, which are few."""
        return self.all_rows(table, parts)

    def as_sql(self, criterion: Any) -> None:
        """Return None: there is nothing to choose from."""


def _has(part: ArchivedPart, id: uuid.UUID) -> bool:
    """Return whether a part of the contexts has those with such an id."""
    text = str(id)
    return (part.lower is None or part.lower <= text) and (
        part.upper is None or text < part.upper
    )
