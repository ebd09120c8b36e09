"""Verification of sealed events, in the database and in an archive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, select

from sa_history.archiving.archived_rows import (
    LedgerWithArchive,
    LoadedTable,
    numbers_of,
)
from sa_history.archiving.folder import ArchiveFolder
from sa_history.archiving.manifest import ArchivedPart
from sa_history.capture.archive_table import archive_table_of
from sa_history.capture.context_storage import CONTEXT_ID_COLUMN
from sa_history.capture.partitioning import FIRST_ID
from sa_history.exc import ArchiveError
from sa_history.sealing.chain import Seal, SealDigest
from sa_history.sealing.discrepancies import Discrepancy, SealProblem, Verification
from sa_history.sealing.sources import Ledger, SealedTable
from sa_history.sealing.verify import Verifier, verify_seals


def verify(
    bind: Engine | Connection,
    *models: MetaData | type[Any],
    digest: SealDigest | None = None,
    archive: Any = None,
) -> Verification:
    """Compare sealed events with their seals, and the seals with one another.

    It only reads, and locks nothing. Events that are not sealed yet are not looked at.
    Whoever can write the database can make all seals anew, which only a digest from
    outside of it shows.

    :param bind: an engine or a connection; of an async one, ``await
        connection.run_sync(verify, Base)``.
    :param models: declarative bases or MetaData.
    :param digest: what :func:`seal` has returned at any earlier time, kept where nobody
        can write who can write the database; None to do without.
    :param archive: the folder of an archive, as :func:`archive` takes it, whose files
        are verified by the same seals; None to verify the database alone. The bind is
        one of psycopg or psycopg2 then, and may make temporary tables.
    :return: what was found.
    :raises SealError: no model is sealed, or the tables of seals are missing.
    :raises ArchiveError: the folder is no archive, or a manifest cannot be read.

    Example::

        found = history.verify(engine, Base, digest=digest, archive="/archive")
        assert not found.discrepancies, found.discrepancies[0]
    """
    if archive is None:
        return verify_seals(bind, models, digest)
    folder = ArchiveFolder(archive)
    if not folder.folders():
        raise ArchiveError(f"{folder} is no archive; give the folder that has one")

    def archived(
        ledger: Ledger,
        seals: Sequence[Seal],
        tables: Sequence[SealedTable],
        found: list[Discrepancy],
    ) -> list[Discrepancy]:
        return _ArchiveVerification(ledger, folder, seals, tables).added_to(found)

    return verify_seals(bind, models, digest, archived)


class _ArchiveVerification:
    """The verification of the files of an archive by one chain of seals."""

    def __init__(
        self,
        ledger: Ledger,
        folder: ArchiveFolder,
        seals: Sequence[Seal],
        tables: Sequence[SealedTable],
    ) -> None:
        self._ledger = LedgerWithArchive.of(ledger, folder, with_kept=False)
        self._folder = folder
        self._seals = seals
        self._tables = tables
        self._verified: list[Seal] = []
        self._unreadable: set[str] = set()
        self._problems: list[Discrepancy] = []

    def added_to(self, found: list[Discrepancy]) -> list[Discrepancy]:
        """Return what was found in the database, with what is found in the archive.

        What is not in the database is no more told as removed if the archive has it.
        """
        numbers = {
            table.fullname: [numbers_of(part) for part in archived.manifest.parts]
            for table, archived in self._ledger.archived.items()
            if not archived.manifest.has_contexts
        }
        verifier = Verifier(self._ledger, self._seals, self._tables, numbers)
        new: list[Discrepancy] = []
        for archived in self._ledger.archived.values():
            self._problems += self._of_files(archived)
        for sealed in self._tables:
            archived_events = self._ledger.archived.get(sealed.table)
            if archived_events is not None:
                own = [s for s in self._seals if s.table_name == sealed.name]
                new += verifier.discrepancies_of_seals(
                    own, partial(self._load, archived_events)
                )
                archived_events.forget(archived_events.manifest.parts)
        known = {str(one) for one in found}
        in_archive = [
            replace(one, in_archive=one.problem is not SealProblem.REMOVED)
            for one in new
            if str(one) not in known
        ]
        return [
            *(one for one in found if not self._has(one)),
            *in_archive,
            *self._problems,
        ]

    def _has(self, one: Discrepancy) -> bool:
        """Return whether the archive has what was removed from the database."""
        told = SealProblem.REMOVED, SealProblem.UNREADABLE
        return one.problem in told and any(
            seal.table_name == one.table
            and seal.first_id <= one.last_id <= seal.last_id
            for seal in self._verified
        )

    def _load(self, archived: LoadedTable, seal: Seal) -> bool:
        """Load the parts that have events of a seal, and their contexts.

        :return: False if there are none, or they cannot be loaded.
        """
        parts = [p for p in archived.manifest.parts if _has_some(p, seal)]
        is_whole = bool(parts) and int(parts[-1].upper or 0) > seal.last_id
        if not is_whole and not {*seal.leaf_columns.columns} <= archived.types.keys():
            return False  # the database has some of its events, and not their columns
        archived.forget(p for p in archived.manifest.parts if p not in parts)
        loaded = [self._is_loaded(archived, part) for part in parts]
        contexts = self._ledger.archived.get(self._ledger.history.shared.context_table)
        refers = seal.leaf_columns.refers_to_contexts
        if contexts is not None and refers and parts and all(loaded):
            wanted = self._contexts_of(archived, contexts)
            contexts.forget(p for p in contexts.manifest.parts if p not in wanted)
            loaded += [self._is_loaded(contexts, part) for part in wanted]
        is_verified = bool(parts) and all(loaded)
        if is_verified:
            self._verified.append(seal)
        return is_verified

    def _is_loaded(self, archived: LoadedTable, part: ArchivedPart) -> bool:
        path = archived.manifest.path(part)
        if path in self._unreadable:
            return False
        try:
            archived.load(part)
        except ArchiveError as error:
            self._unreadable.add(path)
            self._problems.append(
                _of_file(SealProblem.UNREADABLE, archived, part, str(error))
            )
            return False
        return True

    def _contexts_of(
        self, archived: LoadedTable, contexts: LoadedTable
    ) -> list[ArchivedPart]:
        """Return the parts that may have contexts of the events that are loaded."""
        events = self._ledger.place(archived.table, [CONTEXT_ID_COLUMN])
        number = events.c[CONTEXT_ID_COLUMN]
        first, last = (
            self._ledger.connection.scalar(
                select(number).where(number.is_not(None)).order_by(by).limit(1)
            )
            for by in (number, number.desc())
        )
        return [
            part
            for part in contexts.manifest.parts
            if first is not None
            and (part.upper is None or str(first) < part.upper)
            and (part.lower is None or part.lower <= str(last))
        ]

    def _of_files(self, archived: LoadedTable) -> Iterator[Discrepancy]:
        """Yield the files that are not those that were archived."""
        for part in archived.manifest.parts:
            path = archived.manifest.path(part)
            if not self._folder.exists(path):
                self._unreadable.add(path)
                yield _of_file(
                    SealProblem.UNREADABLE, archived, part, f"{path} is gone"
                )
                continue
            digest = self._folder.digest(path)
            if digest != part.sha256:
                what = (
                    "has values that were to be erased; erase them again"
                    if digest in part.replaced
                    else "is another file than the manifest says"
                )
                yield _of_file(SealProblem.CHANGED, archived, part, f"{path} {what}")
        yield from self._of_records(archived)

    def _of_records(self, archived: LoadedTable) -> Iterator[Discrepancy]:
        """Yield the parts that the database knows and the manifest does not."""
        known = archive_table_of(self._ledger.history.metadata)
        connection = self._ledger.connection
        if known is None or not self._ledger.columns_in_database(known):
            return
        rows = self._ledger.place(known)
        there = {part.path: part for part in archived.manifest.parts}
        query = select(rows).where(rows.c.table_name == archived.manifest.name)
        for row in connection.execute(query):
            part = there.get(row.path)
            if part is None and row.dropped_at is not None:
                first, last = _numbers(row.first_id, row.last_id)
                yield Discrepancy(
                    SealProblem.MISSING,
                    archived.table.fullname,
                    first,
                    last,
                    (),
                    f"the archive has no {archived.manifest.folder}/{row.path}",
                    True,
                )
            elif part is not None and row.sha256 not in part.digests:
                path = archived.manifest.path(part)
                what = f"{path} is not what the database has archived"
                yield _of_file(SealProblem.CHANGED, archived, part, what)


def _has_some(part: ArchivedPart, seal: Seal) -> bool:
    """Return whether a part may have events of a seal."""
    lower = FIRST_ID if part.lower is None else int(part.lower)
    return lower <= seal.last_id and (
        part.upper is None or int(part.upper) > seal.first_id
    )


def _of_file(
    problem: SealProblem, archived: LoadedTable, part: ArchivedPart, detail: str
) -> Discrepancy:
    first, last = _numbers(part.first_id, part.last_id)
    return Discrepancy(problem, archived.table.fullname, first, last, (), detail, True)


def _numbers(first: str | None, last: str | None) -> tuple[int, int]:
    """Return the numbers of events; zeros for contexts, which have none."""
    if first is None or last is None or not first.lstrip("-").isdigit():
        return 0, 0
    return int(first), int(last)
