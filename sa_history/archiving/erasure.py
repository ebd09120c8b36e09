"""Erasure of personal data, in the database and in the files of an archive."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, overload

from sqlalchemy import (
    ARRAY,
    Connection,
    Engine,
    MetaData,
    Text,
    event,
    exists,
    func,
    literal,
    select,
    update,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session, SessionTransaction

from sa_history.archiving.archived_rows import LedgerWithArchive, LoadedTable
from sa_history.archiving.carriers import TEXT
from sa_history.archiving.folder import ArchiveFolder
from sa_history.archiving.manifest import ArchivedPart, Manifest
from sa_history.archiving.packages import load
from sa_history.archiving.part_files import is_same, read_rows
from sa_history.archiving.rewriting import rewrite_part, with_column, with_nulls
from sa_history.capture.archive_table import archive_table_of
from sa_history.capture.context_storage import CONTEXT_COLUMN
from sa_history.capture.event_table import OLD_KEY, key_columns
from sa_history.capture.seal_tables import ERASED_COLUMN
from sa_history.definition.mapped_tables import Model
from sa_history.exc import ArchiveError, ErasureError, EventsError
from sa_history.install.maintenance import turn
from sa_history.sealing.chain import read_seals
from sa_history.sealing.erase import Erasure, erase_history
from sa_history.sealing.erase_contexts import erased_context_keys, nulled
from sa_history.sealing.sources import Ledger, canonical_settings, ledger_of
from sa_history.tracking.databases import ModelSession
from sa_history.tracking.events import trackings_with_subclasses
from sa_history.tracking.registry import Tracking
from sa_history.util.sessions import (
    AnyAsyncSession,
    SyncSession,
    is_async_session,
    session_of,
)


@overload
def erase(
    session: SyncSession,
    model: Model,
    *keys: Any,
    reason: str | None = ...,
    dry_run: bool = ...,
    archive: Any = ...,
) -> Erasure: ...


@overload
def erase(
    session: AnyAsyncSession,
    model: Model,
    *keys: Any,
    reason: str | None = ...,
    dry_run: bool = ...,
    archive: Any = ...,
) -> Awaitable[Erasure]: ...


def erase(
    session: SyncSession | AnyAsyncSession,
    model: Model,
    *keys: Any,
    reason: str | None = None,
    dry_run: bool = False,
    archive: Any = None,
) -> Erasure | Awaitable[Erasure]:
    """Erase the personal data of objects from their history, within the transaction.

    What ``track(erasable=, erasable_context=)`` names becomes NULL in all events of the
    objects, and in the contexts of these events, with those contexts that have the same
    values from a block around them, or within them. The events remain, with all else
    that they have, and :func:`verify` goes on to find them as they were sealed. It
    finds a value that is put back. Who erased, when and why is recorded in the log of
    erasures.

    If nothing is left, since all of it was erased before, nothing is recorded, and the
    numbers returned are 0 and None.

    An object of a joined subclass, which a class above it may name, has events in
    several tables, all of which are erased.

    The rows themselves are not changed: update or delete them before, in the same
    transaction. They are locked, so that nobody records more of them meanwhile. Backups
    and the write-ahead log keep the values until they expire.

    Events of a table with ``append_only=True`` can be erased by the table's owner, who
    has its trigger off for as long as it takes; writers of the table wait for that.

    The files of an archive are written anew when the session commits, one after the
    other. After an interruption the same call does the rest.

    :param session: the session to write in. With an async one, await the result.
    :param model: a tracked class or table.
    :param keys: the keys of the objects, a tuple for a key of several columns. The
        objects need not exist any more.
    :param reason: why, for the log; None for no reason. It is kept, so name no person.
    :param dry_run: True to change nothing, and return what would be erased.
    :param archive: the folder of the archive, as :func:`archive` takes it, if events of
        the model are archived; the session is a sync one of psycopg or psycopg2 then,
        and may make temporary tables. None without an archive.
    :return: how much was erased.
    :raises ErasureError: nothing of the model can be erased; an event was sealed before
        the model had these options; another row has taken a key that the object had;
        events of the model are archived, and no archive is given; a partition that
        somebody has detached has events of the object; or the transaction
        is not READ COMMITTED, and so would not see what was sealed or removed since it
        began.
    :raises ArchiveError: a file of the archive cannot be read, or the archive is that
        of another database.
    :raises EventsError: the model is not tracked, or a key has another number of
        columns, is None, or is no integer where the column has integers.

    Example::

        history.erase(session, Person, 7, reason="request of 2026-11-28")
        await history.erase(async_session, Person, 7)
        history.erase(session, Person, 7, archive="/archive")
    """
    target = session_of(session, "erase", EventsError)
    if archive is None:
        if is_async_session(target):
            awaitable: Awaitable[Erasure] = target.run_sync(
                _erase_in_database, model, keys, reason, dry_run
            )
            return awaitable
        return _erase_in_database(target, model, keys, reason, dry_run)
    if is_async_session(target):
        raise ErasureError(
            "the files of an archive are erased with a sync session; give a Session of "
            "an engine of psycopg"
        )
    archived = _ArchivedHistory(ArchiveFolder(archive))
    done = erase_history(target, model, keys, reason, dry_run, archived)
    archived.forget()
    if not dry_run:
        archived.rewrite_after(target, done.number)
    return done


def _erase_in_database(
    session: Session, model: Model, keys: Sequence[Any], reason: str | None, dry: bool
) -> Erasure:
    for tracking in trackings_with_subclasses(model):
        _require_unarchived(session, tracking)
    return erase_history(session, model, keys, reason, dry)


def _require_unarchived(session: Session, tracking: Tracking) -> None:
    """Refuse to erase of the database alone what an archive has as well.

    :raises ErasureError: events of the table are archived.
    """
    known = archive_table_of(tracking.table.metadata)
    if known is None:
        return
    connection = session.connection(ModelSession(session, tracking).bind_arguments)
    ledger = ledger_of(connection, tracking.table.metadata, ErasureError)
    if not ledger.columns_in_database(known):
        return
    rows = ledger.place(known)
    tables = [tracking.event_table]
    if tracking.options.erasable_context:
        tables.append(ledger.history.shared.context_table)
    names = [f"{ledger.schemas(table.schema)}.{table.name}" for table in tables]
    folder = connection.scalar(
        select(rows.c.folder).where(rows.c.table_name.in_(names)).limit(1)
    )
    if folder is not None:
        raise ErasureError(
            f"events of {tracking.subject} are archived in {folder}, where the values "
            "would stay; give erase(..., archive=) that folder, or on a command line "
            "--archive"
        )


class _ArchivedHistory:
    """The archive of an erasure.

    :param folder: the archive.
    """

    def __init__(self, folder: ArchiveFolder) -> None:
        self._folder = folder
        self._ledger: LedgerWithArchive | None = None

    def ledger(self, ledger: Ledger) -> Ledger:
        """Return a ledger that sees what is loaded of the archive."""
        self._ledger = LedgerWithArchive.of(ledger, self._folder, with_kept=True)
        if not self._ledger.archived:
            raise self._folder.lacks_models()
        for archived in self._ledger.archived.values():
            _require_own(self._ledger, archived)
            _require_files(archived)
        return self._ledger

    def load_events(self, tracking: Tracking, keys: Sequence[tuple[Any, ...]]) -> None:
        """Load the events that may be of objects, and those that changed a key."""
        assert self._ledger is not None
        archived = self._ledger.archived.get(tracking.event_table)
        if archived is None:
            return
        columns = key_columns(tracking.tracked_columns, tracking.event_table)
        values = [[key[place] for key in keys] for place in range(len(columns))]
        texts = [
            _texts(self._ledger, column.type, given)
            for column, given in zip(columns, values, strict=True)
        ]

        def keep(batch: Any) -> Any:
            compute = load("pyarrow.compute")
            is_moved = compute.is_valid(batch.column(OLD_KEY))
            is_one = None
            for column, given, written in zip(columns, values, texts, strict=True):
                found = _is_in(batch.column(column.name), given, written)
                is_one = found if is_one is None else compute.and_(is_one, found)
            return batch.filter(compute.or_(is_moved, is_one))

        _load_anew(archived, keep)

    def load_contexts(self, ids: Sequence[Any]) -> None:
        """Load contexts by their ids, and those that are nested in them."""
        assert self._ledger is not None
        shared = self._ledger.history.shared
        archived = self._ledger.archived.get(shared.context_table)
        if archived is None:
            return
        texts = [str(one) for one in ids]

        def keep(batch: Any) -> Any:
            by_id, by_parent = (
                _is_in(batch.column(name), ids, texts) for name in ("id", "parent_id")
            )
            return batch.filter(load("pyarrow.compute").or_(by_id, by_parent))

        _load_anew(archived, keep)

    def forget(self) -> None:
        """Drop what is loaded."""
        assert self._ledger is not None
        for archived in self._ledger.archived.values():
            archived.forget(archived.manifest.parts)

    def rewrite_after(self, session: Session, number: int | None) -> None:
        """Have the files written anew once a session has committed.

        :param number: the number of the erasure; None to do what is left of others.
        """
        assert self._ledger is not None
        connection, metadata = self._ledger.connection, self._ledger.history.metadata
        known = connection.get_execution_options()
        options = {n: v for n, v in known.items() if n == "schema_translate_map"}
        engine = connection.engine.execution_options(**options)
        waits, is_committed = True, False

        def committed(session: Session) -> None:
            nonlocal is_committed
            is_committed = session.get_nested_transaction() is None

        def ended(session: Session, transaction: SessionTransaction) -> None:
            nonlocal waits
            if transaction.parent is None and waits:
                waits = False
                if is_committed:
                    rewrite_erased(engine, metadata, self._folder, number)

        event.listen(session, "after_commit", committed)
        event.listen(session, "after_transaction_end", ended)


def _load_anew(archived: LoadedTable, keep: Callable[[Any], Any]) -> None:
    parts = archived.manifest.parts
    archived.forget(parts)
    for part in parts:
        archived.load(part, keep)


def _require_own(ledger: LedgerWithArchive, archived: LoadedTable) -> None:
    """Refuse an archive of which the database knows nothing.

    Numbers and keys of another database are those of others, whose values they are.

    :raises ArchiveError: the database has not archived a file.
    """
    known = archive_table_of(ledger.history.metadata)
    recorded: dict[str, str] = {}
    if known is not None and ledger.columns_in_database(known):
        rows = ledger.place_own(known)
        query = select(rows.c.path, rows.c.sha256).where(
            rows.c.table_name == archived.manifest.name
        )
        recorded = {row.path: row.sha256 for row in ledger.connection.execute(query)}
    for part in archived.manifest.parts:
        if recorded.get(part.path) not in part.digests:
            path = archived.folder.path(archived.manifest.path(part))
            raise ArchiveError(
                f"{path} is no file that this database has archived; give the folder "
                "of its own archive"
            )


def _require_files(archived: LoadedTable) -> None:
    """Refuse files that are not what was archived.

    The commitments that an erasure makes would be to other values for ever.

    :raises ArchiveError: there is such a file.
    """
    for part in archived.manifest.parts:
        path = archived.manifest.path(part)
        is_there = archived.folder.exists(path)
        if not is_there or archived.folder.digest(path) not in part.digests:
            raise ArchiveError(
                f"{archived.folder.path(path)} is "
                f"{'not what its manifest says' if is_there else 'missing'}; restore "
                "it from a backup before values in it are erased"
            )


def _texts(ledger: Ledger, type_: Any, values: Sequence[Any]) -> list[str]:
    """Return the texts of values that PostgreSQL writes."""
    texts: list[str] = []
    with canonical_settings(ledger.connection):
        for value in values:
            written = func.format("%s", sql_cast(literal(value, type_), type_))
            texts.append(ledger.connection.scalar(select(written)) or "")
    return texts


def _is_in(column: Any, values: Sequence[Any], texts: Sequence[str]) -> Any:
    """Return whether each value of a column is one of some.

    :param texts: the values as text, for a column that has text.
    """
    pa, compute = load("pyarrow"), load("pyarrow.compute")
    wanted = texts if str(column.type) == TEXT else values
    return compute.is_in(column, value_set=pa.array(wanted, column.type))


def rewrite_erased(
    engine: Engine, metadata: MetaData, folder: ArchiveFolder, number: int | None
) -> None:
    """Write the files anew that have values which were erased from the database.

    Nobody else writes the archive meanwhile, such as values that it has read before.
    Each file is compared with what it is to become before it takes the place of the old
    one. What is written already is left, so that an interrupted call can be repeated.

    :param folder: the archive.
    :param number: the number of an erasure that the database has; None to do what is
        left of others.
    :raises ArchiveError: a file is not what its manifest says.
    :raises ErasureError: the erasure is not committed.
    """
    with turn(engine), engine.connect() as connection:
        own = ledger_of(connection, metadata, ErasureError)
        log = own.place(own.tables.erasure)
        is_there = exists().where(log.c.id == number)
        if number is not None and not connection.scalar(select(is_there)):
            raise ErasureError(
                "the connection of the session has not committed the erasure, so the "
                "files of the archive still have the values; erase them again with a "
                "session of an engine"
            )
        ledger = LedgerWithArchive.of(own, folder, with_kept=True)
        keys = erased_context_keys(ledger, read_seals(ledger))
        for table, archived in ledger.archived.items():
            erased = _erased(ledger, table.fullname)
            erase = _ErasedFile(connection, archived, erased, keys)
            manifest = archived.manifest
            for part in (*manifest.parts, *filter(None, [manifest.open])):
                if erase.is_wanted(part):
                    manifest = rewrite_part(folder, manifest, part, erase.change)
                    _note(ledger, manifest, part)
                    connection.commit()


def _erased(ledger: Ledger, name: str) -> dict[str, list[str]]:
    """Return the columns, or keys, that were erased of a table, by the ids."""
    erased = ledger.place(ledger.tables.erased)
    query = select(erased.c.id, erased.c.columns).where(erased.c.table_name == name)
    return {row.id: list(row.columns) for row in ledger.connection.execute(query)}


def _note(ledger: Ledger, manifest: Manifest, part: ArchivedPart) -> None:
    """Have the database know the digest of a file that was written anew."""
    known = archive_table_of(ledger.history.metadata)
    renewed = {p.path: p.sha256 for p in manifest.parts}.get(part.path)
    if known is not None and renewed is not None:
        rows = ledger.place_own(known)
        ledger.connection.execute(
            update(rows)
            .where(rows.c.table_name == manifest.name, rows.c.path == part.path)
            .values(sha256=renewed)
        )


class _ErasedFile:
    """What is erased of the files of one table.

    :param erased: the columns, or of contexts the keys, by the ids of rows.
    :param context_keys: the keys that are erased of contexts in events themselves.
    """

    def __init__(
        self,
        connection: Connection,
        archived: LoadedTable,
        erased: Mapping[str, Sequence[str]],
        context_keys: Sequence[str],
    ) -> None:
        self._connection = connection
        self._archived = archived
        self._context_keys = context_keys
        self._is_context = archived.manifest.has_contexts
        # Few erasures have columns that others have not.
        self._by_columns: dict[tuple[str, ...], list[Any]] = {}
        for number, columns in erased.items():
            known: Any = number if self._is_context else int(number)
            self._by_columns.setdefault(tuple(columns), []).append(known)

    def is_wanted(self, part: ArchivedPart) -> bool:
        """Return whether a file has a value that was erased."""
        folder, path = self._archived.folder, self._archived.manifest.path(part)
        with folder.open_file(path) as file:
            return any(
                not is_same(self.change(batch), batch) for batch in read_rows(file)
            )

    def change(self, batch: Any) -> Any:
        """Return rows without the values that were erased."""
        compute = load("pyarrow.compute")
        number = batch.column(self._archived.key)
        for columns, numbers in self._by_columns.items():
            rows = _is_in(number, numbers, numbers)
            if not compute.any(rows).as_py():
                continue
            if self._is_context:
                batch = self._without_keys(batch, "metadata", rows, columns)
                continue
            there = [
                n for n in columns if n in batch.schema.names and n != CONTEXT_COLUMN
            ]
            batch = with_nulls(batch, rows, *there)
            if CONTEXT_COLUMN in columns and CONTEXT_COLUMN in batch.schema.names:
                batch = self._without_keys(
                    batch, CONTEXT_COLUMN, rows, self._context_keys
                )
            if ERASED_COLUMN in batch.schema.names:
                told = self._scalar(sql_cast(literal(columns, ARRAY(Text)), Text))
                texts = batch.column(ERASED_COLUMN)
                batch = with_column(
                    batch, ERASED_COLUMN, compute.if_else(rows, told, texts)
                )
        return batch

    def _scalar(self, value: Any) -> Any:
        return self._connection.scalar(select(value))

    def _without_keys(
        self, batch: Any, name: str, rows: Any, keys: Sequence[str]
    ) -> Any:
        """Return rows whose JSON has null for the values of some keys."""
        pa = load("pyarrow")
        texts = batch.column(name).to_pylist()
        places = [n for n, is_one in enumerate(rows.to_pylist()) if is_one]
        given = sql_cast(literal([texts[n] for n in places], ARRAY(Text)), ARRAY(Text))
        one = func.unnest(given).table_valued("value", with_ordinality="place")
        one = one.render_derived()
        query = select(sql_cast(nulled(sql_cast(one.c.value, JSONB), keys), Text))
        changed = self._connection.scalars(query.order_by(one.c.place)).all()
        for place, text in zip(places, changed, strict=True):
            texts[place] = text
        return with_column(batch, name, pa.array(texts, batch.schema.field(name).type))
