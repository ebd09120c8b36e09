"""Rows of an archive beside those of the database, as seals and erasures read them.

Rows of files become temporary tables, in which PostgreSQL computes the digests that it
computes of its own rows. A :class:`LedgerWithArchive` has both in one.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    Connection,
    Index,
    MetaData,
    Table,
    Uuid,
    and_,
    column,
    literal,
    not_,
    null,
    or_,
    select,
    text,
    true,
    union_all,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy import table as table_clause
from sqlalchemy.schema import Column, CreateIndex

from sa_history.archiving.folder import ArchiveFolder
from sa_history.archiving.loading import copy_rows
from sa_history.archiving.manifest import (
    ArchivedColumn,
    ArchivedPart,
    Manifest,
    folder_of,
)
from sa_history.archiving.part_files import read_rows
from sa_history.capture.partitioning import FIRST_ID, KEPT_OFFSET
from sa_history.ddl.elements import Statement
from sa_history.ddl.partitions import drop_table
from sa_history.exc import ArchiveError
from sa_history.sealing.sources import Ledger, canonical_settings
from sa_history.sql.compose import Ident, Joined, Qualified, Raw, join

TEMPORARY = "pg_temp"
"""The schema of temporary tables."""

_TYPES = text(
    """
    SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type
    FROM pg_catalog.pg_attribute AS a
    JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = :schema AND c.relname = :table
      AND a.attnum > 0 AND NOT a.attisdropped
    """
)
"""The columns of a table and their types, with schemas where settings hide these."""

_CARRIED = {
    "int16": "smallint",
    "int32": "integer",
    "int64": "bigint",
    "bool": "boolean",
    "float": "real",
    "double": "double precision",
    "binary": "bytea",
    "date32[day]": "date",
    "timestamp[us]": "timestamp",
    "timestamp[us, tz=UTC]": "timestamptz",
}
"""The types of columns that the table has no more; others are text, or numbers."""


@dataclass(frozen=True, eq=False)
class LoadedTable:
    """A table of an archive, of which some parts are loaded.

    :param connection: the connection to the database.
    :param folder: the archive.
    :param manifest: that of the table.
    :param table: the table, as the models have it.
    :param name: with its schema in the database.
    :param types: the types of the columns that the database has, by their names.
    :param with_kept: True to have all rows of the database but those that are loaded,
        under whatever number; False for no row of a part of which some are loaded, and
        no event that was kept when others were removed.
    """

    connection: Connection
    folder: ArchiveFolder
    manifest: Manifest
    table: Table
    name: Qualified
    types: Mapping[str, str]
    with_kept: bool
    loaded: dict[str, str] = field(default_factory=dict)
    """The temporary tables, by the paths of the parts that they have."""

    @property
    def key(self) -> str:
        """The name of the column by which it is partitioned."""
        return self.manifest.key

    @property
    def columns(self) -> dict[str, str]:
        """The types of the columns of the database and the archive, by their names."""
        more = {c.name: _type_of(c) for c in self.manifest.columns}
        return {**more, **self.types}

    def load(
        self, part: ArchivedPart, keep: Callable[[Any], Any] = lambda batch: batch
    ) -> None:
        """Load a part, unless it is loaded.

        :param keep: is given rows as a RecordBatch, and returns those to load.
        :raises ArchiveError: the file cannot be read.
        """
        if part.path in self.loaded:
            return
        name = f"sa_history_{uuid.uuid4().hex}"
        columns = self.columns
        create = Joined(
            (
                Raw("CREATE TEMPORARY TABLE "),
                Ident(name),
                Raw(" ("),
                join(
                    ", ",
                    (Ident(n) + Raw(f" {type_}") for n, type_ in columns.items()),
                ),
                Raw(") ON COMMIT DROP"),
            )
        )
        error_class = self.connection.dialect.loaded_dbapi.Error
        placed = Qualified(TEMPORARY, name)
        try:
            with (
                self.connection.begin_nested(),
                canonical_settings(self.connection),
                self.folder.open_file(self.manifest.path(part)) as file,
            ):
                self.connection.execute(Statement(create, TEMPORARY))
                rows = map(keep, read_rows(file))
                copy_rows(self.connection, placed, part.columns, rows)
                key: Column[Any] = Column(self.key)
                Table(name, MetaData(), key, schema=TEMPORARY)
                self.connection.execute(CreateIndex(Index(None, key)))
                analyze = Joined((Raw("ANALYZE "), placed))
                self.connection.execute(Statement(analyze, TEMPORARY))
        except (ValueError, OSError, TypeError, AttributeError, error_class) as error:
            raise ArchiveError(
                f"{self.folder.path(self.manifest.path(part))} cannot be read: "
                f"{error}; restore it from a backup"
            ) from error
        self.loaded[part.path] = name

    def forget(self, parts: Iterable[ArchivedPart]) -> None:
        """Drop the rows of parts that were loaded."""
        for part in parts:
            name = self.loaded.pop(part.path, None)
            if name is not None:
                drop = drop_table(Qualified(TEMPORARY, name))
                self.connection.execute(Statement(drop, TEMPORARY))

    def beside(self, placed: Any, names: Iterable[str]) -> Any:
        """Return the rows of the table, with those of the parts that are loaded.

        :param placed: the table in the database.
        :param names: the columns to have.
        """
        names = dict.fromkeys([*names, self.key])
        types = {c.name: c.type for c in placed.columns}
        own = select(
            *(
                placed.c[name].label(name)
                if name in self.types
                else sql_cast(null(), types[name]).label(name)
                for name in names
            )
        ).where(self._is_not_archived(placed.c[self.key]))
        loaded = []
        for name in self.loaded.values():
            columns = [column(known, types[known]) for known in names]
            rows = table_clause(name, *columns, schema=TEMPORARY)
            loaded.append(select(*rows.columns))
        return union_all(own, *loaded).subquery(self.table.name)

    def _is_not_archived(self, key: Any) -> Any:
        """Return whether a row of the database is none that the archive has.

        A kept event has the number that it has in the archive, lowered.
        """
        if self.with_kept:
            return and_(
                true(), *(~self._is_in(key, name) for name in self.loaded.values())
            )
        parts = [p for p in self.manifest.parts if p.path in self.loaded]
        if not self.manifest.has_contexts:
            bounds = map(numbers_of, parts)
            kept = -(1 << 63), FIRST_ID - 1
            return not_(or_(*(key.between(*ends) for ends in (*bounds, kept))))
        ids = (
            and_(
                true(),
                *([] if p.lower is None else [key >= _uuid(p.lower)]),
                *([] if p.upper is None else [key < _uuid(p.upper)]),
            )
            for p in parts
        )
        return not_(or_(*ids))

    def _is_in(self, key: Any, name: str) -> Any:
        """Return whether a row is one of a temporary table."""
        known = column(self.key, key.type)
        rows = select(known).select_from(table_clause(name, known, schema=TEMPORARY))
        is_in = key.in_(rows)
        if self.manifest.has_contexts:
            return is_in
        return or_(is_in, (key + KEPT_OFFSET).in_(rows))


def numbers_of(part: ArchivedPart) -> tuple[int, int]:
    """Return the first and the last number that an archived partition is for."""
    return int(part.lower or FIRST_ID), int(part.upper or 0) - 1


def _uuid(text: str) -> Any:
    return sql_cast(literal(text), Uuid)


def _type_of(carried: ArchivedColumn) -> str:
    """Return the type for a column of which the database knows nothing.

    What the manifest says of it is not trusted: it is written into a statement.
    """
    if carried.carrier.startswith("decimal128("):
        return "numeric"
    return _CARRIED.get(carried.carrier, "text")


@dataclass(frozen=True, eq=False)
class LedgerWithArchive(Ledger):
    """The seals of a MetaData in a database, with the rows of an archive.

    :param archived: the tables of the archive.
    """

    archived: Mapping[Table, LoadedTable] = field(default_factory=dict)

    @classmethod
    def of(
        cls, ledger: Ledger, folder: ArchiveFolder, *, with_kept: bool
    ) -> LedgerWithArchive:
        """Return a ledger with the tables of an archive, of which nothing is loaded.

        :param folder: the archive.
        :param with_kept: as ``LoadedTable`` has it.
        :raises ArchiveError: the connection's driver does not copy rows, or a manifest
            cannot be read.
        """
        dialect = ledger.connection.dialect
        if dialect.is_async or dialect.driver not in ("psycopg", "psycopg2"):
            raise ArchiveError(
                f"rows of an archive cannot be copied by {dialect.driver}, as this "
                "connection has it; give a sync one of psycopg, postgresql+psycopg://..."
            )
        tables = [t.event_table for t in ledger.history.trackings.values()]
        found = {}
        for table in (*tables, ledger.history.shared.context_table):
            schema = ledger.schemas(table.schema)
            name = Qualified(schema, table.name)
            manifest = folder.read_manifest(folder_of(schema, table.name))
            if manifest is not None:
                with canonical_settings(ledger.connection):
                    rows = ledger.connection.execute(
                        _TYPES, {"schema": name.schema, "table": name.name}
                    )
                    types = {row.name: row.type for row in rows}
                found[table] = LoadedTable(
                    ledger.connection,
                    folder,
                    manifest,
                    table,
                    name,
                    types,
                    with_kept,
                )
        return cls(
            ledger.connection,
            ledger.history,
            ledger.tables,
            ledger.schemas,
            archived=found,
        )

    def place(self, table: Table, names: Iterable[str] | None = None) -> Any:
        """Return a table, with the rows of the archive that are loaded."""
        wanted = [*(c.name for c in table.columns)] if names is None else [*names]
        archived = self.archived.get(table)
        if archived is None or not archived.loaded:
            return self.place_own(table, wanted)
        own = self.place_own(table, dict.fromkeys([*wanted, archived.key]))
        return archived.beside(own, wanted)

    def columns_in_database(self, table: Table) -> set[str]:
        """Return the names of the columns that a table has there or in the archive."""
        found = super().columns_in_database(table)
        archived = self.archived.get(table)
        return found if archived is None else {*found, *archived.columns}
