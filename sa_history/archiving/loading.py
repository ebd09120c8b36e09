"""Loading rows of a file back into a table of PostgreSQL, by COPY."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection

from sa_history.archiving.folder import ArchiveFolder
from sa_history.archiving.manifest import (
    EXACT,
    ArchivedColumn,
    ArchivedPart,
    Manifest,
)
from sa_history.archiving.packages import load
from sa_history.archiving.part_files import read_rows
from sa_history.exc import ArchiveError
from sa_history.sealing.sources import canonical_settings
from sa_history.sql.compose import Idents, Joined, Qualified, Raw


def load_part(
    connection: Connection,
    folder: ArchiveFolder,
    manifest: Manifest,
    part: ArchivedPart,
    table: Qualified,
) -> int:
    """Insert the rows of an archived partition into a table.

    Each value is what it was, since PostgreSQL reads the text that it would write. The
    connection's transaction stays open.

    :param connection: of psycopg or psycopg2, which copy.
    :param folder: the archive.
    :param manifest: that of the partition's table.
    :param part: the partition.
    :param table: a table with the columns of the part, and maybe others that may be
        NULL; with its schema in the database.
    :return: how many rows there are.
    :raises ArchiveError: the file is not what the manifest says, or the table has not
        its columns any more.
    """
    path = manifest.path(part)
    require_digest(folder, manifest, part)
    with folder.open_file(path) as file:
        rows = read_rows(file)
        try:
            return copy_rows(connection, table, part.columns, rows)
        except connection.dialect.loaded_dbapi.Error as error:
            raise ArchiveError(
                f"{folder.path(path)} cannot be brought back: {error}; if the table "
                "has got other columns or types since, restore it into a database that "
                "has those of then"
            ) from error


def copy_rows(
    connection: Connection,
    table: Qualified,
    columns: Sequence[ArchivedColumn],
    batches: Iterator[Any],
) -> int:
    """Insert rows of a file into a table.

    :param connection: of psycopg or psycopg2, which copy.
    :param table: with its schema in the database.
    :param columns: the columns of the rows.
    :param batches: the rows.
    :return: how many rows there are.
    """
    names = tuple(column.name for column in columns)
    copy = Joined(
        (
            Raw("COPY "),
            table,
            Raw(" ("),
            Idents(names),
            Raw(") FROM STDIN (FORMAT csv)"),
        )
    ).render(str)
    with canonical_settings(connection):
        return _copy(connection, copy, csv_of(batches, columns))


def require_digest(
    folder: ArchiveFolder, manifest: Manifest, part: ArchivedPart
) -> None:
    """Refuse a file that is not what the manifest says.

    :raises ArchiveError: it is not; says where.
    """
    path = manifest.path(part)
    if not folder.exists(path):
        raise ArchiveError(f"{folder.path(path)} is missing; restore it from a backup")
    if folder.digest(path) != part.sha256:
        raise ArchiveError(
            f"{folder.path(path)} has another digest than the manifest says; restore "
            "it from a backup, or if an erasure was interrupted, run it again"
        )


def _copy(connection: Connection, statement: str, texts: Iterator[bytes]) -> int:
    """Run a COPY with the driver's own cursor, and return the number of rows."""
    driver: Any = connection.connection.driver_connection
    if connection.dialect.driver == "psycopg" and not connection.dialect.is_async:
        import psycopg

        with psycopg.Cursor(driver) as cursor:
            with cursor.copy(statement.encode()) as copy:
                for text in texts:
                    copy.write(text)
            return cursor.rowcount
    if connection.dialect.driver == "psycopg2":
        with driver.cursor() as cursor:
            cursor.copy_expert(statement, _Reader(texts))
            return int(cursor.rowcount)
    raise ArchiveError(
        f"events cannot be copied by {connection.dialect.driver}; give an engine of "
        "psycopg, postgresql+psycopg://..."
    )


class _Reader(io.RawIOBase):
    """A file to read, of texts."""

    def __init__(self, texts: Iterator[bytes]) -> None:
        self._texts = texts
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes; none at the end."""
        if not self._rest:
            self._rest = next(self._texts, b"")
        found, self._rest = self._rest[:size], self._rest[size:]
        return found


def csv_of(
    batches: Iterator[Any], columns: Sequence[ArchivedColumn]
) -> Iterator[bytes]:
    """Yield the text of rows as COPY reads CSV.

    A NULL is nothing, and an empty text a pair of quotes.
    """
    pa, csv = load("pyarrow"), load("pyarrow.csv")
    schema = pa.schema([(column.name, pa.string()) for column in columns])
    options = csv.WriteOptions(include_header=False, quoting_style="needed")
    for batch in batches:
        exact = _exact_values(batch.column(EXACT))
        texts = [
            _with_exact(_texts(batch.column(column.name)), exact.get(column.name, {}))
            for column in columns
        ]
        sink = pa.BufferOutputStream()
        csv.write_csv(pa.RecordBatch.from_arrays(texts, schema=schema), sink, options)
        yield sink.getvalue().to_pybytes()


def _texts(column: Any) -> Any:
    """Return the values of a column as texts that PostgreSQL reads."""
    pa = load("pyarrow")
    if pa.types.is_binary(column.type):
        hexadecimal = [
            None if value is None else f"\\x{value.hex()}"
            for value in column.to_pylist()
        ]
        return pa.array(hexadecimal, pa.string())
    return column.cast(pa.string())


def _exact_values(column: Any) -> dict[str, dict[int, str]]:
    """Return the values that their columns cannot hold: by column, then by row."""
    found: dict[str, dict[int, str]] = {}
    if column.null_count < len(column):
        for row, text in enumerate(column.to_pylist()):
            if text is not None:
                for name, value in json.loads(text).items():
                    found.setdefault(name, {})[row] = value
    return found


def _with_exact(texts: Any, exact: dict[int, str]) -> Any:
    if not exact:
        return texts
    pa = load("pyarrow")
    values = texts.to_pylist()
    for row, value in exact.items():
        values[row] = value
    return pa.array(values, pa.string())
