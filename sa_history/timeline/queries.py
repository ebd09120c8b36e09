"""What the timeline asks the database: two statements for a list."""

from __future__ import annotations

import contextlib
import datetime
from collections import Counter
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Date,
    Integer,
    Interval,
    MetaData,
    Text,
    and_,
    any_,
    bindparam,
    column,
    exists,
    false,
    func,
    inspect,
    literal,
    literal_column,
    or_,
    select,
    text,
    union_all,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.exc import DataError, DBAPIError
from sqlalchemy.orm import Session, defer

from sa_history.archiving.archived_lists import ArchivedLists
from sa_history.archiving.folder import ArchiveFolder
from sa_history.capture.partitioning import FIRST_ID, KEPT_OFFSET
from sa_history.capture.trackers import version_labels
from sa_history.ddl.execution import schema_names
from sa_history.exc import EventsRemovedError
from sa_history.install.sizes import EventTableSize, event_table_sizes
from sa_history.query.aggregate import (
    COLUMNS,
    AggregateEvent,
    aggregate,
)
from sa_history.query.details import numbered
from sa_history.query.last_numbers import last_numbers_before
from sa_history.query.pages import CriteriaOf, PageReader
from sa_history.query.removed_events import require_version
from sa_history.query.sources import EventSource
from sa_history.sealing.chain import Seal
from sa_history.sealing.discrepancies import Discrepancy
from sa_history.sealing.event_seals import sealed_number, seals_of_events
from sa_history.sealing.verify import verify_event
from sa_history.sql.column_types import holds_json
from sa_history.timeline.archived_events import (
    ArchivedEvents,
    ArchivedKey,
    FoundEvent,
    ReadFiles,
    call,
    ends,
    number_of,
)
from sa_history.timeline.entries import Entry, Hidden, ShownTable
from sa_history.timeline.filters import Filters, event_criteria, tracking_of
from sa_history.timeline.references import Reference
from sa_history.timeline.responses import (
    BadRequest,
    NotFound,
    TookTooLong,
)
from sa_history.timeline.row_names import row_names
from sa_history.tracking.completeness import version_events
from sa_history.tracking.distribution import current_transaction
from sa_history.tracking.event_class import Event, map_events
from sa_history.tracking.event_keys import have_key, keys_of
from sa_history.tracking.registry import Tracking, trackings_in
from sa_history.tracking.restore import restore_row
from sa_history.util.postgresql import QUERY_CANCELED, sqlstate_of
from sa_history.writing.undo import Undo, undo

SEARCHED = 10_000
"""How many events a text is looked for in, and how many the chart counts."""

TIME_LIMIT = 10_000
"""How many milliseconds a statement may take that goes through so many events."""

_COLUMNS = [*COLUMNS, column("source")]
_NEWEST_FIRST = [AggregateEvent.pgh_id.desc()]


@dataclass(frozen=True)
class EventList:
    """Events, newest first.

    :param found: the events.
    :param searched_to: the number of the oldest event that a text was looked for in,
        if there may be older ones.
    """

    found: list[FoundEvent]
    searched_to: int | None


@dataclass(frozen=True)
class KeyList:
    """The numbers and sources of events, newest first.

    :param keys: what :meth:`Timeline.read` takes.
    :param searched_to: as ``EventList`` has it.
    """

    keys: list[Any]
    searched_to: int | None


@dataclass(frozen=True)
class Counts:
    """How many events there are.

    :param counted: the number of events of each day, in UTC, and model.
    :param oldest: the number of the oldest event that is counted, if there may be
        older ones.
    """

    counted: list[tuple[datetime.date, Tracking, int]]
    oldest: int | None


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """Raise errors of the database as those of a page, where they are foreseen."""
    try:
        yield
    except DBAPIError as error:
        code = sqlstate_of(error.orig) or ""
        # A key, or a number, that the column cannot hold; asyncpg has no DataError.
        if isinstance(error, DataError) or code.startswith("22"):
            raise NotFound from error
        if code == QUERY_CANCELED:
            raise TookTooLong from error
        raise


def _counted(
    source: int, tracking: Tracking, criteria: Iterable[ColumnElement[bool]]
) -> Any:
    """Return the SELECT of the number of a table's events on each day."""
    created_at = tracking.event_table.c.pgh_created_at
    day = sql_cast(func.timezone("UTC", created_at), Date)
    days = select(day.label("day")).where(*criteria).subquery()
    number = literal_column(str(source), Integer).label("source")
    events = func.count().label("events")
    return select(number, days.c.day, events).group_by(days.c.day)


def _newest_of_rows(tracking: Tracking, numbers: Sequence[int]) -> Any:
    """Return the SELECT of those events of a table that no other one follows."""
    events = tracking.event_table
    later = events.alias("pgh_later")
    follows = exists().where(
        *have_key(tracking, later, keys_of(tracking, events)),
        later.c.pgh_id > events.c.pgh_id,
    )
    chosen = events.c.pgh_id == any_(literal(numbers, ARRAY(BigInteger)))
    return select(events.c.pgh_id).where(chosen, ~follows)


def _original_number(found: FoundEvent) -> int:
    """Return the number that an event had before it was kept under another one."""
    number: int = found.row.pgh_id
    return number + KEPT_OFFSET if number < FIRST_ID else number


class Timeline:
    """The events of a MetaData, read through one session.

    :param session: the session, which whoever made it closes.
    :param metadata: the models.
    :param hidden: the columns that are never shown. Where a key is hidden no row is
        found by its key, since that would tell whether a guess is right.
    :param archive: the archive that has events that were removed; None if none has.
    :param read_files: calls a function that reads files, where it may wait for them.
    """

    def __init__(
        self,
        session: Session,
        metadata: MetaData,
        hidden: Hidden,
        archive: ArchiveFolder | None = None,
        read_files: ReadFiles = call,
    ) -> None:
        self.session = session
        self.metadata = metadata
        self.hidden = hidden
        self.trackings = trackings_in(metadata)
        self._archived = ArchivedEvents(
            session, self.trackings, hidden, archive, read_files
        )
        self._shown_tables: dict[Tracking, ShownTable] = {}

    @property
    def choices(self) -> list[tuple[str, str]]:
        """The event tables, with what their models are called."""
        return [(t.event_table.fullname, t.subject) for t in self.trackings]

    @property
    def labels(self) -> list[tuple[str, str]]:
        """The labels of all trackers, each with itself as its name."""
        labels = sorted({t.event_label for t in self._trackers()})
        return [(label, label) for label in labels]

    def _trackers(self) -> Iterator[Any]:
        for tracking in self.trackings:
            yield from tracking.trackers

    def table(self, name: str) -> Tracking:
        """Return the tracking with an event table.

        :raises NotFound: there is none.
        """
        return tracking_of(self.trackings, name)

    def shown_table(self, tracking: Tracking) -> ShownTable:
        """Return what is shown of a tracked table; it is found out once."""
        found = self._shown_tables.get(tracking)
        if found is None:
            found = self._shown_tables[tracking] = ShownTable.of(tracking, self.hidden)
        return found

    def with_session(self, session: Session) -> Timeline:
        """Return the same events, read through another session."""
        archived = self._archived
        return Timeline(
            session, self.metadata, self.hidden, archived.folder, archived.read_files
        )

    def finish(self) -> None:
        """End a transaction that has only read, so that the next one reads faster.

        At a ROLLBACK, as the end of a session sends it, psycopg forgets what it has
        prepared and how often it sent each statement. So it would prepare none of
        these, which takes PostgreSQL most of the time where there are many tables.
        """
        # A function of the application that was called with them may have changed some.
        self.session.expunge_all()
        self.session.commit()

    def events(self, filters: Filters, before: int | None, limit: int) -> EventList:
        """Return the newest events.

        :param before: the number of an event, to show those with smaller numbers.
        :param limit: the greatest number of events.
        """
        with _errors():
            first_live = self._archived.first_live(self._shown(filters))
            if first_live:
                listed = self._keys_with_archived(filters, before, limit, first_live)
                return EventList(self.read(listed.keys), listed.searched_to)
            reader, oldest = self._newest(filters, before, limit)
            rows = [] if reader is None else reader.read(self.session)
            return EventList(self._found(rows), oldest)

    def keys(self, filters: Filters, before: int | None, limit: int) -> KeyList:
        """Return what :meth:`read` takes for the newest events.

        :param before: the number of an event, for those with smaller numbers.
        :param limit: the greatest number of events.
        """
        self._limit_time()
        with _errors():
            first_live = self._archived.first_live(self._shown(filters))
            if first_live:
                return self._keys_with_archived(filters, before, limit, first_live)
            reader, oldest = self._newest(filters, before, limit)
            return KeyList([] if reader is None else reader.keys(self.session), oldest)

    def read(self, keys: Sequence[Any]) -> list[FoundEvent]:
        """Return events.

        :param keys: some of the keys of a list, in their order.
        """
        archived = [key for key in keys if isinstance(key, ArchivedKey)]
        live = [key for key in keys if not isinstance(key, ArchivedKey)]
        reader = self._reader(self.trackings, lambda _: (), None)
        found = self._found(reader.rows(self.session, live))
        if archived:
            found += self._archived.rows(archived)
            found.sort(key=lambda one: one.row.pgh_id, reverse=True)
        return found

    def _keys_with_archived(
        self,
        filters: Filters,
        before: int | None,
        limit: int,
        first_live: Mapping[Tracking, int],
    ) -> KeyList:
        """Return the newest events of the database and of the archive together.

        Last come those that were kept when others were removed, and that no archive
        has: their numbers are below all others.
        """
        reader, searched_to = self._newest(filters, before, limit)
        found: list[Any] = [] if reader is None else reader.keys(self.session)
        live = [key for key in found if key.pgh_id >= FIRST_ID]
        edge = max(first_live.values())
        lowest = searched_to if searched_to is not None else FIRST_ID
        if len(live) == limit:
            lowest = max(lowest, live[-1].pgh_id)
        if lowest >= edge:
            return KeyList(live, searched_to)

        def ask(lists: ArchivedLists) -> Any:
            newest = self._archived.newest(
                lists, self._shown(filters), filters, before, limit, SEARCHED
            )
            return *newest, {t: lists.missing(t) for t in first_live}

        archived, oldest, missing = self._archived.ask(first_live, ask, filters)
        keys = sorted([*live, *archived], key=number_of, reverse=True)[:limit]
        searched = [number for number in (searched_to, oldest) if number is not None]
        if searched:
            last = max(searched)
            return KeyList([key for key in keys if key.pgh_id >= last], last)
        if len(keys) < limit:
            keys += self._kept(filters, before, limit - len(keys), missing)
        return KeyList(keys, None)

    def _kept(
        self,
        filters: Filters,
        before: int | None,
        limit: int,
        missing: Mapping[Tracking, Sequence[tuple[int, int]]],
    ) -> list[Any]:
        """Return the keys of events that were kept when others were removed.

        :param missing: the numbers that their tables lost and no archive has.
        """
        matching = self._matching(filters, before, None)

        def criteria(source: EventSource) -> Iterator[ColumnElement[bool]]:
            number = source.tracking.event_table.c.pgh_id
            yield from matching(source)
            yield or_(
                *(
                    number.between(first - KEPT_OFFSET, end - 1 - KEPT_OFFSET)
                    for first, end in missing[source.tracking]
                )
            )

        lacking = [tracking for tracking, numbers in missing.items() if numbers]
        if not lacking:
            return []
        return self._reader(lacking, criteria, limit).keys(self.session)

    def counts(self, filters: Filters) -> Counts:
        """Return how many events each day and model has, of the newest ones."""
        self._limit_time()
        shown = self._shown(filters)
        if not shown:
            return Counts([], None)
        with _errors():
            if first_live := self._archived.first_live(shown):
                return self._counts_with_archived(filters, first_live)
            newest = self._kept_reader(shown, filters, None, SEARCHED)
            found = newest.keys(self.session)
            if not found:
                return Counts([], None)
            oldest = found[-1].pgh_id if len(found) == SEARCHED else None
            matching = self._matching(filters, found[0].pgh_id + 1, oldest)
            return Counts(self._days(shown, matching), oldest)

    def _counts_with_archived(
        self, filters: Filters, first_live: Mapping[Tracking, int]
    ) -> Counts:
        """Return how many events of the database and of the archive there are."""
        listed = self._keys_with_archived(filters, None, SEARCHED, first_live)
        keys, oldest = listed.keys, listed.searched_to
        archived = [key for key in keys if isinstance(key, ArchivedKey)]
        live = [key.pgh_id for key in keys if not isinstance(key, ArchivedKey)]
        numbers = any_(literal(live, ARRAY(BigInteger)))
        counted = self._days(
            self._shown(filters),
            lambda source: [source.tracking.event_table.c.pgh_id == numbers],
        )
        if archived:
            counted += self._archived.ask(
                ends(archived), lambda lists: lists.days(archived)
            )
        sums: Counter[tuple[datetime.date, Tracking]] = Counter()
        for day, tracking, events in counted:
            sums[day, tracking] += events
        if len(keys) == SEARCHED:
            oldest = keys[-1].pgh_id
        return Counts([(*pair, events) for pair, events in sums.items()], oldest)

    def _days(
        self, shown: Sequence[Tracking], criteria: CriteriaOf
    ) -> list[tuple[datetime.date, Tracking, int]]:
        """Return how many events of the database each day and model has."""
        statement = union_all(
            *(
                _counted(number, tracking, criteria(EventSource(tracking, None)))
                for number, tracking in numbered(shown)
            )
        )
        of_source = dict(numbered(shown))
        rows = self.session.execute(statement)
        return [(row.day, of_source[row.source], row.events) for row in rows]

    def sizes(self, keep: str | None) -> list[EventTableSize]:
        """Return how large the event tables are.

        :param keep: for how long events would be kept; None to tell of no removal.
        :raises CommandError: ``keep`` is no time.
        """
        self._limit_time()
        with _errors():
            connection = self.session.connection()
            schemas = schema_names(connection)
            return event_table_sizes(connection, self.trackings, schemas, keep)

    def _newest(
        self, filters: Filters, before: int | None, limit: int
    ) -> tuple[PageReader | None, int | None]:
        """Return what reads the newest events, and the number of the last one searched.

        A text is looked for in some of the newest events only, as there is no index
        of it. The number is None if these are all.
        """
        shown = self._shown(filters)
        if not shown:
            return None, None
        if filters.text is None:
            return self._kept_reader(shown, filters, before, limit), None
        self._limit_time()
        others = replace(filters, text=None)
        newest = self._kept_reader(shown, others, before, SEARCHED)
        found = newest.keys(self.session)
        oldest = found[-1].pgh_id if len(found) == SEARCHED else None
        if not found:
            return None, None
        matching = self._matching(filters, found[0].pgh_id + 1, oldest)
        return self._reader(shown, matching, limit), oldest

    def _kept_reader(
        self,
        shown: Sequence[Tracking],
        filters: Filters,
        before: int | None,
        limit: int,
    ) -> PageReader:
        """Return what reads the newest events by statements that are kept."""
        bound = filters.bound()
        last = self._last_numbers(shown, filters, before)
        names = {tracking: f"page_last_{number}" for number, tracking in numbered(last)}

        def criteria(source: EventSource) -> Iterator[ColumnElement[bool]]:
            events = source.tracking.event_table.c
            yield from bound.criteria(source)
            if before is not None:
                yield events.pgh_id < bindparam("page_before", type_=BigInteger)
            if source.tracking in last:
                name = names[source.tracking]
                yield events.pgh_id <= bindparam(name, type_=BigInteger)

        values = {names[tracking]: number for tracking, number in last.items()}
        if before is not None:
            values["page_before"] = before
        shape = filters.shape()
        return PageReader(
            sources=[EventSource(tracking, None) for tracking in shown],
            criteria=criteria,
            order=_NEWEST_FIRST,
            limit=limit,
            columns=_COLUMNS,
            values={**filters.values(), **values},
            shape=None if shape is None else (*values, *shape),
            contexts=bound.contexts,
        )

    def _last_numbers(
        self, shown: Sequence[Tracking], filters: Filters, before: int | None
    ) -> Mapping[Tracking, int | None]:
        """Return the number that events before the end of a time have at most.

        :param before: as :meth:`events` has it; a list that goes on from an event does
            not have to find its end.
        """
        if filters.until is None or before is not None:
            return {}
        return last_numbers_before(self.session, shown, filters.until)

    def _matching(
        self, filters: Filters, before: int | None, oldest: int | None
    ) -> CriteriaOf:
        return event_criteria(filters, self.hidden.attributes, before, oldest)

    def _limit_time(self) -> None:
        """Have the server end statements that take too long, in this transaction.

        Unless it ends them earlier, or the session is in autocommit.
        """
        name = "statement_timeout"
        # PostgreSQL writes it as 10s or 1min, which are intervals as well.
        present = sql_cast(func.current_setting(name), Interval)
        shortest, longest = (
            datetime.timedelta(milliseconds=number) for number in (1, TIME_LIMIT)
        )
        self.session.execute(
            select(func.set_config(name, str(TIME_LIMIT), True)).where(
                ~present.between(shortest, longest)
            )
        )

    def versions(self, filters: Filters, numbers: Sequence[int]) -> list[FoundEvent]:
        """Return some versions of a row, oldest first."""

        def criteria(source: EventSource) -> Iterator[ColumnElement[bool]]:
            yield from filters.criteria_with_contexts(source)
            yield source.tracking.event_table.c.pgh_id.in_(numbers)

        return self._rows(filters, criteria, len(numbers))[::-1]

    def newest_of_rows(self, found: Sequence[FoundEvent]) -> set[int]:
        """Return the numbers of those events that no other one of their row follows."""
        numbers: dict[Tracking, list[int]] = {}
        for tracking, row in found:
            numbers.setdefault(tracking, []).append(row.pgh_id)
        statements = [_newest_of_rows(t, some) for t, some in numbers.items()]
        if not statements:
            return set()
        return {*self.session.scalars(union_all(*statements))}

    def at(self, filters: Filters, moment: datetime.datetime) -> FoundEvent | None:
        """Return the version that a row had at a moment, or None if it had none.

        :raises BadRequest: it may have had one, which was removed.
        """

        def criteria(source: EventSource) -> Iterator[ColumnElement[bool]]:
            events = source.tracking.event_table
            yield from filters.criteria_with_contexts(source)
            yield events.c.pgh_created_at <= moment
            tracking = source.tracking
            # A note does not tell the whole row.
            if version_labels(tracking.trackers, tracking.tracked_columns):
                yield from version_events(tracking, events)

        rows = self._rows(filters, criteria, 1)
        if not rows:
            assert filters.table is not None  # as an object is of a table
            if self._knows_all(filters.table):
                return None
            try:
                require_version(self.session.connection(), filters.table, moment)
            except EventsRemovedError as error:
                raise BadRequest(f"{error.reason}; choose a later time") from error
        return rows[0] if rows else None

    def _rows(
        self, filters: Filters, criteria: CriteriaOf, limit: int
    ) -> list[FoundEvent]:
        """Return the newest events that meet criteria."""
        shown = self._shown(filters)
        if not shown:
            return []
        with _errors():
            reader = self._reader(shown, criteria, limit)
            found = self._found(reader.read(self.session))
            first_live = self._archived.first_live(shown)
        if not first_live:
            return found
        sources = [EventSource(tracking, None) for tracking in shown]
        pairs = self._archived.ask(
            first_live,
            lambda lists: lists.newest(sources, criteria, None, limit),
            filters,
        )
        numbers = {number for number, _ in pairs}
        # Not those of which a kept copy is there, too.
        found = [f for f in found if f.row.pgh_id + KEPT_OFFSET not in numbers]
        if pairs:
            found += self._archived.rows([ArchivedKey(*pair) for pair in pairs])
        return sorted(found, key=_original_number, reverse=True)[:limit]

    def _knows_all(self, tracking: Tracking) -> bool:
        """Return whether an archive has all events of a table that were removed."""
        filters = Filters(table=tracking)
        first_live = self._archived.first_live(self._shown(filters))
        if not first_live:
            return False
        return self._archived.ask(first_live, lambda lists: not lists.missing(tracking))

    def _reader(
        self, shown: Sequence[Tracking], criteria: CriteriaOf, limit: int | None
    ) -> PageReader:
        return PageReader(
            sources=[EventSource(tracking, None) for tracking in shown],
            criteria=criteria,
            order=_NEWEST_FIRST,
            limit=limit,
            columns=_COLUMNS,
            values={},
            shape=None,
        )

    def _shown(self, filters: Filters) -> list[Tracking]:
        """Return the trackings whose events can meet the filters."""
        shown = self.trackings if filters.table is None else [filters.table]
        if filters.key is not None:
            return [t for t in shown if not self.hidden.has_key(t)]
        return [*shown]

    def _found(self, rows: Sequence[Any]) -> list[FoundEvent]:
        of_source = dict(numbered(self.trackings))
        return [FoundEvent(of_source[row.source], row) for row in rows]

    def event(self, table: str, number: int) -> Event:
        """Return an event.

        :raises NotFound: there is none.
        """
        event_class = map_events(self.table(table))
        with _errors():
            # What Python may not be able to read; to restore it, it need not.
            unread = [
                defer(getattr(event_class, attribute.key))
                for attribute in inspect(event_class).column_attrs
                if holds_json(attribute.columns[0].type)
            ]
            statement = select(event_class).where(event_class.pgh_id == number)
            event = self.session.scalars(statement.options(*unread)).one_or_none()
        if event is None:
            raise NotFound
        return event

    def hidden_values(self, event: Event) -> list[str]:
        """Return what is hidden of an event and of its row, as PostgreSQL writes it."""
        tracking = event.pgh_tracking
        events, columns = tracking.event_table, tracking.tracked_columns.by_attribute
        hidden = [columns[name] for name in self.hidden.attributes(tracking)]
        if not hidden:
            return []
        stored = [events.c[column.name] for column in hidden if column.name in events.c]
        key = tracking.tracked_columns.key
        # Of a table without a key, no row is known to be that of the event.
        is_row = [columns[name] == getattr(event, name) for name in key] or [false()]
        statement = (
            select(*(sql_cast(column, Text) for column in (*hidden, *stored)))
            .select_from(events.outerjoin(tracking.table, and_(*is_row)))
            .where(events.c.pgh_id == event.pgh_id)
        )
        found = self.session.execute(statement).one()
        return [value for value in found if value is not None]

    def begin(self) -> None:
        """Begin a transaction that can be rolled back, before anything else is read.

        Also where the engine is in autocommit.
        """
        options = {"isolation_level": "READ COMMITTED"}
        self.session.connection(execution_options=options)

    def restore(self, event: Event) -> None:
        """Write the values of an event into its row."""
        restore_row(self.session, event, None)

    def undo(self, filters: Filters, *, dry_run: bool = False) -> Undo:
        """Undo all that was changed in a context or a transaction.

        :param filters: has the context's id, or the transaction's number.
        """
        return undo(
            self.session,
            self.metadata,
            transaction=filters.transaction,
            context=filters.context_id,
            dry_run=dry_run,
        )

    def written(self, limit: int) -> list[FoundEvent]:
        """Return the newest events that this transaction has written.

        What the database refuses when it commits, it refuses now.

        :param limit: the greatest number of events.
        """
        self.session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        found: list[FoundEvent] = []
        # Of two at most: Citus numbers transactions by itself.
        for is_distributed in {tracking.is_distributed for tracking in self.trackings}:
            of_kind = [t for t in self.trackings if t.is_distributed is is_distributed]
            number = self.session.scalar(select(current_transaction(of_kind)))
            found += self.events(Filters(transaction=number), None, limit).found
        return sorted(found, key=_original_number, reverse=True)[:limit]

    def names(
        self,
        tracking: Tracking,
        references: Collection[Reference],
        name: Callable[[Any], str | None],
    ) -> dict[Reference, str]:
        """Return the names of rows; of those that have one.

        :param tracking: the tracking of the rows.
        :param references: what refers to the rows.
        :param name: called with an object of the model. Of what is hidden, and of
            relationships, the object has nothing.
        """
        table = self.shown_table(tracking)
        return row_names(self.session, table, self.hidden, references, name)

    def seals(self, entries: Iterable[Entry]) -> dict[tuple[str, int], Seal | None]:
        """Return the seals of events by their table and number.

        Events of tables that are not sealed have none, not even None.
        """
        numbers: dict[str, list[int]] = {}
        for entry in entries:
            numbers.setdefault(entry.table, []).append(entry.id)
        found: dict[tuple[str, int], Seal | None] = {}
        for table, wanted in numbers.items():
            connection, tracking = self.session.connection(), self.table(table)
            seals = seals_of_events(connection, self.metadata, tracking, wanted)
            found.update({(table, n): seal for n, seal in (seals or {}).items()})
        return found

    def verify(self, table: str, number: int) -> list[Discrepancy]:
        """Return what is not as it was sealed in the range of an event."""
        tracking = self.table(table)
        return verify_event(
            self.session.connection(),
            self.metadata,
            tracking.event_table.fullname,
            sealed_number(tracking, number),
        )

    def key_of(self, event: Event) -> str:
        """Return the key of an event's row as text, as a list shows it."""
        tracking = next(t for t in self.trackings if isinstance(event, t.event_class))
        events = tracking.event_table
        statement = aggregate(
            [EventSource(tracking, [events.c.pgh_id == event.pgh_id])],
            lambda _: (),
            [AggregateEvent.pgh_id],
            1,
        )
        return str(self.session.execute(statement).one().pgh_obj_id)
