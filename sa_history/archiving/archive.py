"""Archiving: closed partitions become files, which are compared with what they are of."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

from sqlalchemy import Connection, Engine, MetaData
from sqlalchemy.exc import DBAPIError

from sa_history.archiving.carriers import (
    arrow_schema,
    read_columns,
    select_rows,
)
from sa_history.archiving.folder import ArchiveFolder
from sa_history.archiving.manifest import ArchivedPart, Manifest
from sa_history.archiving.part_files import first_difference, read_rows, write_rows
from sa_history.archiving.source import RowSource, open_source
from sa_history.archiving.tables import ArchivableTable, tables_of
from sa_history.ddl.execution import schema_names
from sa_history.ddl.partitions import RangePartition
from sa_history.exc import ArchiveError
from sa_history.install.maintenance import turn
from sa_history.install.partition_plan import keep_since
from sa_history.install.partition_state import time_in_database
from sa_history.install.survey import explained, metadata_of


@dataclass(frozen=True)
class ArchiveProgress:
    """How far the archiving of a table is.

    :param table: the table.
    :param rows: how many rows have been written.
    :param total: how many there are to write.
    :param bytes: the bytes that have been written.
    :param fraction: the part of all work that is done, with the comparing, from 0 to 1.

    Example::

        history.archive(
            engine, Base, to="/archive", progress=lambda p: print(f"{p.fraction:.0%}")
        )
    """

    table: str
    rows: int
    total: int
    bytes: int
    fraction: float


@dataclass(frozen=True)
class ArchiveReport:
    """What was archived of one table.

    :param table: the table, with its schema.
    :param folder: where it is archived.
    :param archived: the partitions that were written now.
    :param problems: what ``verify`` found to be wrong, in words.

    Example::

        for report in history.archive(engine, Base, to="/archive"):
            print(report.table, sum(part.rows for part in report.archived))
    """

    table: str
    folder: str
    archived: tuple[ArchivedPart, ...] = ()
    problems: tuple[str, ...] = ()


def archive(
    bind: Engine,
    *models: MetaData | type[Any],
    to: Any,
    older_than: str | None = None,
    progress: Callable[[ArchiveProgress], None] | None = None,
    now: datetime.datetime | None = None,
    lock_timeout: int = 500,
) -> list[ArchiveReport]:
    """Write the closed partitions of event tables to files of Parquet.

    :param bind: an engine, whose user owns the tables.
    :param models: declarative bases or MetaData.
    :param to: the folder.
    :param older_than: how old events have to be.
    :param progress: called as rows are written and compared.
    :param now: the time, with its time zone; that of the database, if None.
    :param lock_timeout: how long to wait for a lock on a partition, in milliseconds.
    :return: a report for each partitioned table.
    :raises ArchiveError: nothing can be archived.

    Example::

        history.archive(engine, Base, to="/archive")
    """
    if not isinstance(bind, Engine):
        raise ArchiveError(f"archive takes an engine, got {bind!r}")
    folder = ArchiveFolder(to)
    try:
        with turn(bind) as connection, open_source(bind) as source:
            now = now or time_in_database(connection)
            run = _Run(bind, connection, source, folder, now, lock_timeout, progress)
            before = None if older_than is None else keep_since(older_than, now)
            return [
                run.table(table, before)
                for metadata in map(metadata_of, models)
                for table in tables_of(
                    connection, metadata, schema_names(connection), now
                )
            ]
    except DBAPIError as error:
        raise ArchiveError(explained(error)) from error


class _Run:
    """One call of :func:`archive`."""

    def __init__(
        self,
        engine: Engine,
        connection: Connection,
        source: RowSource,
        folder: ArchiveFolder,
        now: datetime.datetime,
        lock_timeout: int,
        progress: Callable[[ArchiveProgress], None] | None,
    ) -> None:
        self._engine = engine
        self._connection = connection
        self._source = source
        self._folder = folder
        self._now = now
        self._lock_timeout = lock_timeout
        self._progress = progress

    def table(
        self, table: ArchivableTable, before: datetime.datetime | None
    ) -> ArchiveReport:
        """Archive one table."""
        folder = self._folder
        folder.remove_unfinished(table.folder)
        manifest = folder.read_manifest(table.folder)
        if manifest is None:
            manifest = Manifest(str(table.name.schema), table.name.name, table.key)
        partitions = table.partitions(self._connection)
        written = []
        for partition in table.closed(self._connection, partitions, before):
            start = table.start_of(partition, not manifest.parts)
            path = f"pgh_part={start}/{table.file_name}"
            if any(part.path == path for part in manifest.parts):
                continue
            part = self._write(table, partition, path)
            manifest = replace(manifest.with_part(part), versions=_versions())
            folder.write_manifest(manifest)
            written.append(part)
        return ArchiveReport(table.folder, folder.name, tuple(written))

    def _write(
        self, table: ArchivableTable, partition: RangePartition, path: str
    ) -> ArchivedPart:
        columns = read_columns(self._connection, partition.name)
        query = select_rows(columns, partition.name, table.order_by).render(str)
        archived = tuple(c.column for c in columns)
        schema = arrow_schema(archived)
        extent = table.extent(self._connection, table.rows_of(partition.name))
        whole = f"{table.folder}/{path}"

        def write(stream: Any) -> None:
            batches = self._source.batches(query, schema)
            write_rows(stream, archived, batches, lambda _: None)

        def check(written: str) -> None:
            with self._folder.open_file(written) as file:
                difference = first_difference(
                    read_rows(file, archived),
                    self._source.batches(query, schema),
                    lambda _: None,
                )
            if difference is not None:
                raise ArchiveError("differs")

        self._folder.write(whole, write, check)
        self._source.end_transaction()
        return ArchivedPart(
            path=path,
            lower=None if partition.lower is None else table.bound(partition.lower),
            upper=None if partition.upper is None else table.bound(partition.upper),
            columns=archived,
            rows=extent.rows,
            first_id=extent.first_id,
            last_id=extent.last_id,
            since=_iso(extent.since),
            until=_iso(extent.until),
            sha256=self._folder.digest(whole),
            bytes=self._folder.size(whole),
            archived_at=str(_iso(self._now)),
        )


def _iso(time: datetime.datetime | None) -> str | None:
    if time is None:
        return None
    return time.astimezone(datetime.timezone.utc).isoformat()


def _versions() -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, version(name))
        for name in ("sa_history", "pyarrow", "adbc-driver-postgresql")
    )
