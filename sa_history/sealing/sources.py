"""What is sealed: event tables and the log of erasures, as a database has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Connection,
    LargeBinary,
    MetaData,
    Select,
    Table,
    TableClause,
    case,
    column,
    exists,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy import table as table_clause

from sa_history.capture.context_storage import CONTEXT_COLUMN, CONTEXT_ID_COLUMN
from sa_history.capture.event_table import PREFIX, key_columns
from sa_history.capture.partitioning import FIRST_ID, KEPT_OFFSET
from sa_history.capture.seal_tables import ERASED_COLUMN, SealTables, seal_tables_of
from sa_history.ddl.catalog import read_columns
from sa_history.ddl.elements import Statement
from sa_history.ddl.execution import schema_names
from sa_history.exc import HistoryError, SealError
from sa_history.sql.compose import Joined, Qualified, Raw, SchemaNames
from sa_history.sql.output_settings import OUTPUT_SETTINGS
from sa_history.tracking.registry import History, Tracking, history_of, trackings_in

LOCK = 0x73615F7365616C73
"""The advisory lock of who seals or erases: "sa_seals" in ASCII."""

_CANONICAL = {
    **OUTPUT_SETTINGS,
    "search_path": "pg_catalog",
    "jit": "off",
    # Drivers prepare what they send again and again. From the eleventh batch on the
    # plan would be one for any numbers, which takes half as much time again.
    "plan_cache_mode": "force_custom_plan",
}

_MANY_TIMES = 600
"""The size of salts in bytes, for each row, that there are many: some 8 of each."""

_SIZE = text("SELECT pg_relation_size(to_regclass(:relation))")

_KIND = text(
    "SELECT relkind::text FROM pg_catalog.pg_class WHERE oid = to_regclass(:relation)"
)

_HAS_GROWN = text(
    """
    SELECT pg_relation_size(oid) / current_setting('block_size')::int
           > relpages * 1.2 + 100
    FROM pg_catalog.pg_class WHERE oid = to_regclass(:relation)
    """
)
"""Whether a table has many more pages than when it was analyzed."""

_MANY = 5_000
"""From so many events on, they are joined at once and not one by one."""


_SORTED, _SORTED_AT_ONCE = 150, 1_000_000
"""The bytes that each event takes where digests are sorted, and for how many."""

AsBytes: TypeAlias = Callable[[ColumnElement[str]], ColumnElement[bytes]]
"""What makes the bytes of a text."""


def utf8(value: ColumnElement[str]) -> ColumnElement[bytes]:
    """Return the bytes of a text in UTF-8."""
    return func.convert_to(value, literal_column("'UTF8'"), type_=LargeBinary)


def _sent(value: ColumnElement[str]) -> ColumnElement[bytes]:
    return func.textsend(value, type_=LargeBinary)


@dataclass(frozen=True)
class LeafColumns:
    """The columns that the digests of some events are made of, as their seal has them.

    :param columns: all but the number of the event.
    :param erasable: those whose values can be erased.
    :param context_keys: the keys of contexts whose values can be erased.
    """

    columns: tuple[str, ...]
    erasable: tuple[str, ...]
    context_keys: tuple[str, ...]

    @property
    def stores_context(self) -> bool:
        """Whether events have their context's metadata in themselves."""
        return CONTEXT_COLUMN in self.columns

    @property
    def refers_to_contexts(self) -> bool:
        """Whether the contexts of events are rows of the context table."""
        return CONTEXT_ID_COLUMN in self.columns and not self.stores_context

    @property
    def can_be_erased(self) -> bool:
        """Whether a column of an event has something that can be erased."""
        return bool(self.erasable) or (self.stores_context and bool(self.context_keys))


@dataclass(frozen=True, eq=False)
class SealedTable:
    """A table whose rows are sealed by their numbers.

    :param name: its name in seals, with the schema that the models give it.
    :param table: the table.
    :param id: the name of the column of the number.
    :param tracking: the tracking whose events it has; None for the log of erasures.
    """

    name: str
    table: Table
    id: str
    tracking: Tracking | None

    @classmethod
    def of(cls, tracking: Tracking) -> SealedTable:
        """Return the event table of a tracking, as it is sealed."""
        return cls(
            tracking.event_table.fullname, tracking.event_table, "pgh_id", tracking
        )

    def number(self, number: ColumnElement[int]) -> ColumnElement[int]:
        """Return the number that a row was sealed with.

        That of an event which is kept when others are removed was lowered.

        :param number: the number that it has now.
        """
        if not self.keeps_events:
            return number
        return case((number < FIRST_ID, number + KEPT_OFFSET), else_=number)

    @property
    def keeps_events(self) -> bool:
        """True if events may be kept under lower numbers when others are removed."""
        return self.tracking is not None and (
            self.tracking.options.partition_by is not None
        )

    @property
    def key(self) -> tuple[str, ...]:
        """The names of the columns that have the key of an event's row."""
        if self.tracking is None:
            return ()
        keys = key_columns(self.tracking.tracked_columns, self.tracking.event_table)
        return tuple(key.name for key in keys)


@dataclass(frozen=True, eq=False)
class Ledger:
    """The seals of a MetaData in a database.

    :param connection: the connection to the database.
    :param history: the history of the MetaData.
    :param tables: the tables of its seals.
    :param schemas: gives the name in the database of a schema of the models.
    """

    connection: Connection
    history: History
    tables: SealTables
    schemas: SchemaNames
    _columns: dict[Qualified, set[str]] = field(
        default_factory=dict, init=False, repr=False
    )

    @property
    def name(self) -> str:
        """The name of the table of seals, by which digests name the chain."""
        return self.tables.seal.fullname

    def on(self, connection: Connection) -> Ledger:
        """Return the seals by another connection, which reads its columns anew."""
        return Ledger(connection, self.history, self.tables, self.schemas)

    def has_kept(self, sealed: SealedTable, first_id: int) -> bool:
        """Return whether events are kept that had a number from this one on."""
        if not sealed.keeps_events:
            return False
        number = self.place(sealed.table, [sealed.id]).c[sealed.id]
        is_kept = number.between(first_id - KEPT_OFFSET, FIRST_ID - 1)
        return bool(self.connection.scalar(select(exists().where(is_kept))))

    def place(self, table: Table, names: Iterable[str] | None = None) -> Any:
        """Return a table with its schema, to be read under any ``search_path``.

        :param names: the columns that the statement names; those of the model, if None.
        """
        return self.place_own(table, names)

    def place_own(
        self, table: Table, names: Iterable[str] | None = None
    ) -> TableClause:
        """Return a table of the database alone, as :meth:`place` does."""
        known = {c.name: column(c.name, c.type) for c in table.columns}
        wanted = known if names is None else dict.fromkeys(names)
        columns = [known.get(name, column(name)) for name in wanted]
        return table_clause(table.name, *columns, schema=self.schemas(table.schema))

    def sealed_tables(self) -> list[SealedTable]:
        """Return the tables that are sealed, the log of erasures after the events."""
        erasure = self.tables.erasure
        return [
            *(
                SealedTable.of(t)
                for t in trackings_in(self.history.metadata)
                if t.options.sealed
            ),
            SealedTable(erasure.fullname, erasure, "id", None),
        ]

    def context_keys(self) -> tuple[str, ...]:
        """Return the keys that can be erased of contexts, of all trackings."""
        keys = (t.options.erasable_context for t in trackings_in(self.history.metadata))
        return tuple(sorted({key for some in keys for key in some}))

    def columns_in_database(self, table: Table) -> set[str]:
        """Return the names of the columns that a table has, none if there is no table.

        These may be more than the models have: events keep columns that were dropped.
        """
        name = Qualified.of(table, self.schemas)
        if name not in self._columns:
            self.read_columns([table])
        return self._columns[name]

    def read_columns(self, tables: Iterable[Table]) -> None:
        """Read the columns of tables for :meth:`columns_in_database`, all at once."""
        names = [Qualified.of(table, self.schemas) for table in tables]
        found = read_columns(
            self.connection,
            {str(name.schema) for name in names},
            [name.name for name in names],
        )
        self._columns.update({name: found.get(name, set()) for name in names})

    def leaf_columns(self, sealed: SealedTable) -> LeafColumns:
        """Return the columns that the digests of new seals are made of."""
        known = [c.name for c in sealed.table.columns]
        more = self.columns_in_database(sealed.table).difference(known)
        columns = [
            *(n for n in known if n not in (sealed.id, ERASED_COLUMN)),
            *sorted(name for name in more if not name.startswith(PREFIX)),
        ]
        if sealed.tracking is None:
            return LeafColumns(tuple(columns), (), ())
        return LeafColumns(
            tuple(columns),
            erasable_columns(sealed.tracking),
            self.context_keys(),
        )

    def kind_of(self, table: Table) -> str | None:
        """Return the kind of a relation by ``pg_class.relkind``, None if it is gone."""
        name = Qualified.of(table, self.schemas).render(str)
        kind: str | None = self.connection.scalar(_KIND, {"relation": name})
        return kind

    def has_many_salts(self, rows: int) -> bool:
        """Return whether there are many more salts than rows that salts are wanted of.

        To look up the salt of each row takes less time then than to read all salts.
        """
        size = self.connection.scalar(_SIZE, {"relation": self._salts().render(str)})
        return (size or 0) > rows * _MANY_TIMES

    def analyze_salts(self) -> None:
        """Have PostgreSQL know how many salts there are, if many were added.

        It soon would by itself, but joins them in a slow way until then. Of a role that
        may not analyze the table the statement does nothing.
        """
        name = self._salts()
        if self.connection.scalar(_HAS_GROWN, {"relation": name.render(str)}):
            self.connection.execute(Statement(Joined((Raw("ANALYZE "), name))))

    def _salts(self) -> Qualified:
        salt = self.tables.salt
        return Qualified.of(salt, self.schemas)

    def bytes_of_text(self) -> AsBytes:
        """Return what makes the bytes of a text in UTF-8, for a great many texts."""
        encoding = self.connection.scalar(
            select(func.current_setting("client_encoding"))
        )
        # It sends the text in the encoding of the client, and does not look up that of
        # its argument for each row.
        return _sent if encoding == "UTF8" else utf8

    def wait_for_turn(self) -> None:
        """Wait until nobody else seals or erases; the transaction's end lets others."""
        wait_for_erasures(self.connection)


class ArchivedHistory(Protocol):
    """The part of history that is in an archive, as an erasure reads it."""

    def ledger(self, ledger: Ledger) -> Ledger:
        """Return a ledger that sees what is loaded of the archive.

        :param ledger: one that sees the database alone.
        """

    def load_events(self, tracking: Tracking, keys: Sequence[tuple[Any, ...]]) -> None:
        """Load the events of objects, and those that changed a key.

        :param keys: the keys of the objects.
        """

    def load_contexts(self, ids: Sequence[Any]) -> None:
        """Load contexts by their ids, and those that are nested in them."""


def wait_for_erasures(connection: Connection) -> None:
    """Wait until nobody seals or erases; the transaction's end lets others do so."""
    connection.execute(select(func.pg_advisory_xact_lock(LOCK)))


def erasable_columns(tracking: Tracking) -> tuple[str, ...]:
    """Return the names of the columns whose values are erased, but inline contexts."""
    columns, options = tracking.tracked_columns, tracking.options
    return (
        *(columns.column_name(name) for name in options.erasable),
        *(
            c.name
            for c in options.context_columns
            if c.name in options.erasable_context
        ),
    )


def ledger_of(
    connection: Connection, metadata: MetaData, error: type[HistoryError] = SealError
) -> Ledger:
    """Return the seals of a MetaData in a database.

    :param error: the class of the errors.
    :raises HistoryError: of that class: no model asks for seals, or the database does
        not have their tables yet.
    """
    history, tables = history_of(metadata), seal_tables_of(metadata)
    if history is None or tables is None:
        raise error(
            "no model asks for seals; give track(..., sealed=True) to those whose "
            "events are to be sealed, and migrate"
        )
    # Before settings for digests are made, which hide it.
    schemas = schema_names(connection)
    ledger = Ledger(connection, history, tables, schemas)
    sealed = [each.table for each in ledger.sealed_tables()]
    ledger.read_columns(dict.fromkeys([*tables.all(), *sealed]))
    for table in tables.all():
        if not ledger.columns_in_database(table):
            raise error(
                f"the database has no table {table.fullname}; run the migrations, or "
                "create_all()"
            )
    return ledger


@contextmanager
def canonical_settings(connection: Connection, events: int = 0) -> Iterator[None]:
    """Have values written as text in one way, whatever the session's settings are.

    :param events: how many events are read. Salts that were just added have no
        statistics, by which PostgreSQL would know that there are many.
    :raises SealError: the connection is in AUTOCOMMIT, where settings do not last.
    """
    plans = {}
    if has_plans_of_its_own(events):
        plans = {"enable_nestloop": "off", "work_mem": _memory(connection, events)}
    before = _set(connection, {**_CANONICAL, **plans})
    if before is None:
        raise SealError(
            "the connection is in AUTOCOMMIT, where the settings that digests need do "
            "not last; give an engine, or begin a transaction"
        )
    # After an error the transaction, or its savepoint, takes the settings back.
    yield
    connection.execute(_setting(before))


def has_plans_of_its_own(events: int) -> bool:
    """Return whether :func:`canonical_settings` of so many events has more settings."""
    return events > _MANY


def _memory(connection: Connection, events: int) -> str:
    """Return the memory for sorts and joins: that of maintenance at least.

    :param events: how many are sorted by their numbers; in a file this would take a
        tenth of all the time. Of very large seals they are.
    """
    names = "work_mem", "maintenance_work_mem"
    sizes = (func.pg_size_bytes(func.current_setting(name)) for name in names)
    size = connection.scalar(select(func.greatest(*sizes))) or 0
    return f"{max(size, min(events, _SORTED_AT_ONCE) * _SORTED) // 1024}kB"


def _set(connection: Connection, settings: dict[str, str]) -> dict[str, str] | None:
    """Set settings for the transaction, and return what they were.

    :return: None if they did not last until the next statement.
    """
    names = list(settings)
    read = select(*(func.current_setting(name) for name in names))
    before = connection.execute(read).one()
    connection.execute(_setting(settings))
    lasts = connection.scalar(select(func.current_setting("search_path")))
    if lasts != settings["search_path"]:
        return None
    return dict(zip(names, before, strict=True))


def _setting(settings: dict[str, str]) -> Select[Any]:
    """Return the SELECT that sets settings for the transaction."""
    return select(*(func.set_config(n, value, True) for n, value in settings.items()))
