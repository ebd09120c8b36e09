"""What an archive is read by: sessions of SQLAlchemy, whose statements DuckDB runs.

Before a statement runs, the live rows that it needs are read.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractContextManager,
    ExitStack,
    contextmanager,
    suppress,
)
from typing import Any

from sqlalchemy import ColumnElement, Engine, Table, and_, or_, select
from sqlalchemy.orm import Session

from sa_history.archiving.duckdb_compiler import ArchiveCompiler, Past
from sa_history.archiving.duckdb_dialect import (
    DuckDBDialect,
    Prepare,
    duckdb_engine,
)
from sa_history.archiving.folder import ArchiveFolder
from sa_history.archiving.known_times import require_known
from sa_history.archiving.live_part import LivePart, LiveRows, simple_criterion
from sa_history.archiving.packages import load
from sa_history.archiving.read_tables import WRITER, ReadTable, archived_table
from sa_history.archiving.views import ArchivedTable, EventViews
from sa_history.capture.event_table import OLD_KEY
from sa_history.exc import EventsError
from sa_history.query.as_of_rows import PointInTime
from sa_history.tracking.context_class import Context
from sa_history.tracking.event_keys import have_key
from sa_history.tracking.events import key_values, trackings_of
from sa_history.tracking.registry import History, Tracking


class ArchiveReader:
    """Reads the event tables and the contexts, archived and live ones together.

    :param folder: the archive.
    :param history: the models.
    :param live: the part that is not archived; None to read the archive alone.
    """

    def __init__(
        self, folder: ArchiveFolder, history: History, live: LiveRows | None
    ) -> None:
        self.history = history
        self.live = live
        self.folder = folder
        self._closing = ExitStack()
        if live is not None:
            self._closing.callback(live.close)
        self._tables: dict[Table, ReadTable] = {}
        self._covered: dict[Table, int] = {}
        # Of events that were read; the first one that is asked for brings all along.
        self._pending: set[uuid.UUID] = set()
        self._loaded: dict[uuid.UUID, Context] = {}

    def close(self) -> None:
        """Close the connections; objects that were read are detached."""
        self._closing.close()

    def archived(self, table: Table, *, with_open: bool) -> ArchivedTable | None:
        """Return the files of a table; None if the archive has none.

        :param with_open: whether to read the part that was not closed, too.
        """
        schema = None if self.live is None else self.live.name_of(table).schema
        return archived_table(self.folder, table, schema, with_open)

    def table(self, table: Table) -> ReadTable:
        """Return what is read of an event table or the context table."""
        if table not in self._tables:
            self._tables[table] = ReadTable(
                self.folder,
                table,
                self.archived(table, with_open=self.live is None),
                self._connection,
                self.live,
                len(self._tables),
            )
        return self._tables[table]

    @functools.cached_property
    def session(self) -> Session:
        """A session that reads the event tables and the contexts."""
        return self._closing.enter_context(
            Session(self._engine(None, self._prepare), autoflush=False)
        )

    def past_session(
        self,
        point: PointInTime,
        value: str,
        make: Callable[[Engine], Session],
    ) -> Session:
        """Return a session that reads tables as of a point in time.

        :param value: the point in time, as text.
        :param make: makes a session for an engine.
        """

        def prepare(
            compiled: ArchiveCompiler, parameters: Sequence[Any], statement: Any
        ) -> None:
            tables = {
                tracking.event_table: self.table(tracking.event_table)
                for tracking in self.history.trackings.values()
            }
            live = self.live
            assert live is None or isinstance(live, LivePart)  # lists ask for no past
            for tracking in compiled.trackings:
                require_known(tracking, tables, live, point, value)
            self._prepare(compiled, parameters, statement)

        def rows_of(tracking: Tracking) -> str:
            table = self.table(tracking.event_table)
            views = EventViews(tracking, table.columns, table.name, WRITER)
            can_be_erased = bool(tracking.options.erasable)
            included = _included(point, value)
            return views.rows_as_of(included, with_erased=can_be_erased)

        engine = self._engine(Past(point, value, rows_of), prepare)
        return self._closing.enter_context(make(engine))

    @contextmanager
    def covering(
        self, wanted: Mapping[Table, ColumnElement[bool] | str | None]
    ) -> Iterator[None]:
        """Read the live rows that the first statement of a block needs.

        :param wanted: the criteria of these rows, maybe as SQL; None for all.
        """
        for table, criterion in wanted.items():
            if self.live is None or criterion is None:
                continue
            sql: str | None
            if isinstance(criterion, str):
                sql = criterion
            else:
                sql = self.live.as_sql(criterion)
            if sql is not None:
                self.table(table).load_some(sql)
                self._covered[table] = 1
        try:
            yield
        finally:
            self._covered = {}

    def covering_row(self, model: Any, key: Any) -> AbstractContextManager[None]:
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
        return self.covering(wanted)

    def contexts(self, ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Context]:
        """Return contexts by their ids, those that there are."""
        wanted = list(ids)
        table = self.history.shared.context_table
        context_class: Any = self.history.context_class
        is_wanted = table.c.id.in_(wanted)
        with self.covering({table: is_wanted}):
            found = self.session.scalars(select(context_class).where(is_wanted))
            return {context.id: context for context in found}

    def expect_contexts(self, ids: Iterable[uuid.UUID]) -> None:
        """Read these contexts, too, when one is read by its id."""
        self._pending |= {*ids}

    @functools.cached_property
    def _connection(self) -> Any:
        """The connection of DuckDB, whose tables are in memory."""
        connection = load("duckdb").connect(":memory:")
        self._closing.callback(connection.close)
        connection.execute("SET TimeZone = 'UTC'")
        # As PostgreSQL has it: NULL is the largest, and 7 / 2 is 3.
        order = "nulls_last_on_asc_first_on_desc"
        connection.execute(f"SET default_null_order = '{order}'")
        connection.execute("SET integer_division = true")
        # Else each statement reads the ends of all files again.
        connection.execute("SET parquet_metadata_cache = true")
        return connection

    def _engine(self, past: Past | None, prepare: Prepare) -> Engine:
        options = {}
        if self.live is not None:
            options["json_deserializer"] = self.live.json_deserializer
        return duckdb_engine(self._connection, DuckDBDialect(prepare, past, **options))

    def _prepare(
        self, compiled: ArchiveCompiler, parameters: Sequence[Any], statement: Any
    ) -> None:
        """Read the live rows that a statement needs.

        What was covered for it is enough if it reads the table once. So are the rows
        that its WHERE asks for, if it reads no other table.
        """
        covered, self._covered = self._covered, {}
        contexts = self.history.shared.context_table
        if not covered and _is_of_one_key(compiled, contexts, parameters):
            wanted, self._pending = self._pending | {*parameters}, set()
            self._loaded |= self.contexts(wanted)
            covered = {contexts: 1}
        if not covered and len(compiled.read) == 1:
            (table,) = compiled.read
            if (criterion := simple_criterion(statement, table)) is not None:
                with self.covering({table: criterion}):
                    covered = self._covered
        for table in dict.fromkeys(compiled.read):
            if compiled.read.count(table) > covered.get(table, 0):
                self.table(table).load_all()


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
