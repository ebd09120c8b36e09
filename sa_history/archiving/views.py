"""The SQL of an archive's views, for DuckDB and for Apache Spark.

A view is a SELECT from the files of one table: its events, the events beside those
before them, its rows as of a time. The two dialects differ in the names of types, in
how files are named and in a few functions; what a row is, is the same, and the same as
in PostgreSQL.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal, TypeAlias

from sa_history._types import Op
from sa_history.archiving.manifest import (
    EXACT,
    ArchivedColumn,
    ArchivedPart,
    Manifest,
    columns_of,
)
from sa_history.capture.event_table import OLD_KEY, PREFIX, key_columns
from sa_history.capture.seal_tables import ERASED_COLUMN
from sa_history.capture.trackers import full_row_labels
from sa_history.exc import ArchiveError
from sa_history.sql.compose import quote_literal
from sa_history.tracking.completeness import (
    ALWAYS_COMPLETE,
    GONE,
    comparable_labels,
    missing_operations,
)
from sa_history.tracking.registry import Tracking

Dialect: TypeAlias = Literal["duckdb", "spark"]
"""Whose SQL a view is written in."""

_NAMES: Mapping[Dialect, Mapping[str, str]] = {
    "duckdb": {
        "int16": "SMALLINT",
        "int32": "INTEGER",
        "int64": "BIGINT",
        "bool": "BOOLEAN",
        "float": "FLOAT",
        "double": "DOUBLE",
        "string": "VARCHAR",
        "binary": "BLOB",
        "date32": "DATE",
        "timestamp": "TIMESTAMP",
        "timestamptz": "TIMESTAMPTZ",
    },
    "spark": {
        "int16": "SMALLINT",
        "int32": "INT",
        "int64": "BIGINT",
        "bool": "BOOLEAN",
        "float": "FLOAT",
        "double": "DOUBLE",
        "string": "STRING",
        "binary": "BINARY",
        "date32": "DATE",
        "timestamp": "TIMESTAMP_NTZ",
        "timestamptz": "TIMESTAMP",
    },
}
"""What the carriers are called by those who read them."""


MOMENT = "pgh_moment"
"""The parameter of the function that returns the rows as of a time."""


@dataclass(frozen=True)
class Writer:
    """How one dialect writes what the views are made of.

    :param dialect: the dialect.
    """

    dialect: Dialect

    def quote(self, name: str) -> str:
        """Return a name as an identifier."""
        mark = '"' if self.dialect == "duckdb" else "`"
        return f"{mark}{name.replace(mark, mark * 2)}{mark}"

    def text(self, value: str) -> str:
        """Return a text as a literal."""
        if self.dialect == "duckdb":
            return quote_literal(value)
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"

    def type(self, carrier: str) -> str:
        """Return the type of a carrier's values.

        :param carrier: as the manifest has it.
        """
        decimal = re.fullmatch(r"decimal128\((\d+), ?(\d+)\)", carrier)
        if decimal:
            return f"DECIMAL({decimal[1]}, {decimal[2]})"
        return _NAMES[self.dialect][_kind(carrier)]

    def files(self, paths: Sequence[str]) -> str:
        """Return some files of the same columns, as a part of FROM."""
        if self.dialect == "duckdb":
            listed = ", ".join(map(quote_literal, paths))
            return f"read_parquet([{listed}], hive_partitioning = false)"
        return f"parquet.{self.quote(_as_pattern(paths))}"

    def old_key(self, position: int, column: ArchivedColumn) -> str:
        """Return a part of the key that a row had before it got another.

        :param position: the place of the part in the key, from 0 on.
        :param column: the column with that part of the new key.
        """
        old, kind = self.quote(OLD_KEY), _kind(column.carrier)
        path = self.text(f"$[{position}]")
        if self.dialect == "duckdb":
            item = f"json_extract_string({old}, {path})"
        elif kind == "decimal128":
            # get_json_object makes floats of numbers.
            item = f"variant_get(parse_json({old}), {path}, 'string')"
        else:
            item = f"get_json_object({old}, {path})"
        if kind == "string":
            return item
        if kind == "binary":
            return f"unhex(substr({item}, 3))"
        return f"CAST({item} AS {self.type(column.carrier)})"

    def time(self, moment: str) -> str:
        """Return a time as a literal.

        :param moment: the time in ISO 8601, with its offset.
        """
        return f"{self.type('timestamp[us, tz=UTC]')} {self.text(moment)}"


def _kind(carrier: str) -> str:
    """Return the type of a carrier without what makes it narrower."""
    if carrier.startswith("timestamp"):
        return "timestamptz" if "UTC" in carrier else "timestamp"
    return re.split(r"[\[(]", carrier)[0]


def _as_pattern(paths: Sequence[str]) -> str:
    """Return one path for several files, as Spark reads them.

    ``a/{1,2}/c`` stands for ``a/1/c`` and ``a/2/c``. The files of a table differ in the
    folder of the partition alone.
    """
    split = [path.rsplit("/", 2) for path in paths]
    root, first, name = split[0]
    folders = [folder for _, folder, _ in split]
    several = f"{{{','.join(folders)}}}" if len(folders) > 1 else first
    return f"{re.sub(_SPECIAL, _ESCAPED, root)}/{several}/{name}"


_SPECIAL, _ESCAPED = r"([\\\[\]{}*?])", r"\\\1"
"""What has a meaning in the pattern of a path, and a backslash before it."""


@dataclass(frozen=True)
class ArchivedTable:
    """The files of one table in an archive.

    :param root: the folder of the archive, as who reads the files is to call it.
    :param manifest: what the table's folder holds.
    :param open: whether to read the part of the table that was not closed, too.
    """

    root: str
    manifest: Manifest
    open: bool = False

    @property
    def parts(self) -> tuple[ArchivedPart, ...]:
        """The parts, with the one that is open if that is to be read."""
        last = self.manifest.open if self.open else None
        return (*self.manifest.parts, *([] if last is None else [last]))

    @property
    def columns(self) -> tuple[ArchivedColumn, ...]:
        """The columns of all parts, each as the latest part has it."""
        return columns_of(self.parts)

    def until(self, moment: datetime.datetime) -> ArchivedTable:
        """Return the table without the parts that begin after a time."""
        parts = tuple(p for p in self.manifest.parts if _begins_by(p, moment))
        return replace(self, manifest=replace(self.manifest, parts=parts))

    def rows(self, writer: Writer, columns: Sequence[ArchivedColumn]) -> str:
        """Return the SELECT of the rows of all files.

        A column that a file has not is NULL in its rows.

        :param columns: the columns, with the types to give them. What a column's type
            cannot hold is in ``pgh_exact``, which comes last.
        """
        selects = []
        with_rows = [part for part in self.parts if part.rows]
        for names, parts in groupby(with_rows, key=lambda part: part.columns):
            known = {column.name: column for column in names}
            paths = [f"{self.root}/{self.manifest.path(part)}" for part in parts]
            values = [_value(writer, c, known.get(c.name)) for c in columns]
            values.append(writer.quote(EXACT))
            selects.append(f"SELECT {', '.join(values)} FROM {writer.files(paths)}")
        return " UNION ALL ".join(selects) or no_rows(writer, columns)


def _begins_by(part: ArchivedPart, moment: datetime.datetime) -> bool:
    return part.earliest is None or part.earliest <= moment


def _value(
    writer: Writer, column: ArchivedColumn, stored: ArchivedColumn | None
) -> str:
    name, type_ = writer.quote(column.name), writer.type(column.carrier)
    if stored is None:
        return f"CAST(NULL AS {type_}) AS {name}"
    if stored.carrier == column.carrier:
        return name
    return f"CAST({name} AS {type_}) AS {name}"


def no_rows(writer: Writer, columns: Sequence[ArchivedColumn]) -> str:
    """Return the SELECT of no row, with columns as those of files."""
    exact = ArchivedColumn(EXACT, "jsonb", "string")
    values = ", ".join(_value(writer, column, None) for column in (*columns, exact))
    return f"SELECT {values} WHERE FALSE"


@dataclass(frozen=True)
class EventViews:
    """The views of one event table.

    :param tracking: whose events they are.
    :param columns: the columns of the events.
    :param events: what the events are read from: a name, or a SELECT in parentheses.
    :param writer: writes the SQL.
    """

    tracking: Tracking
    columns: tuple[ArchivedColumn, ...]
    events: str
    writer: Writer

    def rows_as_of(self, included: str, *, with_erased: bool = False) -> str:
        """Return the SELECT of the rows of the tracked table as of a point in time.

        A row is its last event by then. An event that gave a row another key is the end
        of its old key, so for each key the last event that says something of it counts.

        :param included: the criterion of events that are not after the point in time,
            which names their columns.
        :param with_erased: True to have what was erased as well, as ``pgh_erased``.
        :raises ArchiveError: the events do not record every change of every row, or
            the primary key is deferrable.
        """
        missing = missing_operations(self.tracking)
        if missing:
            raise ArchiveError(
                f"the events of {self.tracking.table.name!r} do not record "
                f"{', '.join(missing)}, so its past is not known; track it with "
                "@track()"
            )
        if self.tracking.table.primary_key.deferrable:
            raise ArchiveError(
                f"the primary key of {self.tracking.table.name!r} is deferrable, so "
                "two rows may have had one key, which no view tells apart; use "
                "history.archived(...).as_of()"
            )
        quote = self.writer.quote
        keys, numbered = self._keys, self._numbered
        full = self._with_labels(self._full_labels)
        is_full = [included, *([full] if full else [])]
        same = " AND ".join(
            f"pgh_last.{n} = pgh_then.{quote(k)}"
            for n, k in zip((*numbered, "pgh_id"), (*keys, "pgh_id"), strict=True)
        )
        by_key = ", ".join(
            f"{quote(k)} AS {n}" for k, n in zip(keys, numbered, strict=True)
        )
        known = f"SELECT {by_key}, pgh_id FROM {self.events}{_where(is_full)}"
        left = [f"{quote(OLD_KEY)} IS NOT NULL", included]
        known += (
            f" UNION ALL SELECT {self._old_keys()}, pgh_id FROM {self.events}"
            f"{_where(left)}"
        )
        grouped = ", ".join(numbered)
        is_there = [f"pgh_then.pgh_op NOT IN ({self._texts(GONE)})"]
        is_there += [full] if full else []
        row = [*self._row(), *([self._erased()] if with_erased else [])]
        return (
            f"SELECT {', '.join(row)} FROM {self.events} AS pgh_then JOIN ("
            f"SELECT {grouped}, max(pgh_id) AS pgh_id FROM ({known}) AS pgh_known "
            f"GROUP BY {grouped}) AS pgh_last ON {same}{_where(is_there)}"
        )

    def with_previous(self) -> str:
        """Return the SELECT of events, each beside the one before it.

        It has all columns of the events, and for each that comes from the tracked table
        ``previous_<column>``, with ``previous_pgh_id``. These are NULL for the first
        event of a row. The event before a change of the key is one of the old key.

        :raises ArchiveError: one change can leave events of several trackers, of which
            SQL alone cannot tell the one before; or the primary key is deferrable or
            none.
        """
        trackers = self.tracking.trackers
        operations = [o for tracker in trackers for o in tracker.operations]
        primary_key = self.tracking.table.primary_key
        if len(operations) > len(set(operations)) or primary_key.deferrable:
            raise ArchiveError(
                f"which event of {self.tracking.subject} is the one before another is "
                "not told by SQL alone, since one change can leave several events, or "
                "two rows can have one key; use history.archived(...).diffs()"
            )
        if not self._keys:
            raise ArchiveError(
                f"{self.tracking.subject} has no primary key, by which events are of "
                "one row"
            )
        quote, numbered = self.writer.quote, self._numbered
        keys = ", ".join(
            f"{quote(k)} AS {n}" for k, n in zip(self._keys, numbered, strict=True)
        )
        comparable = self._with_labels(comparable_labels(self.tracking)) or "TRUE"
        begins = self._texts((Op.INSERT.value, Op.BASELINE.value))
        moved = f"{quote(OLD_KEY)} IS NOT NULL"
        # Each event stands under its key, and one that changed the key under the old
        # one as well, where it looks for the last event before it.
        looked_for = (
            f"SELECT {keys}, pgh_id, ({comparable}) AS is_known, NOT ({moved}) AS looks"
            f" FROM {self.events} UNION ALL SELECT {self._old_keys()}, pgh_id, "
            f"FALSE AS is_known, TRUE AS looks FROM {self.events} WHERE {moved}"
        )
        found = (
            "SELECT pgh_id, looks, max(CASE WHEN is_known THEN pgh_id END) OVER ("
            f"PARTITION BY {', '.join(numbered)} ORDER BY pgh_id "
            "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS previous "
            f"FROM ({looked_for}) AS pgh_looked"
        )
        values = [f"pgh_event.{quote(c.name)}" for c in self.columns]
        values += [
            f"pgh_before.{quote(name)} AS {quote(f'previous_{name}')}"
            for name in ("pgh_id", *self._stored)
        ]
        return (
            f"SELECT {', '.join(values)} FROM {self.events} AS pgh_event JOIN ("
            f"SELECT pgh_id, previous FROM ({found}) AS pgh_found WHERE looks"
            ") AS pgh_pair ON pgh_pair.pgh_id = pgh_event.pgh_id "
            f"LEFT JOIN {self.events} AS pgh_before "
            "ON pgh_before.pgh_id = pgh_pair.previous "
            f"AND pgh_event.pgh_op NOT IN ({begins})"
        )

    def with_context(self, contexts: str) -> str:
        """Return the SELECT of events with the metadata of their contexts.

        :param contexts: what contexts are read from.
        """
        quote = self.writer.quote
        values = [f"pgh_event.{quote(c.name)}" for c in self.columns]
        return (
            f"SELECT {', '.join(values)}, pgh_of.{quote('metadata')} AS pgh_context "
            f"FROM {self.events} AS pgh_event LEFT JOIN {contexts} AS pgh_of "
            "ON pgh_of.id = pgh_event.pgh_context_id"
        )

    @property
    def _keys(self) -> list[str]:
        """The names of the columns that hold the key."""
        columns = key_columns(self.tracking.tracked_columns, self.tracking.event_table)
        return [column.name for column in columns]

    @property
    def _numbered(self) -> list[str]:
        return [f"pgh_key_{number}" for number in range(len(self._keys))]

    @property
    def _stored(self) -> list[str]:
        """The names of the columns that come from the tracked table."""
        names = [column.name for column in self.columns]
        return [name for name in names if not name.startswith(PREFIX)]

    @property
    def _full_labels(self) -> Sequence[str]:
        tracking = self.tracking
        return full_row_labels(tracking.trackers, tracking.tracked_columns)

    def _with_labels(self, labels: Sequence[str] | None) -> str | None:
        """Return the criterion of events that say what the whole row was."""
        if labels is None or len(labels) == len(self.tracking.trackers):
            return None
        complete = f"pgh_op IN ({self._texts(ALWAYS_COMPLETE)})"
        return f"(pgh_label IN ({self._texts(labels)}) OR {complete})"

    def _texts(self, values: Iterable[str]) -> str:
        return ", ".join(map(self.writer.text, values))

    def _old_keys(self) -> str:
        by_name = {column.name: column for column in self.columns}
        return ", ".join(
            f"{self.writer.old_key(position, by_name[key])} AS {name}"
            for position, (key, name) in enumerate(
                zip(self._keys, self._numbered, strict=True)
            )
        )

    def _row(self) -> Iterator[str]:
        """Yield the columns of the tracked table, NULL where it is not tracked."""
        quote = self.writer.quote
        by_name = {column.name: column for column in self.columns}
        own = [column.name for column in self.tracking.table.primary_key]
        copies = dict(zip(own, self._keys, strict=True))
        for column in self.tracking.table.columns:
            name = quote(column.name)
            source = copies.get(column.name, column.name)
            if source not in by_name:
                yield f"CAST(NULL AS {self.writer.type('string')}) AS {name}"
            elif source == column.name:
                yield f"pgh_then.{name}"
            else:
                yield f"pgh_then.{quote(source)} AS {name}"

    def _erased(self) -> str:
        """Return what was erased of an event, NULL if its files do not say."""
        is_known = any(column.name == ERASED_COLUMN for column in self.columns)
        nothing = f"CAST(NULL AS {self.writer.type('string')}) AS {ERASED_COLUMN}"
        return f"pgh_then.{ERASED_COLUMN}" if is_known else nothing


def _where(criteria: Sequence[str]) -> str:
    return f" WHERE {' AND '.join(criteria)}" if criteria else ""


def view_name(schema: str | None, table: str) -> str:
    """Return the name of a table's view: with its schema, unless that is ``public``."""
    return table if schema in (None, "public") else f"{schema}_{table}"


def statements(
    dialect: Dialect,
    trackings: Mapping[Tracking, ArchivedTable],
    contexts: ArchivedTable | None,
) -> list[str]:
    """Return the statements that make all views of an archive.

    For the table ``account`` these are ``account_event`` with its events,
    ``account_event_with_previous`` with the one before each,
    ``account_event_with_context`` with the metadata of their contexts, and the function
    ``account_as_of(pgh_moment)``. One that the events cannot answer is left out.

    :param dialect: whose SQL it is.
    :param trackings: the archived event tables.
    :param contexts: the archived contexts; None if there are none.
    """
    writer = Writer(dialect)
    made = []
    of_contexts = None
    if contexts is not None:
        name = view_name(contexts.manifest.schema, contexts.manifest.table)
        of_contexts = writer.quote(name)
        made.append(_view(writer, name, contexts.rows(writer, contexts.columns)))
    for tracking, table in trackings.items():
        name = view_name(table.manifest.schema, table.manifest.table)
        views = EventViews(tracking, table.columns, writer.quote(name), writer)
        made.append(_view(writer, name, table.rows(writer, table.columns)))
        if of_contexts is not None and tracking.options.context == "reference":
            sql = views.with_context(of_contexts)
            made.append(_view(writer, f"{name}_with_context", sql))
        with suppress(ArchiveError):
            sql = views.with_previous()
            made.append(_view(writer, f"{name}_with_previous", sql))
        with suppress(ArchiveError):
            sql = views.rows_as_of(f"pgh_created_at <= {MOMENT}")
            rows = view_name(tracking.table.schema, tracking.table.name)
            made.append(_function(writer, f"{rows}_as_of", sql))
    return made


def script(
    dialect: Dialect,
    trackings: Mapping[Tracking, ArchivedTable],
    contexts: ArchivedTable | None,
) -> str:
    """Return the statements that make all views of an archive, as one text.

    :param dialect: whose SQL it is.
    :param trackings: the archived event tables.
    :param contexts: the archived contexts; None if there are none.
    """
    made = statements(dialect, trackings, contexts)
    return "".join(f"{statement};\n" for statement in made)


def _view(writer: Writer, name: str, sql: str) -> str:
    temporary = "" if writer.dialect == "duckdb" else "TEMPORARY "
    return f"CREATE OR REPLACE {temporary}VIEW {writer.quote(name)} AS {sql}"


def _function(writer: Writer, name: str, sql: str) -> str:
    quoted = writer.quote(name)
    if writer.dialect == "duckdb":
        return f"CREATE OR REPLACE MACRO {quoted}({MOMENT}) AS TABLE {sql}"
    return (
        f"CREATE OR REPLACE TEMPORARY FUNCTION {quoted}({MOMENT} TIMESTAMP) "
        f"RETURNS TABLE RETURN {sql}"
    )
