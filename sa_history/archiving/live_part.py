"""The part of a history that is still in the database, as one transaction sees it.

What the archive has is left out, so that each event is read once. All of a table comes
by ADBC, and the rows of one object by the connection of the engine, which is faster for
few; both see the same snapshot.
"""

from __future__ import annotations

import datetime
import functools
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Engine,
    Integer,
    Table,
    func,
    select,
)
from sqlalchemy.exc import CompileError
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import (
    BinaryExpression,
    BindParameter,
    BooleanClauseList,
    Grouping,
)
from sqlalchemy.sql.util import find_tables
from sqlalchemy.sql.visitors import iterate

from sa_history.archiving.carriers import (
    CarriedColumn,
    arrow_schema,
    read_columns,
    select_rows,
)
from sa_history.archiving.manifest import ArchivedPart
from sa_history.archiving.packages import load
from sa_history.archiving.source import RowSource, open_source
from sa_history.capture.archive_table import archive_table_of
from sa_history.capture.partitioning import CONTEXT_KEY, FIRST_ID, KEPT_OFFSET, KEY
from sa_history.ddl.execution import may_read, schema_names
from sa_history.exc import ArchiveError
from sa_history.sql.column_types import holds_json
from sa_history.sql.compose import (
    Fragment,
    Ident,
    Literal,
    Qualified,
    Raw,
    SchemaNames,
    join,
)
from sa_history.sql.expressions import expression_sql
from sa_history.sql.output_settings import OUTPUT_SETTINGS
from sa_history.sql.session_settings import READ_ONLY
from sa_history.util.sessions import is_async

_SNAPSHOT = "ISOLATION LEVEL REPEATABLE READ, READ ONLY"


class RecordedPart(NamedTuple):
    """A partition that the database says is in an archive.

    :param path: its file, from the folder of the table.
    :param sha256: the digest of the file.
    :param folder: the archive.
    :param is_dropped: True if only the archive has it.
    """

    path: str
    sha256: str
    folder: str
    is_dropped: bool


def read_recorded(
    connection: Connection,
    tables: Sequence[Table],
    name_of: Callable[[Table], Qualified],
) -> dict[Table, list[RecordedPart]] | None:
    """Read the partitions of tables that were archived.

    :param tables: those of one MetaData.
    :param name_of: returns the name of a table with its schema in the database.
    :return: None if the user may not read what was archived.
    """
    archived = archive_table_of(tables[0].metadata)
    if archived is None or not may_read(connection, name_of(archived)):
        return None
    rows = archived.c
    is_dropped = rows.dropped_at.is_not(None)
    by_name = {name_of(table).dotted: table for table in tables}
    statement = select(
        rows.table_name, rows.path, rows.sha256, rows.folder, is_dropped
    ).where(rows.table_name.in_([*by_name]))
    found: dict[Table, list[RecordedPart]] = {table: [] for table in tables}
    for table_name, *part in connection.execute(statement):
        found[by_name[table_name]].append(RecordedPart(*part))
    return found


class LiveRows(Protocol):
    """What is read beside the files of an archive."""

    @property
    def json_deserializer(self) -> Any:
        """What makes JSON objects of Python; None for Python's own."""

    def close(self) -> None:
        """Read no more."""

    def name_of(self, table: Table) -> Qualified:
        """Return the name of a table with its schema in the database."""

    def recorded(self, table: Table) -> list[RecordedPart] | None:
        """Return the partitions of a table that were archived; None if not known."""

    def columns(self, table: Table) -> list[CarriedColumn]:
        """Return the columns of a table, none if it has no rows here."""

    def all_rows(self, table: Table, parts: Sequence[ArchivedPart]) -> Any:
        """Return the rows of a table that are in no part of an archive, as Arrow."""

    def some_rows(
        self, table: Table, parts: Sequence[ArchivedPart], wanted: str
    ) -> Any:
        """Return at least those of the rows that meet a criterion, as Arrow.

        :param wanted: what :meth:`as_sql` returns.
        """

    def as_sql(self, criterion: ColumnElement[bool]) -> str | None:
        """Return a criterion as SQL; None to be asked for all rows."""


class LivePart:
    """A transaction that reads what is not archived.

    :param engine: the database.
    :raises ArchiveError: it is no engine, or an async one.
    """

    def __init__(self, engine: Any) -> None:
        if is_async(engine) or not isinstance(engine, Engine):
            raise ArchiveError(
                f"archived takes an engine as live, got {engine!r}; give a sync one, "
                "as create_engine(...) returns"
            )
        self.engine = engine
        self._closing = ExitStack()
        connection = self._closing.enter_context(engine.connect())
        self.connection = connection.execution_options(
            isolation_level="REPEATABLE READ"
        )
        self._columns: dict[Table, list[CarriedColumn]] = {}
        self._source: RowSource | None = None
        settings = [
            func.set_config(name, value, True)
            for name, value in (*OUTPUT_SETTINGS.items(), READ_ONLY)
        ]
        self.connection.execute(select(*settings))

    @property
    def json_deserializer(self) -> Any:
        """What makes JSON objects of Python; None for Python's own."""
        dialect: Any = self.connection.dialect
        return dialect._json_deserializer

    def close(self) -> None:
        """End the transaction."""
        self._closing.close()

    def name_of(self, table: Table) -> Qualified:
        """Return the name of a table with its schema in the database."""
        return Qualified.of(table, self._schemas)

    @functools.cached_property
    def _schemas(self) -> SchemaNames:
        return schema_names(self.connection)

    def recorded(self, table: Table) -> list[RecordedPart] | None:
        """Return the partitions of a table that were archived.

        :return: None if the user may not read what was archived.
        """
        found = read_recorded(self.connection, [table], self.name_of)
        return None if found is None else found[table]

    def columns(self, table: Table) -> list[CarriedColumn]:
        """Return the columns of a table, none if there is no such table."""
        if table not in self._columns:
            found = read_columns(self.connection, self.name_of(table))
            self._columns[table] = found
        return self._columns[table]

    def all_rows(self, table: Table, parts: Sequence[ArchivedPart]) -> Any:
        """Return the rows of a table that are in no part of an archive, as Arrow."""
        schema = arrow_schema([c.column for c in self.columns(table)])
        query = self._query(table, _not_in(table, parts))
        if self._source is None:
            self._source = self._closing.enter_context(open_source(self.engine))
            snapshot = self.connection.scalar(select(func.pg_export_snapshot()))
            self._source.execute(f"SET TRANSACTION {_SNAPSHOT}")
            self._source.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
        batches = self._source.batches(query, schema)
        return load("pyarrow").Table.from_batches(batches, schema=schema)

    def some_rows(
        self, table: Table, parts: Sequence[ArchivedPart], wanted: str
    ) -> Any:
        """Return those of the rows that meet a criterion, as Arrow.

        :param wanted: the criterion as SQL.
        """
        pa = load("pyarrow")
        columns = self.columns(table)
        schema = arrow_schema([c.column for c in columns])
        query = self._query(table, [*_not_in(table, parts), Raw(f"({wanted})")])
        # By the driver's cursor, as SQLAlchemy would look for parameters in the text.
        cursor = self.connection.connection.cursor()
        try:
            cursor.execute(query)
            rows = cursor.fetchall()
        except self.connection.dialect.loaded_dbapi.Error as error:
            raise ArchiveError(f"PostgreSQL cannot be read: {error}") from error
        finally:
            cursor.close()
        values = zip(*rows, strict=True) if rows else ([] for _ in schema)
        arrays = [
            pa.array(map(_as_arrow(pa, field.type), column), type=field.type)
            for field, column in zip(schema, values, strict=True)
        ]
        return pa.Table.from_arrays(arrays, schema=schema)

    def as_sql(self, criterion: ColumnElement[bool]) -> str | None:
        """Return a criterion as SQL.

        :param criterion: of a table, which is named without an alias.
        :return: None if it asks other rows, some of which are in the archive, or if its
            values cannot be written as text.
        """
        others = find_tables(criterion, check_columns=False, include_selects=True)
        is_translated = (
            "schema_translate_map" in self.connection.get_execution_options()
        )
        # PostgreSQL cannot compare json, which DuckDB has as text.
        has_json = any(
            isinstance(element, BindParameter) and holds_json(element.type)
            for element in iterate(criterion)
        )
        is_plain = not has_json and all(map(_is_plain, _values_in(criterion)))
        if others or is_translated or not is_plain:
            return None
        try:
            return expression_sql(criterion)
        except (CompileError, NotImplementedError):
            return None

    def _query(self, table: Table, criteria: Sequence[Fragment]) -> str:
        where = join(" AND ", criteria) if criteria else None
        key = CONTEXT_KEY if KEY not in table.c else KEY
        name = self.name_of(table)
        return select_rows(self.columns(table), name, [key], where).render(str)


def simple_criterion(statement: Any, table: Table) -> ColumnElement[bool] | None:
    """Return the WHERE of a statement, if PostgreSQL finds all that DuckDB would.

    :param statement: reads the table alone.
    :return: None if there is none, or if it may mean something else to PostgreSQL, or
        has values that are only given when it is executed.
    """
    where: ColumnElement[bool] | None = getattr(statement, "whereclause", None)
    return where if where is not None and _is_simple(where, table) else None


def _is_simple(element: Any, table: Table) -> bool:
    if isinstance(element, BooleanClauseList):
        return all(_is_simple(clause, table) for clause in element.clauses)
    if isinstance(element, Grouping):
        return _is_simple(element.element, table)
    if not isinstance(element, BinaryExpression):
        return False
    column, value = element.left, element.right
    if not isinstance(column, Column) or column.table != table:
        return False
    is_compared = isinstance(column.type, _ORDERED) and element.operator in _COMPARISONS
    if not is_compared and element.operator not in (operators.eq, operators.in_op):
        return False
    return isinstance(value, BindParameter) and _is_given(value)


def _is_given(value: BindParameter[Any]) -> bool:
    """Return whether a parameter has its value from the beginning."""
    found = value.effective_value
    values = found if isinstance(found, (list, tuple)) else [found]
    return value.unique and not value.required and None not in values


_ORDERED = (Integer, DateTime)
"""The types that PostgreSQL and DuckDB sort alike."""

_COMPARISONS = (operators.lt, operators.le, operators.gt, operators.ge)

_PLAIN = (bool, int, float, str, Decimal, uuid.UUID, datetime.date)


def _values_in(criterion: ColumnElement[bool]) -> Iterator[Any]:
    """Yield the values of a criterion."""
    for element in iterate(criterion):
        if isinstance(element, BindParameter):
            value = element.effective_value
            yield from value if isinstance(value, (list, tuple)) else [value]


def _is_plain(value: Any) -> bool:
    """Return whether SQLAlchemy writes a value as PostgreSQL reads it.

    Bytes it writes as text.
    """
    parts = value if isinstance(value, tuple) else [value]
    return all(part is None or isinstance(part, _PLAIN) for part in parts)


def _as_arrow(pa: Any, type_: Any) -> Any:
    """Return the function that makes what pyarrow takes of what a driver returns."""

    def convert(value: Any) -> Any:
        if value is None:
            return None
        if pa.types.is_decimal(type_):
            return Decimal(value)
        return bytes(value) if pa.types.is_binary(type_) else value

    return convert


def _not_in(table: Table, parts: Sequence[ArchivedPart]) -> list[Fragment]:
    """Return the criteria of rows that are in no part."""
    if KEY in table.c:
        return [_in_gaps(parts)] if parts else []
    return [_not_between(part) for part in parts]


def _in_gaps(parts: Sequence[ArchivedPart]) -> Fragment:
    """Return the criterion of events that are not archived.

    An event that was kept when others were removed has a lower number than it had, and
    is another copy of one that was archived, if that one was.
    """
    ranges: list[tuple[int, int | None]] = []
    for first, last in gaps(parts):
        end_of_kept = 0 if last is None else last - KEPT_OFFSET
        ranges += [(first, last), (first - KEPT_OFFSET, end_of_kept)]
    found = [join(" AND ", _between(*bounds)) for bounds in ranges]
    return Raw("(") + join(" OR ", found) + Raw(")")


def gaps(parts: Iterable[ArchivedPart]) -> Iterator[tuple[int, int | None]]:
    """Yield the numbers of events that no part has: a first one and the end, if any.

    :param parts: in the order of their bounds.
    """
    reached = FIRST_ID
    for part in parts:
        lower = int(part.lower or FIRST_ID)
        if lower > reached:
            yield reached, lower
        reached = max(reached, int(part.upper or reached))
    yield reached, None


def _between(lower: int, upper: int | None) -> list[Fragment]:
    key = Ident(KEY)
    found = [key + Raw(f" >= {lower}")]
    return found if upper is None else [*found, key + Raw(f" < {upper}")]


def _not_between(part: ArchivedPart) -> Fragment:
    key, uuid = Ident(CONTEXT_KEY), Raw("::uuid")
    assert part.upper is not None  # else it is open, and no partition
    bounds = [key + Raw(" >= ") + Literal(part.upper) + uuid]
    if part.lower is not None:
        bounds.append(key + Raw(" < ") + Literal(part.lower) + uuid)
    return Raw("(") + join(" OR ", bounds) + Raw(")")
