"""The tables that DuckDB reads: the files of an archive and what is still live.

Each is a view under the name of the table in PostgreSQL. The live rows are read when a
statement first needs them.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table

from sa_history.archiving.folder import ArchiveFolder
from sa_history.archiving.live_part import LiveRows
from sa_history.archiving.manifest import EXACT, ArchivedColumn, ArchivedPart, folder_of
from sa_history.archiving.packages import load
from sa_history.archiving.views import ArchivedTable, Writer, no_rows
from sa_history.capture.event_table import is_event_table
from sa_history.exc import ArchiveError

WRITER = Writer("duckdb")


class ReadTable:
    """A table that statements read.

    :param folder: the archive.
    :param table: the event table, or the context table.
    :param archived: its files; None if it has none.
    :param duckdb: the connection of DuckDB.
    :param live: the part that is not archived; None to read the archive alone.
    :param number: what tells it from other tables.
    """

    def __init__(
        self,
        folder: ArchiveFolder,
        table: Table,
        archived: ArchivedTable | None,
        duckdb: Any,
        live: LiveRows | None,
        number: int,
    ) -> None:
        self._folder = folder
        self.table = table
        self.archived = archived
        self._duckdb = duckdb
        self._live = live
        self._live_name = f"pgh_live_{number}"
        self._exact: set[str] | None = None
        self._scopes: set[str] = set()
        self._live_columns = (
            [] if live is None else [c.column for c in live.columns(table)]
        )
        self._is_whole = not self._live_columns

    def require_right_folder(self) -> None:
        """Refuse a folder that lacks what was dropped, or is of another database.

        :raises ArchiveError: it is such a folder, as the live part has recorded.
        """
        recorded = None if self._live is None else self._live.recorded(self.table)
        if recorded is None:
            return
        known = {part.path: part.digests for part in self.parts}
        if known and not any(p.sha256 in known.get(p.path, ()) for p in recorded):
            raise ArchiveError(
                f"{self._folder} has {self.parts[0].path} of {self.table.fullname!r}, "
                "and the database has no record of it; it may be the archive of "
                "another database, or one whose writing was interrupted: run "
                "sa-history archive once more"
            )
        for part in recorded:
            if part.is_dropped and part.sha256 not in known.get(part.path, ()):
                raise ArchiveError(
                    f"{self._folder} has not {part.path} of {self.table.fullname!r}, "
                    f"which was archived to {part.folder} and dropped; give that "
                    "folder, or move all of it"
                )

    @property
    def parts(self) -> tuple[ArchivedPart, ...]:
        """The archived partitions, in the order of their bounds."""
        return () if self.archived is None else self.archived.manifest.parts

    @property
    def columns(self) -> tuple[ArchivedColumn, ...]:
        """The columns, each as it was last."""
        archived = [] if self.archived is None else self.archived.columns
        found = {c.name: c for c in (*archived, *self._live_columns)}
        if found or not is_event_table(self.table):
            for column in self.table.columns:
                missing = ArchivedColumn(column.name, "text", "string")
                found.setdefault(column.name, missing)
        return tuple(found.values())

    @property
    def name(self) -> str:
        """The name of the view, as statements have it."""
        parts = (self.table.schema, self.table.name)
        return ".".join(WRITER.quote(part) for part in parts if part)

    def load_all(self) -> None:
        """Read all rows that are not archived, unless they are there."""
        self._define()
        if self._live is not None and not self._is_whole:
            self._execute(f"DELETE FROM {self._live_name}")
            self._insert(self._live.all_rows(self.table, self.parts))
            self._is_whole = True

    def load_some(self, wanted: str) -> None:
        """Read those rows that are not archived and meet a criterion.

        :param wanted: the criterion as SQL of PostgreSQL.
        """
        self._define()
        if self._live is None or self._is_whole or wanted in self._scopes:
            return
        self._insert(self._live.some_rows(self.table, self.parts, wanted))
        self._scopes.add(wanted)

    def _define(self) -> None:
        """Create the view, when it is needed first."""
        if self._exact is not None:
            return
        if not self.columns:
            raise ArchiveError(
                f"{self.table.fullname!r} is neither in the archive ({self._folder}) "
                "nor in the database; give the folder that it was archived to, or "
                "archived(..., live=engine)"
            )
        self.require_right_folder()
        if self.table.schema:
            schema = WRITER.quote(self.table.schema)
            self._execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        if self._live_columns:
            typed = [
                f"{WRITER.quote(c.name)} {WRITER.type(c.carrier)}"
                for c in (*self._live_columns, _EXACT)
            ]
            self._execute(f"CREATE TEMP TABLE {self._live_name} ({', '.join(typed)})")
        self._exact = set()
        if self.archived is not None and self.archived.parts:
            self._exact = self._exact_in(f"({self._files()})")
        self._create_view()

    def _insert(self, rows: Any) -> None:
        if not rows.num_rows:
            return
        key = WRITER.quote(self.table.primary_key.columns[0].name)
        arrow = f"{self._live_name}_arrow"
        self._duckdb.register(arrow, rows)
        self._execute(
            f"INSERT INTO {self._live_name} BY NAME SELECT * FROM {arrow} "
            f"WHERE {key} NOT IN (SELECT {key} FROM {self._live_name})"
        )
        exact = self._exact_in(arrow)
        self._duckdb.unregister(arrow)
        assert self._exact is not None
        if not exact <= self._exact:
            self._exact |= exact
            self._create_view()

    def _exact_in(self, source: str) -> set[str]:
        """Return the columns with values that their types cannot hold."""
        found = self._execute(
            f"SELECT DISTINCT unnest(json_keys({EXACT})) FROM {source} AS rows "
            f"WHERE {EXACT} IS NOT NULL"
        )
        return {name for (name,) in found.fetchall()}

    def _execute(self, statement: str) -> Any:
        try:
            return self._duckdb.execute(statement)
        except load("duckdb").Error as error:
            (said, *_) = str(error).split("\n\n")
            raise ArchiveError(
                f"what the archive has of {self.table.fullname!r} cannot be read: "
                f"{said}; restore the files from a backup, with their manifest"
            ) from error

    def _files(self) -> str:
        assert self.archived is not None
        return self.archived.rows(WRITER, self.columns)

    def _create_view(self) -> None:
        sources = []
        if self.archived is not None and self.archived.parts:
            sources.append(self._files())
        if self._live_columns:
            known = {column.name for column in self._live_columns}
            names = [
                WRITER.quote(c.name)
                if c.name in known
                else f"CAST(NULL AS {WRITER.type(c.carrier)}) AS {WRITER.quote(c.name)}"
                for c in self.columns
            ]
            names.append(EXACT)
            sources.append(f"SELECT {', '.join(names)} FROM {self._live_name}")
        sources = sources or [no_rows(WRITER, self.columns)]
        values = ", ".join(self._decoded(column) for column in self.columns)
        self._execute(
            f"CREATE OR REPLACE VIEW {self.name} AS SELECT {values}, {EXACT} "
            f"FROM ({' UNION ALL '.join(sources)}) AS pgh_rows"
        )

    def _decoded(self, column: ArchivedColumn) -> str:
        """Return a column with the values that its type in the files cannot hold.

        DuckDB has times of all years, and infinity. A numeric that may be NaN is text.
        """
        name = WRITER.quote(column.name)
        if column.name not in (self._exact or ()):
            return name
        text = f"({EXACT} ->> {WRITER.text(column.name)})"
        if column.carrier.startswith("decimal"):
            return f"COALESCE(CAST({name} AS VARCHAR), {text}) AS {name}"
        # DuckDB has "(BC)" after the date, and PostgreSQL "BC" at the end.
        text = f"regexp_replace({text}, '^(\\S+)(.*) BC$', '\\1 (BC)\\2')"
        return (
            f"COALESCE({name}, CAST({text} AS {WRITER.type(column.carrier)})) AS {name}"
        )


_EXACT = ArchivedColumn(EXACT, "text", "string")


def archived_table(
    folder: ArchiveFolder, table: Table, schema: str | None, with_open: bool
) -> ArchivedTable | None:
    """Return the files of a table in an archive, None if it has none.

    :param schema: the table's schema in the database; None if that is not known, and
        is the one in the archive.
    :param with_open: whether to read the part that was not closed, too.
    :raises ArchiveError: it is not known, and the archive has several.
    """
    names = folder.folders()
    wanted = schema or table.schema
    if wanted is not None:
        found = [name for name in names if name == folder_of(wanted, table.name)]
    else:
        public = folder_of("public", table.name)
        _, _, of_any_schema = public.partition(".")
        found = [name for name in names if name.partition(".")[2] == of_any_schema]
        found = [public] if public in found else found
    if not found:
        return None
    if len(found) > 1:
        raise ArchiveError(
            f"{folder} has the events of {table.name!r} from several schemas: "
            f"{', '.join(found)}; give live= the engine of the one that is meant, or "
            "models whose MetaData names its schema"
        )
    manifest = folder.read_manifest(found[0])
    assert manifest is not None  # a folder without one is none of the archive
    table_ = ArchivedTable(folder.name, manifest, with_open)
    return table_ if table_.columns else None
