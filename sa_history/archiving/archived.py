"""Questions to an archive: its files and the events that are still live, by DuckDB."""

from __future__ import annotations

import datetime
import functools
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractContextManager,
    ExitStack,
    contextmanager,
    suppress,
)
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ColumnElement,
    Row,
    Table,
    and_,
    or_,
    select,
)
from sqlalchemy.orm import InstrumentedAttribute, Query, Session

from sa_history._types import UNSET
from sa_history.archiving.aggregate_rows import aggregate_rows
from sa_history.archiving.duckdb_dialect import (
    ArchiveCompiler,
    DuckDBDialect,
    Past,
    Prepare,
    duckdb_engine,
)
from sa_history.archiving.folder import ArchiveFolder
from sa_history.archiving.known_times import require_known
from sa_history.archiving.live_part import LivePart, simple_criterion
from sa_history.archiving.packages import load
from sa_history.archiving.read_tables import WRITER, ReadTable, archived_table
from sa_history.archiving.views import Dialect, EventViews, script
from sa_history.capture.event_table import OLD_KEY
from sa_history.definition.mapped_tables import Model
from sa_history.exc import EventsError
from sa_history.query.aggregate import AggregateRow, EventFilters
from sa_history.query.as_of_rows import PointInTime
from sa_history.query.attribute_history import changes
from sa_history.query.row_keys import have_key
from sa_history.query.sources import (
    EventTarget,
    RowTarget,
    sources_of,
    trackings_of_target,
)
from sa_history.query.time_travel import point_in_time
from sa_history.tracking.context_class import Context
from sa_history.tracking.diff import Diff
from sa_history.tracking.event_class import Event
from sa_history.tracking.events import Events, events, key_values, trackings_of
from sa_history.tracking.registry import History, Tracking
from sa_history.tracking.versions import steps

if TYPE_CHECKING:
    from typing_extensions import Self


def archived(folder: Any, models: Any, *, live: Any = None) -> Archived:
    """Return an archive to ask: its files, and the events that are still live.

    What it returns are the objects that the same questions to the database return:
    events, rows as of a time, changes, rows of :class:`AggregateEvent`. DuckDB finds
    them in the files of all partitions at once. The live events are read in one
    transaction, so that all answers are about one moment.

    :param folder: the folder that ``history.archive`` wrote to.
    :param models: a declarative base, a MetaData, or a class of one.
    :param live: an engine of the database, whose events that are not archived are read
        as well; None to read the archive alone.
    :return: an archive, to be used in a ``with`` block, or to be closed.
    :raises ArchiveError: ``live`` is no engine, or an async one; on reading, if DuckDB
        or pyarrow is not installed, or the archive has no such table.
    :raises EventsError: nothing of the models is tracked.

    Example::

        with history.archived("/archive", Base, live=engine) as archive:
            for event in archive.events(Account, 7):
                print(event.pgh_created_at, event.balance)
    """
    trackings = trackings_of_target(models)
    if not trackings:
        raise EventsError(
            f"{models!r} tracks nothing; give a declarative base with tracked classes"
        )
    part = None if live is None else LivePart(live)
    return Archived(ArchiveFolder(folder), trackings[0].history, part)


class Archived:
    """An archive to ask; :func:`archived` returns it.

    Example::

        with history.archived("/archive", Base) as archive:
            past = archive.as_of(new_year)
            account = past.get(Account, 7)
    """

    def __init__(self, folder: ArchiveFolder, history: History, live: Any) -> None:
        self._folder = folder
        self._history = history
        self._live = live
        self._closing = ExitStack()
        if self._live is not None:
            self._closing.callback(self._live.close)
        self._tables: dict[Table, ReadTable] = {}
        self._session: Session | None = None
        self._covered: dict[Table, int] = {}
        # Of events that were read; the first one that is asked for brings all along.
        self._pending: set[uuid.UUID] = set()
        self._loaded: dict[uuid.UUID, Context] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; objects that were read are detached.

        Example::

            archive.close()
        """
        self._closing.close()

    def sql(self, dialect: Dialect = "duckdb") -> str:
        """Return the statements that create views of the archive, for other tools.

        For a table ``account`` these are ``account_event``, with its events,
        ``account_event_with_previous`` with the one before each,
        ``account_event_with_context`` with the metadata of their contexts, and the
        function ``account_as_of(pgh_moment)``. The live events are not in them, but for
        those that ``history.archive(..., open=True)`` wrote.

        :param dialect: ``"duckdb"`` or ``"spark"``.
        :return: statements, each with a semicolon at the end of its line.

        Example::

            duckdb.sql(history.archived("/archive", Base).sql())
        """
        found = {
            tracking: table
            for tracking in self._history.trackings.values()
            if (table := self._archived(tracking.event_table, True))
        }
        contexts = self._archived(self._history.shared.context_table, True)
        return script(dialect, found, contexts)

    @property
    def session(self) -> Session:
        """A session that reads the event tables and the contexts.

        Statements are those for the database, such as ``Account.events.where(...)``.
        Of one table, the live events are read that ``=``, ``IN`` and comparisons of
        numbers and times in its WHERE choose. Other statements read all live events of
        their tables, when a statement first needs them.

        Example::

            archive.session.scalars(Account.events.where(Account.events.balance < 0))
        """
        if self._session is None:
            self._session = self._closing.enter_context(
                Session(self._engine(None, self._prepare), autoflush=False)
            )
        return self._session

    def as_of(
        self,
        when: datetime.datetime | Event | None = None,
        *,
        transaction: int | None = None,
    ) -> ArchivedPast:
        """Return a session that reads tables as of a point in time.

        :param when: a time with its time zone, or an event, whose change is the last
            one to be seen.
        :param transaction: in place of ``when``, the number of the last transaction
            whose changes are seen.
        :return: a session, which is closed with the archive.
        :raises PastError: no point in time is given, or several; on reading, if a table
            is not tracked in full, or a statement writes or is text.
        :raises EventsRemovedError: on reading, if events from before the archive were
            removed, and the rows are not known without them.
        :raises ArchiveError: on reading, if the point in time is after what the archive
            has, and ``live`` was not given.

        Example::

            past = archive.as_of(new_year)
            account = past.get(Account, 7)
            poor = past.select(Account).where(Account.balance < 0).all()
        """
        given = [argument for argument in (when, transaction) if argument is not None]
        point, value = point_in_time(
            given[0] if len(given) == 1 else None, is_transaction=when is None
        )

        def prepare(
            compiled: ArchiveCompiler, parameters: Sequence[Any], statement: Any
        ) -> None:
            for tracking in compiled.trackings:
                require_known(tracking, self._all_parts(), self._live, point, value)
            self._prepare(compiled, parameters, statement)

        def rows_of(tracking: Tracking) -> str:
            included = _included(point, value)
            can_be_erased = bool(tracking.options.erasable)
            views = self._views(tracking)
            return views.rows_as_of(included, with_erased=can_be_erased)

        past = ArchivedPast(
            self._engine(Past(point, value, rows_of), prepare), self._covering_row
        )
        return self._closing.enter_context(past)

    def events(
        self,
        target: Any,
        key: Any = UNSET,
        *,
        name: str = "events",
    ) -> Sequence[Any]:
        """Return the events of a row, or of all rows, oldest first.

        :param target: a tracked class or table, or an object for those of its row.
        :param key: the key of the row; a tuple if it has several columns. Left out for
            the events of all rows.
        :param name: the ``events`` option of the ``track`` that is meant.
        :return: the objects of the event class. The first context that is asked for
            brings those of all events along.
        :raises EventsError: the target is not tracked, or has another key.

        Example::

            for event in archive.events(Account, 7):
                print(event.pgh_op, event.balance, event.pgh_context)
        """
        of_target: Events[Any] = events(target, name)
        tracking: Tracking = of_target.model.pgh_tracking
        if key is not UNSET:
            of_target = of_target.of(key)
        statement = of_target.select()
        table = tracking.event_table
        with self._covering({table: statement.whereclause}):
            found = self.session.scalars(statement).all()
        if tracking.options.context == "reference":
            self._pending |= {event.pgh_context_id for event in found} - {None}
        return found

    def diffs(
        self, target: Any, key: Any = UNSET, *, name: str = "events"
    ) -> list[tuple[Any, Diff | None]]:
        """Return the events of a row, each with what changed since the one before it.

        :param target: as for :meth:`events`, and so are the others.
        :return: pairs of an event and its diff, which is None for the first event.
        :raises EventsError: as :meth:`events` does.

        Example::

            for event, changed in archive.diffs(Account, 7):
                print(event.pgh_created_at, changed)
        """
        return list(steps(self.events(target, key, name=name)))

    def changes(
        self, target: RowTarget, attribute: str | InstrumentedAttribute[Any]
    ) -> Sequence[Row[Any]]:
        """Return the changes of an attribute of a row, oldest first.

        :param target: as for ``history.changes``, and so is ``attribute``.
        :return: the rows of ``history.changes``.
        :raises EventsError: the target or the attribute is not tracked.

        Example::

            for row in archive.changes((Account, 7), "balance"):
                print(row.pgh_created_at, row.before, row.after)
        """
        return self.session.execute(changes(target, attribute)).all()

    def aggregate(
        self,
        *targets: EventTarget,
        across: Model | Sequence[Model] | set[Any] | None = None,
        references: bool | int = False,
        labels: Iterable[str] | None = None,
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
        context: Any = None,
        transaction: int | None = None,
        before: int | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> list[AggregateRow]:
        """Return events of any models in one list, as ``AggregateEvent.select`` does.

        :param targets: as for ``AggregateEvent.select``, and so are all others.
        :return: the rows.
        :raises EventsError: as ``AggregateEvent.select`` does.

        Example::

            rows = archive.aggregate(Base, transaction=event.pgh_xact_id)
        """
        sources = sources_of(targets, across, int(references))
        filters = EventFilters.of(
            labels, since, until, context, transaction, before, sources
        )
        return aggregate_rows(
            self.session,
            sources,
            filters.criteria,
            limit,
            newest_first,
            self._covering,
        )

    def context(self, id: uuid.UUID) -> Context | None:
        """Return a context by its id, None if it made no change.

        :param id: the id, as in ``pgh_context_id``.

        Example::

            archive.context(event.pgh_context_id).metadata
        """
        return self._contexts([id]).get(id)

    @functools.cached_property
    def _connection(self) -> Any:
        """The connection of DuckDB, whose tables are in memory."""
        connection = load("duckdb").connect(":memory:")
        self._closing.callback(connection.close)
        connection.execute("SET TimeZone = 'UTC'")
        # Else each statement reads the ends of all files again.
        connection.execute("SET parquet_metadata_cache = true")
        return connection

    def _engine(
        self,
        past: Past | None,
        prepare: Prepare,
    ) -> Any:
        options = {}
        if self._live is not None:
            dialect: Any = self._live.connection.dialect
            options["json_deserializer"] = dialect._json_deserializer
        return duckdb_engine(self._connection, DuckDBDialect(prepare, past, **options))

    def _archived(self, table: Table, with_open: bool) -> Any:
        schema = None
        if self._live is not None:
            schema = self._live.name_of(table).schema
        return archived_table(self._folder, table, schema, with_open)

    def _table(self, table: Table) -> ReadTable:
        """Return what is read of an event table or the context table."""
        if table not in self._tables:
            self._tables[table] = ReadTable(
                table,
                self._archived(table, self._live is None),
                self._connection,
                self._live,
                len(self._tables),
            )
        return self._tables[table]

    def _all_parts(self) -> Mapping[Table, Any]:
        tables = [t.event_table for t in self._history.trackings.values()]
        return {table: self._table(table) for table in tables}

    def _views(self, tracking: Tracking) -> EventViews:
        table = self._table(tracking.event_table)
        return EventViews(tracking, table.columns, table.name, WRITER)

    def _prepare(
        self, compiled: ArchiveCompiler, parameters: Sequence[Any], statement: Any
    ) -> None:
        """Read the live rows that a statement needs.

        What was covered for it is enough if it reads the table once. So are the rows
        that its WHERE asks for, if it reads no other table.
        """
        covered, self._covered = self._covered, {}
        contexts = self._history.shared.context_table
        if not covered and _is_of_one_key(compiled, contexts, parameters):
            wanted, self._pending = self._pending | {*parameters}, set()
            self._loaded |= self._contexts(wanted)
            covered = {contexts: 1}
        if not covered and len(compiled.read) == 1:
            (table,) = compiled.read
            if (criterion := simple_criterion(statement, table)) is not None:
                with self._covering({table: criterion}):
                    covered = self._covered
        for table in dict.fromkeys(compiled.read):
            if compiled.read.count(table) > covered.get(table, 0):
                self._table(table).load_all()

    @contextmanager
    def _covering(
        self, wanted: Mapping[Table, ColumnElement[bool] | str | None]
    ) -> Iterator[None]:
        """Read the live rows that the first statement of a block needs.

        :param wanted: the criteria of these rows, maybe as SQL; None for all.
        """
        for table, criterion in wanted.items():
            if self._live is None or criterion is None:
                continue
            sql: str | None
            if isinstance(criterion, str):
                sql = criterion
            else:
                sql = self._live.as_sql(criterion)
            if sql is not None:
                self._table(table).load_some(sql)
                self._covered[table] = 1
        try:
            yield
        finally:
            self._covered = {}

    def _covering_row(self, model: Any, key: Any) -> AbstractContextManager[None]:
        """Read the live events that say what a row was.

        An event that gave it another key has that one, so it is looked for, too.
        """
        wanted: dict[Table, ColumnElement[bool] | str | None] = {}
        with suppress(EventsError):  # as the statement reads all, or says it better
            for tracking in trackings_of(model):
                events = tracking.event_table
                values = key_values(tracking, key)
                is_of_row = and_(*have_key(tracking, events, values))
                wanted[events] = or_(is_of_row, events.c[OLD_KEY].is_not(None))
        return self._covering(wanted)

    def _contexts(self, ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Context]:
        wanted = list(ids)
        table = self._history.shared.context_table
        context_class: Any = self._history.context_class
        is_wanted = table.c.id.in_(wanted)
        with self._covering({table: is_wanted}):
            found = self.session.scalars(select(context_class).where(is_wanted))
            return {context.id: context for context in found}


class ArchivedPast(Session):
    """A session that reads tables as of a point in time; ``archive.as_of`` returns it.

    ``get``, ``scalars``, ``execute``, joins, aggregates and relationships return the
    rows of then, as in ``history.as_of``.

    Example::

        past = archive.as_of(new_year)
        past.scalar(select(func.sum(Account.balance)))
    """

    def __init__(
        self,
        engine: Any,
        covering: Callable[[Any, Any], AbstractContextManager[None]],
    ) -> None:
        super().__init__(engine, autoflush=False)
        self._covering = covering

    def get(self, entity: Any, ident: Any, **options: Any) -> Any:
        """Return an object by its key, None if there was no such row.

        :param entity: a tracked class.
        :param ident: the key; a tuple if it has several columns.
        :param options: as for ``Session.get``.

        Example::

            account = past.get(Account, 7)
        """
        with self._covering(entity, ident):
            return super().get(entity, ident, **options)

    def select(self, *entities: Any) -> Query[Any]:
        """Return a query of rows of then, with ``where``, ``order_by``, ``all`` etc.

        :param entities: classes, attributes or expressions.

        Example::

            past.select(Account).where(Account.balance < 0).all()
        """
        found: Query[Any] = self.query(*entities)
        return found


def _is_of_one_key(
    compiled: ArchiveCompiler, table: Table, parameters: Sequence[Any]
) -> bool:
    """Return whether a statement reads one row of a table by its ``id``."""
    is_by_id = compiled.string.endswith(f"{table.fullname}.id = ?")
    return compiled.read == [table] and is_by_id and len(parameters) == 1


def _included(point: PointInTime, value: str) -> str:
    """Return the criterion of events that are not after a point in time."""
    column = WRITER.quote(point.value)
    if point is PointInTime.TIME:
        return f"{column} <= {WRITER.time(value)}"
    return f"{column} <= {int(value)}"
