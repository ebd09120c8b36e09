"""The archive of one table: writing its files, recording them, and checking them.

A file gets its name when it was compared with the table. Then the manifest names it,
and then the database. So of an interrupted run there is at most a file that nothing
names, which the next run replaces, or one that the database does not know, which the
next run compares with the table and records.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, select
from sqlalchemy.exc import DBAPIError

from sa_history.archiving.carriers import arrow_schema, read_columns, select_rows
from sa_history.archiving.folder import ArchiveFolder
from sa_history.archiving.manifest import ArchivedColumn, ArchivedPart, Manifest
from sa_history.archiving.part_files import (
    RowCount,
    first_difference,
    read_rows,
    shape_of,
    write_rows,
)
from sa_history.archiving.source import RowSource
from sa_history.archiving.tables import ArchivableTable
from sa_history.ddl.elements import Statement
from sa_history.ddl.execution import begin
from sa_history.ddl.partitions import RangePartition, lock_table
from sa_history.exc import ArchiveError
from sa_history.install.archived import ArchivedPartitions
from sa_history.sql.compose import Fragment, Ident, Joined, Qualified, Raw
from sa_history.util.postgresql import LOCK_NOT_AVAILABLE, sqlstate_of

OPEN = "pgh_part=open"
"""The folder of what comes after the last partition."""


class Meter:
    """Is told of rows as they are read; this one tells nobody."""

    def begin(self, table: str) -> None:
        """Note that work on a table begins."""

    def wrote(self, rows: int, size: int) -> None:
        """Note that rows were written, and the bytes that they take."""

    def compared(self, rows: int) -> None:
        """Note that rows were compared."""


@dataclass(frozen=True)
class Run:
    """What all tables of one call have in common.

    :param engine: the database.
    :param connection: a connection that commits each statement.
    :param source: reads the rows.
    :param second: another connection, which reads them again to compare.
    :param folder: the archive.
    :param lock_timeout: how long to wait for locks, in milliseconds.
    :param meter: is told how far it is.
    """

    engine: Engine
    connection: Connection
    source: RowSource
    second: RowSource
    folder: ArchiveFolder
    lock_timeout: int
    meter: Meter


class TableArchive:
    """Writes and checks the archive of one table.

    :param run: the call.
    :param table: the table.
    :param rows: what the database knows of its archived partitions.
    :param partitions: its partitions, in the order of their bounds.
    :param closed: those of them that are to be archived.
    :raises ArchiveError: the folder is not the one in which the table is archived.
    """

    def __init__(
        self,
        run: Run,
        table: ArchivableTable,
        rows: Sequence[Row[Any]],
        partitions: Sequence[RangePartition],
        closed: Sequence[RangePartition],
    ) -> None:
        self.table = table
        self.written: list[ArchivedPart] = []
        self.postponed: list[str] = []
        self.problems: list[str] = []
        self.verified: list[ArchivedPart] = []
        self.open: ArchivedPart | None = None
        self._run = run
        self._folder = run.folder
        self._folder.remove_unfinished(table.folder)
        manifest = self._folder.read_manifest(table.folder)
        if manifest is None:
            manifest = Manifest(str(table.name.schema), table.name.name, table.key)
        self.manifest = manifest
        self._require_known(rows)
        self._require_ours(rows, partitions)
        self._closed = [p for p in closed if not self._is_restored(rows, p)]
        self._recorded = {p.name: self._find_recorded(rows, p) for p in self._closed}

    def _require_known(self, rows: Sequence[Row[Any]]) -> None:
        """Refuse a folder that lacks what was archived.

        :param rows: what the database has recorded, as for those that follow.
        """
        parts = {part.path: part for part in self.manifest.parts}
        for row in rows:
            part = parts.get(row.path)
            if part is None or row.sha256 not in part.digests:
                raise ArchiveError(
                    f"{self._folder} has not {self.table.folder}/{row.path}, which was "
                    f"archived to {row.folder}; give that folder, or move all of it"
                )
            if row.folder != self._folder.name:
                self.table.archived.change(
                    self._run.connection, row.path, folder=self._folder.name
                )

    def _require_ours(
        self, rows: Sequence[Row[Any]], partitions: Sequence[RangePartition]
    ) -> None:
        """Refuse a folder with what the database has never had.

        What an interrupted run has written is compared with its partition later.
        """
        known = {row.path for row in rows}
        bounds = list(map(self.table.archived.bounds, partitions))
        for part in self.manifest.parts:
            if part.path not in known and (part.lower, part.upper) not in bounds:
                raise ArchiveError(
                    f"{self._folder} has {self.table.folder}/{part.path}, and the "
                    "database has neither a record of it nor such a partition; it may "
                    "be of another database, so archive into another folder"
                )

    def _is_restored(self, rows: Sequence[Row[Any]], partition: RangePartition) -> bool:
        """Return whether a partition has contexts that were archived with others.

        They came back into the partition that had replaced theirs.
        """
        if partition.lower is not None:
            return False
        there = [r for r in rows if r.dropped_at is None]
        number, upper = self.table.table.number, partition.upper or 0
        return any(number(row.upper_bound) < upper for row in there)

    def _find_recorded(
        self, rows: Sequence[Row[Any]], partition: RangePartition
    ) -> ArchivedPart | None:
        """Return the part of a partition that is recorded as it is now."""
        archived, connection = self.table.archived, self._run.connection
        row = archived.find(rows, partition)
        if row is None or archived.is_changed(connection, row, partition):
            return None
        return next(p for p in self.manifest.parts if p.path == row.path)

    def _unwritten(self) -> list[RangePartition]:
        return [p for p in self._closed if self._recorded[p.name] is None]

    def rows_to_read(self, verify: bool, still_open: bool) -> int:
        """Return how many rows :meth:`write_closed` and the others are going to read.

        :param verify: whether all files are compared.
        :param still_open: whether what comes after the last partition is written.
        """
        unwritten = self._unwritten()
        counted = [p for p in self._closed if verify]
        rows = sum(2 * self._count(partition.name) for partition in unwritten)
        rows += sum(self._count(partition.name) for partition in counted)
        if still_open:
            edge = self._closed[-1].upper if self._closed else self._edge
            rows += 2 * self._count(self.table.name, self._from(edge))
        return rows

    @property
    def _edge(self) -> int | None:
        """The key that the parts are below, or the lowest one if there are no parts."""
        number = self.table.table.number
        uppers = [number(p.upper) for p in self.manifest.parts if p.upper is not None]
        return max(uppers, default=self.table.lowest)

    def _count(self, name: Qualified, where: Fragment | None = None) -> int:
        parts = [Raw("SELECT count(*) FROM "), name]
        if where is not None:
            parts += [Raw(" WHERE "), where]
        query = Statement(Raw(Joined(tuple(parts)).render(str)))
        return int(self._run.connection.execute(query).scalar_one())

    def _from(self, lower: int | None) -> Fragment | None:
        """Return the condition of rows from a key on."""
        if lower is None:
            return None
        value = self.table.table.value(lower)
        return Joined((Ident(self.table.key), Raw(" >= "), value))

    def write_closed(self) -> None:
        """Write the closed partitions that the archive does not have yet."""
        self._run.meter.begin(self.table.name.dotted)
        for partition in self._unwritten():
            try:
                self._archive(partition)
            except (DBAPIError, ArchiveError) as error:
                if sqlstate_of(error.__cause__) != LOCK_NOT_AVAILABLE:
                    raise
                self._end_readings()
                name = partition.name.dotted
                self.postponed.append(f"archive {name}: others are writing it")
                return

    def _archive(self, partition: RangePartition) -> None:
        with begin(self._run.engine) as connection:
            self._lock(connection, partition)
            carried = read_columns(connection, partition.name)
            columns = tuple(c.column for c in carried)
            order_by = self.table.order_by
            query = select_rows(carried, partition.name, order_by).render(str)
            bounds = self.table.archived.bounds(partition)
            known = self._known(bounds)
            if known is not None and self._adopts(known, columns, query, partition):
                part = known
            else:
                self._forget_open()
                path = self._path(partition, known)
                # The server sorts for both readings at once.
                with self._run.second.begun(query, arrow_schema(columns)) as again:
                    part = self._write(path, columns, query, bounds, again)
                if known is not None:  # until the database knows the new one
                    part = replace(part, replaced=(*known.replaced, known.sha256))
                self._save(self.manifest.with_part(part))
            record_part(self.table.archived, connection, self._folder.name, part)
            # Before the locks end: the removal of the partition waits for readers.
            self._end_readings()
        self._recorded[partition.name] = part
        self.written.append(part)

    def _end_readings(self) -> None:
        self._run.source.end_transaction()
        self._run.second.end_transaction()

    def _lock(self, connection: Connection, partition: RangePartition) -> None:
        """Wait for who writes a partition, and keep writers out until the end."""
        # First, since one who waits for an exclusive lock waits for the connection that
        # keeps writers out, and whoever begins to read then waits for that one.
        for source in (self._run.source, self._run.second):
            source.lock(partition.name)
        for name, value in (
            ("lock_timeout", str(self._run.lock_timeout)),
            # It waits while a file is written.
            ("idle_in_transaction_session_timeout", "0"),
        ):
            connection.execute(select(func.set_config(name, value, True)))
        lock = lock_table(partition.name, "SHARE")
        connection.execute(Statement(Raw(lock.render(str))))

    def _known(self, bounds: tuple[str | None, str | None]) -> ArchivedPart | None:
        """Return the part with some bounds, that the manifest has."""
        parts = self.manifest.parts
        return next((p for p in parts if (p.lower, p.upper) == bounds), None)

    def _adopts(
        self,
        known: ArchivedPart,
        columns: tuple[ArchivedColumn, ...],
        query: str,
        partition: RangePartition,
    ) -> bool:
        """Return whether a part is of this partition, by an interrupted run.

        :return: False if it was written before the partition was changed.
        :raises ArchiveError: it is neither.
        """
        archived, connection = self.table.archived, self._run.connection
        if archived.find(archived.all(connection), partition) is not None:
            return False
        path = self.manifest.path(known)
        rows = self._run.source.batches(query, arrow_schema(columns))
        if known.columns == columns and self._difference(path, rows) is None:
            return True
        raise ArchiveError(
            f"{self._folder.path(path)} is not what {partition.name.dotted} has, and "
            "the database has no record of it; it may be of another database, so "
            "archive into another folder"
        )

    def _path(self, partition: RangePartition, known: ArchivedPart | None) -> str:
        if known is not None:
            return known.path
        start = self.table.start_of(partition, not self.manifest.parts)
        return f"pgh_part={start}/{self.table.file_name}"

    def _write(
        self,
        path: str,
        columns: tuple[ArchivedColumn, ...],
        query: str,
        bounds: tuple[str | None, str | None],
        again: Iterator[Any],
    ) -> ArchivedPart:
        """Write a file, compare it, and give it its name.

        :param again: the rows of the query by another reading.
        """
        schema, source = arrow_schema(columns), self._run.source
        whole = f"{self.table.folder}/{path}"
        count = RowCount(self.table.key, self.table.time)
        digest: list[tuple[str, int]] = []

        def write(stream: Any) -> None:
            batches = count.counted(source.batches(query, schema))
            write_rows(stream, columns, batches, self._run.meter.wrote)

        def check(written: str) -> None:
            position = self._difference(written, again)
            if position is not None:
                raise ArchiveError(
                    f"row {position + 1} of {self._folder.path(written)} is not what "
                    f"{self.table.name.dotted} has; nothing was archived of it. "
                    "Somebody may have changed it meanwhile, or the disk is failing"
                )
            size = self._folder.size(written)
            digest.append((self._folder.digest(written), size))

        self._folder.write(whole, write, check)
        ((sha256, size),) = digest
        return ArchivedPart(
            path=path,
            lower=bounds[0],
            upper=bounds[1],
            columns=columns,
            rows=count.rows,
            first_id=count.first_id,
            last_id=count.last_id,
            since=count.since,
            until=count.until,
            sha256=sha256,
            bytes=size,
            archived_at=datetime.datetime.now(datetime.timezone.utc).isoformat(),
        )

    def _difference(self, path: str, rows: Iterator[Any]) -> int | None:
        """Return the position of the first row of a file that differs from others."""
        with self._folder.open_file(path) as file:
            return first_difference(read_rows(file), rows, self._run.meter.compared)

    def _save(self, manifest: Manifest) -> None:
        self.manifest = replace(manifest, versions=_versions())
        self._folder.write_manifest(self.manifest)

    def _forget_open(self) -> None:
        """Remove the open part, before a partition is archived that it has, too."""
        if self.manifest.open is not None:
            self._save(replace(self.manifest, open=None))
        # Also what a run has left that was killed before it came to this.
        self._folder.remove(f"{self.table.folder}/{OPEN}")

    def write_open(self) -> None:
        """Write what comes after the last partition, in place of an earlier file."""
        self._run.meter.begin(self.table.name.dotted)
        carried = read_columns(self._run.connection, self.table.name)
        columns = tuple(c.column for c in carried)
        lower = self._edge
        query = select_rows(
            carried, self.table.name, self.table.order_by, self._from(lower)
        ).render(str)
        part = self._write(
            f"{OPEN}/{self.table.file_name}",
            columns,
            query,
            (None if lower is None else self.table.table.text(lower), None),
            # By the connection with the snapshot, when the first reading has ended.
            self._run.source.batches(query, arrow_schema(columns)),
        )
        self._save(replace(self.manifest, open=part))
        self.open = part

    def verify(self) -> None:
        """Compare the files with their digests, and with what the database has."""
        self._run.meter.begin(self.table.name.dotted)
        intact = []
        for each in self.manifest.parts:
            problem = self._file_problem(each)
            if problem is None:
                intact.append(each)
            else:
                self.problems.append(problem)
        for partition in self._closed:
            part = self._recorded[partition.name]
            if part not in intact:
                continue
            problem = self._partition_problem(part, partition)
            if problem is not None:
                self.problems.append(problem)
                intact.remove(part)
        self.verified = intact

    def _partition_problem(
        self, part: ArchivedPart, partition: RangePartition
    ) -> str | None:
        """Return how a partition differs from its file, in words."""
        name, stored = partition.name.dotted, self.manifest.path(part)
        path = self._folder.path(stored)
        # Columns that were added since then are NULL in old rows.
        wanted = [c.name for c in part.columns]
        found = read_columns(self._run.connection, partition.name)
        columns = [c for c in found if c.column.name in wanted]
        if tuple(c.column for c in columns) != part.columns:
            return f"{path} has other columns than {name}"
        query = select_rows(columns, partition.name, self.table.order_by)
        rows = self._run.source.batches(query.render(str), arrow_schema(part.columns))
        position = self._difference(stored, rows)
        self._run.source.end_transaction()
        if position is None:
            return None
        return f"{path} differs from {name} in row {position + 1}"

    def _file_problem(self, part: ArchivedPart) -> str | None:
        stored = self.manifest.path(part)
        path = self._folder.path(stored)
        if not self._folder.exists(stored):
            return f"{path} is missing"
        digest = self._folder.digest(stored)
        if digest == part.sha256:
            return self._manifest_problem(part)
        if digest in part.replaced:
            return (
                f"{path} still has values that were to be erased; run the erasure again"
            )
        return f"{path} has another digest than the manifest says"

    def _manifest_problem(self, part: ArchivedPart) -> str | None:
        """Return what the manifest says of a file and is not so, in words."""
        stored = self.manifest.path(part)
        with self._folder.open_file(stored) as file:
            rows, schema = shape_of(file)
        path = self._folder.path(stored)
        if rows != part.rows:
            return f"{path} has {rows} rows, and the manifest says {part.rows}"
        if not schema.equals(arrow_schema(part.columns)):
            return f"{path} has other columns than the manifest says"
        return None

    def intact(self) -> list[str]:
        """Return the paths of the parts whose files are as they were written.

        Only of those that the database still has; what is wrong with the others is
        among the problems.
        """
        found = []
        for partition in self._closed:
            part = self._recorded[partition.name]
            if part is None:
                continue
            problem = self._file_problem(part)
            if problem is None:
                found.append(part.path)
            else:
                self.problems.append(problem)
        return found


def record_part(
    archived: ArchivedPartitions,
    connection: Connection,
    folder: str,
    part: ArchivedPart,
    **values: Any,
) -> None:
    """Record a part as one that is in an archive and in the database.

    :param archived: what the database knows of the table's archive.
    :param folder: the archive.
    :param part: the part.
    :param values: values of other columns.
    """
    archived.record(
        connection,
        path=part.path,
        lower_bound=part.lower,
        upper_bound=part.upper,
        folder=folder,
        rows=part.rows,
        first_id=part.first_id,
        last_id=part.last_id,
        since=part.earliest,
        until=part.latest,
        sha256=part.sha256,
        **values,
    )


@functools.cache
def _versions() -> tuple[tuple[str, str], ...]:
    names = ("sa_history", "pyarrow", "adbc-driver-postgresql")
    return tuple((name, version(name)) for name in names)
