"""Archiving: closed partitions become files, which are compared with the table."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Engine, MetaData
from sqlalchemy.exc import DBAPIError

from sa_history.archiving.folder import ArchiveFolder
from sa_history.archiving.manifest import ArchivedPart
from sa_history.archiving.source import RowSource, open_source
from sa_history.archiving.table_archive import Meter, Run, TableArchive
from sa_history.archiving.tables import (
    ArchivableTable,
    EventsToArchive,
    tables_of,
)
from sa_history.ddl.execution import schema_names, time_in_database
from sa_history.ddl.partitions import read_range_partitions
from sa_history.exc import ArchiveError, CommandError
from sa_history.install.archived import ArchivedPartitions
from sa_history.install.maintenance import maintain, turn
from sa_history.install.partition_plan import check_now, keep_since
from sa_history.install.partition_state import read_next_ids
from sa_history.install.partition_steps import PartitionReport, RunSettings
from sa_history.install.survey import explained
from sa_history.util.arguments import metadata_of, require_number


@dataclass(frozen=True)
class ArchiveProgress:
    """How far the archiving is.

    :param table: the table that is worked on.
    :param rows: how many of its rows were written.
    :param bytes: how many bytes were written of it.
    :param done: the rows of all tables that were read; to write a row and to compare it
        counts as two.
    :param total: how many there are to read.

    Example::

        def show(progress: history.ArchiveProgress) -> None:
            print(f"{progress.table}: {progress.done / progress.total:.0%}")


        history.archive(engine, Base, to="archive", progress=show)
    """

    table: str
    rows: int
    bytes: int
    done: int
    total: int


@dataclass(frozen=True)
class ArchiveReport:
    """What was archived of one table.

    :param table: the table, with its schema.
    :param folder: the folder of the archive.
    :param archived: the partitions that were written.
    :param open: what came after them, if it was written; it stays in the database.
    :param dropped: the steps by which partitions were removed, in words.
    :param postponed: what could not be done, each with the reason; a later call does
        it.
    :param problems: what is wrong with the files, as ``verify`` finds, in words.
    :param verified: the partitions whose files ``verify`` has found to be as they were
        written, and as the database has them, if it still does.

    Example::

        for report in history.archive(engine, Base, to="archive"):
            print(report.table, sum(part.rows for part in report.archived))
    """

    table: str
    folder: str
    archived: tuple[ArchivedPart, ...] = ()
    open: ArchivedPart | None = None
    dropped: tuple[str, ...] = ()
    postponed: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    verified: tuple[ArchivedPart, ...] = ()


def archive(
    bind: Engine,
    *models: MetaData | type[Any],
    to: Any,
    older_than: str | None = None,
    drop: bool = False,
    open: bool = False,
    verify: bool = False,
    keep_last_events: bool = True,
    progress: Callable[[ArchiveProgress], None] | None = None,
    now: datetime.datetime | None = None,
    lock_timeout: int = 500,
) -> list[ArchiveReport]:
    """Write the closed partitions of event tables to files of Parquet.

    Each file is compared with a second reading of its partition before it counts. A
    call after an interruption goes on where that one was; partitions that are in the
    archive are not written again. Contexts are archived in the same way, one period
    after they were made. Partitions are closed by :func:`partitions`.

    :param bind: an engine, whose user owns the tables; of any driver. Two more
        connections are made to the same database by libpq.
    :param models: declarative bases or MetaData.
    :param to: the folder, made if there is none: a path; a URI such as
        ``"s3://bucket/folder"``, of a file system that pyarrow knows, or with
        ``fsspec+`` before it one of fsspec; or a file system of pyarrow, for its root.
    :param older_than: archive the partitions whose events are all older, such as
        ``"12 months"``; None for all that are closed.
    :param drop: True to remove from the database what was archived and is so old, once
        the file has the digest that the manifest says.
    :param open: True to write also what comes after the last partition, to be read
        beside the archive without the database. It stays in the database, and a later
        call replaces the file.
    :param verify: True to compare all files with their digests, and with the partitions
        that the database still has.
    :param keep_last_events: with ``drop``, as for :func:`partitions`.
    :param progress: called as rows are read; None for no calls.
    :param now: the time, with its time zone; that of the database, if None.
    :param lock_timeout: how long to wait for locks, in milliseconds.
    :return: a report for each partitioned table.
    :raises ArchiveError: no model has partitions; the folder cannot be written, is that
        of another database, or lacks what was archived; a file is not what the table
        has. What was archived before stays.
    :raises CommandError: ``older_than`` is no time, ``now`` has no time zone, or
        ``lock_timeout`` is no number.

    Example::

        for report in history.archive(engine, Base, to="archive", older_than="1 year"):
            print(report.table, [part.path for part in report.archived])
    """
    if not isinstance(bind, Engine):
        raise ArchiveError(
            f"archive takes an engine, got {bind!r}; it connects more than once, so "
            "give one of create_engine(...)"
        )
    if older_than is not None:
        today = datetime.datetime.now(datetime.timezone.utc)
        keep_since(older_than, today, "older_than")
    check_now(now)
    require_number("lock_timeout is milliseconds", lock_timeout, CommandError, 0)
    metadatas = [metadata_of(model, ArchiveError) for model in models]
    folder = ArchiveFolder(to)
    settings = RunSettings(
        bind,
        lock_timeout,
        attempts=5,
        keep=older_than,
        keeps_last=keep_last_events,
        now=now,
    )
    try:
        with (
            turn(bind) as connection,
            open_source(bind, lock_timeout) as source,
            open_source(bind, lock_timeout) as second,
        ):
            time = now or time_in_database(connection)
            before = None if older_than is None else keep_since(older_than, time)
            schemas = schema_names(connection)
            tables = [
                table
                for metadata in metadatas
                for table in tables_of(metadata, schemas, time)
            ]
            _require_some(tables)
            meter = _ProgressMeter(progress)
            run = Run(bind, connection, source, second, folder, lock_timeout, meter)
            archives = _archives(run, tables, before)
            if progress is not None:
                meter.total = sum(a.rows_to_read(verify, open) for a in archives)
            _write(archives, source, with_open=open, verify=verify)
            removes = {a.table.name.dotted: a.intact() for a in archives if drop}
        removals = {}
        if drop:
            removing = replace(settings, removes=removes)
            reports = maintain(metadatas, removing, dry_run=False)
            removals = {report.table: report for report in reports}
    except DBAPIError as error:
        raise ArchiveError(explained(error)) from error
    return [_report(a, folder, removals.get(a.table.name.dotted)) for a in archives]


def _archives(
    run: Run, tables: Sequence[ArchivableTable], before: datetime.datetime | None
) -> list[TableArchive]:
    """Return the archives of tables, of which all is read at once.

    :param before: the time that partitions have to be before; None for any.
    """
    connection, names = run.connection, [table.name for table in tables]
    partitions = read_range_partitions(
        connection,
        sorted({str(name.schema) for name in names}),
        [name.name for name in names],
    )
    next_ids = read_next_ids(
        connection, [t.state for t in tables if isinstance(t, EventsToArchive)]
    )
    every = ArchivedPartitions.all_of(connection, [t.archived for t in tables])
    archives = []
    for table, rows in zip(tables, every, strict=True):
        own = partitions.get(table.name, [])
        closed = table.closed(own, next_ids, before)
        archives.append(TableArchive(run, table, rows, own, closed))
    return archives


def _write(
    archives: Sequence[TableArchive], source: RowSource, with_open: bool, verify: bool
) -> None:
    """Write the files of tables, and compare them if that is asked for.

    :param source: reads what is not closed, of all tables in one snapshot.
    """
    for archived in archives:
        archived.write_closed()
    if with_open:
        with source.snapshot():
            for archived in archives:
                archived.write_open()
    if verify:
        for archived in archives:
            archived.verify()


def _require_some(tables: Sequence[ArchivableTable]) -> None:
    if not tables:
        raise ArchiveError(
            "no event table has partitions, which are what is archived; give "
            'track(..., partition_by="month") to models, and run partitions(..., '
            "convert=True)"
        )


def _report(
    archived: TableArchive, folder: ArchiveFolder, removal: PartitionReport | None
) -> ArchiveReport:
    postponed = [*archived.postponed, *(removal.postponed if removal else ())]
    return ArchiveReport(
        archived.table.name.dotted,
        folder.name,
        tuple(archived.written),
        archived.open,
        removal.done if removal else (),
        tuple(postponed),
        tuple(dict.fromkeys(archived.problems)),
        tuple(archived.verified),
    )


class _ProgressMeter(Meter):
    """Tells who called of rows as they are read.

    :param progress: is told.
    """

    def __init__(self, progress: Callable[[ArchiveProgress], None] | None) -> None:
        self._progress = progress
        self._table = ""
        self._rows: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._done = 0
        self.total = 0
        """How many rows there are to read."""

    def begin(self, table: str) -> None:
        """Note that work on a table begins."""
        self._table = table

    def wrote(self, rows: int, size: int) -> None:
        """Note that rows were written, and the bytes that they take."""
        self._rows[self._table] += rows
        self._bytes[self._table] += size
        self._tell(rows)

    def compared(self, rows: int) -> None:
        """Note that rows were compared."""
        self._tell(rows)

    def _tell(self, rows: int) -> None:
        self._done += rows
        if self._progress is not None:
            self._progress(
                ArchiveProgress(
                    self._table,
                    self._rows[self._table],
                    self._bytes[self._table],
                    min(self._done, self.total),
                    self.total,
                )
            )
