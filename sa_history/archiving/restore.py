"""Restoring: archived partitions that were dropped come back into the database."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from sa_history.archiving.folder import ArchiveFolder
from sa_history.archiving.loading import load_part
from sa_history.archiving.manifest import MANIFEST, ArchivedPart, Manifest
from sa_history.archiving.table_archive import record_part
from sa_history.archiving.tables import (
    ArchivableTable,
    ContextsToArchive,
    EventsToArchive,
    tables_of,
)
from sa_history.capture.partitioning import FIRST_ID, KEPT_OFFSET
from sa_history.ddl.execution import schema_names, time_in_database
from sa_history.ddl.partitions import (
    RangePartition,
    comment_on_table,
    drop_table,
    time_check,
    validate_time_check,
)
from sa_history.ddl.table_properties import disabled_triggers
from sa_history.exc import ArchiveError
from sa_history.install.context_partitions import ContextMaintenance
from sa_history.install.event_partitions import EventMaintenance
from sa_history.install.maintenance import turn
from sa_history.install.partition_state import sorted_out
from sa_history.install.partition_steps import RunSettings
from sa_history.install.survey import explained
from sa_history.query.removed_events import read_horizon
from sa_history.sql.compose import Ident, Joined, Qualified, Raw, SchemaNames
from sa_history.util.arguments import metadata_of


@dataclass(frozen=True)
class RestoreReport:
    """What was restored of one table.

    :param table: the table, with its schema.
    :param restored: the archived partitions, in the order in which they were restored.
    :param rows: how many rows came back; a context that is there already is none.

    Example::

        for report in history.restore(engine, "archive", Base):
            print(report.table, report.rows)
    """

    table: str
    restored: tuple[ArchivedPart, ...]
    rows: int


def restore(
    bind: Engine,
    folder: Any,
    *models: MetaData | type[Any],
    since: datetime.datetime | None = None,
    progress: Callable[[ArchivedPart], None] | None = None,
    lock_timeout: int = 500,
) -> list[RestoreReport]:
    """Bring events and contexts back that are in an archive and not in the database.

    Events become partitions of their tables again, the newest first, each in a
    transaction of its own. Their times can be asked for then as before. An empty
    database, to which the tables were migrated, gets all of them. The archive stays as
    it is; contexts that were restored stay in the database.

    :param bind: an engine of psycopg or psycopg2, whose user owns the tables.
    :param folder: the folder of the archive, as :func:`archive` takes it.
    :param models: declarative bases or MetaData.
    :param since: restore no partition of events all of which are older; None for all.
        What rows were like is not known then before all events are restored.
    :param progress: called after each partition; None for no calls.
    :param lock_timeout: how long to wait for locks, in milliseconds.
    :return: a report for each table that is in the archive.
    :raises ArchiveError: there is no archive of the models, or it lacks a manifest or
        what was dropped; a file is not what its manifest says; the database has other
        events with such numbers. What was restored before stays.
    :raises InstallError: a table has no partitions in the database.

    Example::

        history.restore(engine, "archive", Base)
    """
    if not isinstance(bind, Engine):
        raise ArchiveError(
            f"restore takes an engine, got {bind!r}; give one of create_engine(...), "
            "such as of psycopg"
        )
    metadatas = [metadata_of(model, ArchiveError) for model in models]
    opened = ArchiveFolder(folder)
    settings = RunSettings(bind, lock_timeout, attempts=1)
    reports = []
    try:
        with turn(bind) as connection:
            schemas, now = schema_names(connection), time_in_database(connection)
            for metadata in metadatas:
                for archivable in tables_of(metadata, schemas, now):
                    manifest = _manifest(opened, archivable, connection)
                    if manifest is None:
                        continue
                    restoration = _restoration(
                        archivable, settings, connection, schemas
                    )
                    restoration.begin(opened, manifest, archivable)
                    reports.append(restoration.restore(since, progress or _no_progress))
    except DBAPIError as error:
        raise ArchiveError(explained(error)) from error
    if not reports:
        raise opened.lacks_models()
    return reports


def _manifest(
    folder: ArchiveFolder, table: ArchivableTable, connection: Connection
) -> Manifest | None:
    """Return the manifest of a table; None if the archive has nothing of it.

    :raises ArchiveError: the archive has lost something of it.
    """
    manifest = folder.read_manifest(table.folder)
    if manifest is None and folder.has_folder(table.folder):
        raise ArchiveError(
            f"{folder.path(table.folder)} has no {MANIFEST}, which says what is in it; "
            "restore the file from a backup"
        )
    paths = [part.path for part in manifest.parts] if manifest else []
    for row in table.archived.all(connection):
        if row.dropped_at is not None and row.path not in paths:
            raise ArchiveError(
                f"{folder} has not {table.folder}/{row.path}, which was archived to "
                f"{row.folder} and dropped; give that folder, or move all of it"
            )
    return manifest


def _no_progress(part: ArchivedPart) -> None:
    """Tell nobody."""


def _restoration(
    table: ArchivableTable,
    settings: RunSettings,
    connection: Connection,
    schemas: SchemaNames,
) -> _EventRestoration | _ContextRestoration:
    if isinstance(table, EventsToArchive):
        return _EventRestoration(
            settings, connection, table.tracking, table.partitioning, schemas
        )
    assert isinstance(table, ContextsToArchive)
    return _ContextRestoration(
        settings, connection, table.partitioning, table.trackings, schemas
    )


class _Restoration:
    """What restoring events and restoring contexts have in common."""

    folder: ArchiveFolder
    manifest: Manifest
    archivable: ArchivableTable

    def begin(
        self, folder: ArchiveFolder, manifest: Manifest, table: ArchivableTable
    ) -> None:
        """Note what is restored.

        :param folder: the archive.
        :param manifest: that of the table.
        :param table: the table.
        """
        self.folder = folder
        self.manifest = manifest
        self.archivable = table

    def missing(self, connection: Connection) -> list[ArchivedPart]:
        """Return the parts that the database does not have, the newest first."""
        rows = self.archivable.archived.all(connection)
        there = {row.path for row in rows if row.dropped_at is None}
        return [p for p in reversed(self.manifest.parts) if p.path not in there]

    def note(self, connection: Connection, part: ArchivedPart) -> None:
        """Note that the database has a part again."""
        record_part(
            self.archivable.archived,
            connection,
            self.folder.name,
            part,
            archived_at=datetime.datetime.fromisoformat(part.archived_at),
        )


class _EventRestoration(_Restoration, EventMaintenance):
    """Restores the partitions of an event table."""

    def restore(
        self,
        since: datetime.datetime | None,
        progress: Callable[[ArchivedPart], None],
    ) -> RestoreReport:
        """Restore what is missing, and return what that was."""
        missing = [
            part
            for part in self.missing(self.connection)
            if since is None or part.latest is None or part.latest >= since
        ]
        if missing:
            self._require_room(missing)
        for part in missing:
            self._put_back(part)
            progress(part)
        rows = sum(part.rows for part in missing)
        return RestoreReport(self.table.name.dotted, tuple(missing), rows)

    def _require_room(self, missing: list[ArchivedPart]) -> None:
        """Make room for partitions in a table without events.

        :raises ArchiveError: there are events in partitions that overlap them.
        """
        lower, upper = _bounds(missing[-1])[0], _bounds(missing[0])[1]
        _, used = sorted_out(self.partitions(self.connection))
        covering = [p for p in used if _overlaps(p, missing)]
        if not covering:
            return
        with self.transaction() as connection:
            self.lock(connection, "ACCESS EXCLUSIVE")
            for partition in covering:
                events = self.state.rows_of(partition.name)
                first = connection.execute(select(events.c.pgh_id).limit(1)).first()
                if first is not None or not partition.is_tail:
                    raise ArchiveError(
                        f"{partition.name.dotted} has some of the numbers {lower} to "
                        f"{upper - 1} of the archive, which the database does not say "
                        "were dropped; restore into an empty database"
                    )
                self.execute(connection, drop_table(partition.name))
            # Whose numbers begin after those of the archive from now on.
            tail = self.partitioning.name(upper).in_database(self.schemas)
            self.create_partition(connection, tail, upper, None)
            last = max(upper, self.state.next_id(connection)) - 1
            sequence = self.state.sequence.render(str)
            connection.execute(select(func.setval(sequence, last)))

    def _put_back(self, part: ArchivedPart) -> None:
        """Make a part a partition again, in one transaction."""
        lower, upper = _bounds(part)
        name = self.partitioning.name(lower).in_database(self.schemas)
        with self.transaction() as connection:
            self.execute(connection, self.table.create_alike(name))
            load_part(connection, self.folder, self.manifest, part, name)
            events = self.state.rows_of(name)
            time, now = events.c.pgh_created_at, func.clock_timestamp()
            ends = (func.coalesce(end(time), now) for end in (func.min, func.max))
            since, until = connection.execute(select(*ends)).one()
            self.execute(
                connection,
                time_check(name, since, until),
                validate_time_check(name),
                self.table.attach(name, lower, upper),
            )
            self.adopt(connection, name)
            self._move_horizon(connection, part)
            self.note(connection, part)

    def _move_horizon(self, connection: Connection, part: ArchivedPart) -> None:
        """Note that events are known from an earlier number on."""
        before = read_horizon(connection, self.tracking)
        if before is None:
            return
        lower, _ = _bounds(part)
        self._find_kept(self.partitions(connection))  # as the horizon is noted on it
        kept = self.state.rows_of(self.kept)
        if lower <= FIRST_ID:
            with disabled_triggers(connection, self.kept):
                connection.execute(delete(kept))
            self.execute(connection, comment_on_table(self.kept, self.comment))
            return
        # They came back themselves; what was before in their rows is not known.
        is_back = kept.c.pgh_id >= lower - KEPT_OFFSET
        with disabled_triggers(connection, self.kept):
            connection.execute(delete(kept).where(is_back))
        horizon = replace(before, first_id=lower, keeps_last=False)
        self.execute(connection, comment_on_table(self.kept, horizon.comment))


class _ContextRestoration(_Restoration, ContextMaintenance):
    """Restores the contexts of a context table."""

    def restore(
        self,
        since: datetime.datetime | None,
        progress: Callable[[ArchivedPart], None],
    ) -> RestoreReport:
        """Restore what is missing, and return what that was."""
        missing = self.missing(self.connection)
        rows = 0
        for part in missing:
            rows += self._put_back(part)
            progress(part)
        return RestoreReport(self.table.name.dotted, tuple(missing), rows)

    def _put_back(self, part: ArchivedPart) -> int:
        """Insert the contexts of a part that are not there, in one transaction."""
        loaded = Qualified("pg_temp", "pghistory_restored")
        with self.transaction() as connection:
            like = (Raw(" (LIKE "), self.table.name, Raw(") ON COMMIT DROP"))
            create = Raw("CREATE TEMPORARY TABLE ") + Ident(loaded.name)
            self.execute(connection, Joined((create, *like)))
            load_part(connection, self.folder, self.manifest, part, loaded)
            contexts, again = self._rows_of(self.table.name), self._rows_of(loaded)
            # Who goes on in an old context has stored it once more.
            found = connection.execute(
                insert(contexts)
                .from_select(again.c.keys(), select(*again.c))
                .on_conflict_do_nothing(),
                execution_options={"preserve_rowcount": True},
            )
            self.note(connection, part)
        return found.rowcount


def _bounds(part: ArchivedPart) -> tuple[int, int]:
    assert part.lower is not None
    assert part.upper is not None
    return int(part.lower), int(part.upper)


def _overlaps(partition: RangePartition, parts: list[ArchivedPart]) -> bool:
    first, end = partition.lower or FIRST_ID, partition.upper
    return any(
        first < upper and (end is None or end > lower)
        for lower, upper in map(_bounds, parts)
    )
