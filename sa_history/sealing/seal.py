"""Sealing: the digests of committed events are stored, and chained to a root."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    func,
    insert,
    literal,
    or_,
    select,
    text,
)
from sqlalchemy import cast as sql_cast

from sa_history.capture.context_table import SharedObjects
from sa_history.capture.partitioning import FIRST_ID, KEPT_OFFSET
from sa_history.ddl.execution import (
    connection_of,
    require_new_snapshots,
    time_in_database,
)
from sa_history.exc import SealError
from sa_history.sealing.chain import (
    ChainHead,
    Seal,
    SealDigest,
    complete_seal,
    last_seal,
    write_ranges,
    write_seal,
)
from sa_history.sealing.leaves import (
    RANGE,
    KeptEvents,
    are_meant,
    bounds_of,
    contexts_in_use,
    has_keys,
    key_text,
    select_ranges,
    sha256,
    used_contexts,
    with_salts,
)
from sa_history.sealing.sources import (
    LeafColumns,
    Ledger,
    SealedTable,
    canonical_settings,
    ledger_of,
)
from sa_history.sql.compose import Qualified
from sa_history.util.arguments import is_number, metadata_of, require_number

_WRITERS = text(
    """
    SELECT virtualtransaction, pid IS NULL AS is_prepared,
      pid IS NOT DISTINCT FROM pg_backend_pid() AS is_own
    FROM pg_catalog.pg_locks
    WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted
      AND database = (SELECT oid FROM pg_catalog.pg_database
                      WHERE datname = current_database())
      AND relation = to_regclass(:relation)
    """
)
"""The transactions that have written a table and not ended yet.

A transaction locks the table before it takes the first number of an event. Who is not
among them after a number was taken has either committed the event or never will. One
that is prepared for a commit in two phases has no process.
"""


def seal(
    bind: Engine | Connection,
    *models: MetaData | type[Any],
    timeout: int = 10_000,
    batch: int = 1_000_000,
    anchor: Callable[[SealDigest], object] | None = None,
    progress: Callable[[int], None] | None = None,
) -> SealDigest:
    """Seal the committed events of models with ``track(..., sealed=True)``.

    The digests of the events that no seal has yet are stored in the database and
    chained to those before. The digest that is returned stands for all of them: keep it
    where nobody can write who can write the database, and give it to :func:`verify`.

    Events are sealed up to the newest number that no open transaction can still use.
    If a table is written all the time, ``seal`` waits for the transactions that are
    open when it begins, and for no others. It locks nothing that a writer needs.

    :param bind: an engine, with which each batch is a transaction of its own, so that a
        call after an interruption goes on where it stopped; or a connection, whose
        transaction stays open. Of an async one, ``await connection.run_sync(seal,
        Base)``.
    :param models: declarative bases or MetaData.
    :param timeout: milliseconds to wait for the transactions that are open; the events
        of a table that one of them has written are left to the next call then.
    :param batch: the number of events of a seal at most, from 1,000 on.
    :param anchor: called with the digest at the end, to store it elsewhere; None for
        no call.
    :param progress: called after each batch with the number of events so far; None for
        no calls.
    :return: the digest.
    :raises SealError: no model is sealed, the tables of seals are missing, or the
        connection cannot see what others commit or has written events itself.

    Example::

        digest = history.seal(engine, Base)
        Path("digest.json").write_text(digest.to_json())
    """
    if not is_number(batch, RANGE):
        raise SealError(
            f"a batch has {RANGE} events at least, got batch={batch!r}; give an int"
        )
    require_number("timeout is milliseconds", timeout, SealError, 0)
    chains: dict[str, ChainHead] = {}
    sealed_now = 0
    for metadata in [metadata_of(model, SealError) for model in models]:
        with connection_of(bind, SealError) as connection:
            ledger = ledger_of(connection, metadata)
            require_new_snapshots(
                connection,
                SealError,
                "give an engine, or a connection in READ COMMITTED",
            )
            tables = ledger.sealed_tables()
        if len(tables) == 1 and not tables[0].tracking:
            _refuse_unsealed(metadata)
        for sealed in tables:
            for events in _seal_table(bind, ledger, sealed, timeout, batch):
                sealed_now += events
                if progress is not None:
                    progress(sealed_now)
        with connection_of(bind, SealError) as connection:
            chains[ledger.name] = ChainHead.of(last_seal(ledger.on(connection)))
    digest = SealDigest(chains)
    if anchor is not None:
        anchor(digest)
    return digest


def _seal_table(
    bind: Engine | Connection,
    seals: Ledger,
    sealed: SealedTable,
    timeout: int,
    batch: int,
) -> Iterator[int]:
    """Seal the events of a table, and yield the number of each batch."""
    limit, has_salts = _settled(bind, seals, sealed, timeout), True
    while limit is not None:
        events, has_salts = _seal_batch(bind, seals, sealed, limit, batch, has_salts)
        if not events:
            return
        yield events


def _refuse_unsealed(metadata: MetaData) -> None:
    tables = ", ".join(sorted(metadata.tables)[:3])
    raise SealError(
        f"no model of this MetaData (with {tables}, ...) is sealed; give track(..., "
        "sealed=True) to those whose events are to be sealed"
    )


def _settled(
    bind: Engine | Connection, seals: Ledger, sealed: SealedTable, timeout: int
) -> int | None:
    """Return the newest number that no open transaction can still write.

    :param timeout: milliseconds to wait for the transactions that are open.
    :return: None if there is no number, or a transaction is open for longer.
    """
    if sealed.tracking is None:
        return _last_erasure(bind, seals, sealed)
    with connection_of(bind, SealError) as connection:
        ledger = seals.on(connection)
        # The number first: who writes an event with it is among the writers then.
        limit = _last_number(ledger, ledger.history.shared)
        writers = set(_writers(ledger, sealed.table, own=True))
    deadline = time.monotonic() + timeout / 1000
    pause = 0.005
    while writers and limit is not None:
        with connection_of(bind, SealError) as connection:
            ledger = seals.on(connection)
            now = _writers(ledger, sealed.table)
        writers = {w for w, is_prepared in now.items() if w in writers or is_prepared}
        if writers:
            if time.monotonic() >= deadline:
                return None
            time.sleep(pause)
            pause = min(pause * 2, 0.25)
    return limit


def _last_number(ledger: Ledger, shared: SharedObjects) -> int | None:
    sequence = shared.sequence
    placed = ledger.place(
        Table(sequence.name, MetaData(), schema=sequence.schema),
        ("last_value", "is_called"),
    )
    row = ledger.connection.execute(
        select(placed.c.last_value, placed.c.is_called)
    ).one()
    return int(row.last_value) if row.is_called else None


def _writers(ledger: Ledger, table: Table, own: bool = False) -> dict[str, bool]:
    """Return the transactions that have written a table and are open.

    :param own: refuse the connection's own transaction, if it is one of them.
    :return: by its number, whether it is prepared for a commit in two phases.
    """
    name = Qualified.of(table, ledger.schemas).render(str)
    rows = ledger.connection.execute(_WRITERS, {"relation": name}).all()
    if own and any(row.is_own for row in rows):
        raise SealError(
            f"the connection has written {table.fullname} and not committed; commit "
            "before, since only committed events are sealed"
        )
    return {row.virtualtransaction: row.is_prepared for row in rows}


def _last_erasure(
    bind: Engine | Connection, seals: Ledger, sealed: SealedTable
) -> int | None:
    # Who erases has the lock of who seals until the transaction ends.
    with connection_of(bind, SealError) as connection:
        ledger = seals.on(connection)
        ledger.wait_for_turn()
        rows = ledger.place(sealed.table)
        found: int | None = connection.scalar(select(func.max(rows.c.id)))
        return found


def _seal_batch(
    bind: Engine | Connection,
    seals: Ledger,
    sealed: SealedTable,
    limit: int,
    batch: int,
    has_salts: bool,
) -> tuple[int, bool]:
    """Seal the next events of a table.

    :param limit: the number that the seals go up to.
    :param has_salts: whether all objects but those of first events may have salts.
    :return: how many events were sealed, and whether all these objects had salts.
    """
    with connection_of(bind, SealError) as connection:
        ledger = seals.on(connection)
        ledger.wait_for_turn()
        last = last_seal(ledger, sealed.name)
        first_id = 1 if last is None else last.last_id + 1
        kept = KeptEvents(limit) if ledger.has_kept(sealed, first_id) else None
        areas = _areas(ledger, sealed, first_id, limit, batch, kept)
        if not areas:
            return 0, has_salts
        leaf_columns = ledger.leaf_columns(sealed)
        has_salts = has_salts and len(areas) == batch // RANGE
        with canonical_settings(connection, len(areas) * RANGE):
            contexts = used_contexts(ledger, sealed, leaf_columns, areas, kept)
            given = (ledger, sealed, leaf_columns, areas, contexts, kept)
            add_salts, add = partial(_add_salts, *given), partial(_add, *given)
            # To look for the salts of all objects takes a fifth of the time. In a long
            # run of seals most have one.
            add_salts(of_first_events=has_salts)
            with connection.begin_nested() as attempt:
                events, is_whole = add()
                if not is_whole:
                    attempt.rollback()
            if not is_whole:
                add_salts(of_first_events=False)
                events, _ = add()
            return events, has_salts and is_whole


def _areas(
    ledger: Ledger,
    sealed: SealedTable,
    first_id: int,
    limit: int,
    batch: int,
    kept: KeptEvents | None,
) -> list[tuple[int, int]]:
    """Return the numbers of the next ranges, none if there are no events.

    :param batch: the greatest number of events, of which whole ranges are taken.
    :param kept: as :func:`range_digests` has it. Such events were before all others,
        and so they are by their lower numbers.
    """
    before_all = first_id - 1 - (0 if kept is None else KEPT_OFFSET)
    events = ledger.place(sealed.table, [sealed.id])
    number = events.c[sealed.id]

    is_told = []
    if kept is not None:
        is_told = [or_(number >= FIRST_ID, number <= kept.until - KEPT_OFFSET)]

    def event_after(before: Any, offset: int) -> Any:
        """Return the number of the event which so many others are before."""
        return (
            select(number)
            .where(number > before, number <= limit, *is_told)
            .order_by(number)
            .offset(offset)
            .limit(1)
            .scalar_subquery()
        )

    # Each step reads the index from the end of one range to that of the next one.
    start = select(
        sql_cast(literal(before_all), BigInteger).label("last_id"),
        sql_cast(literal(0), Integer).label("ranges"),
    )
    ends = start.cte("range_end", recursive=True)
    ends = ends.union_all(
        select(event_after(ends.c.last_id, RANGE - 1), ends.c.ranges + 1).where(
            ends.c.last_id.is_not(None), ends.c.ranges < batch // RANGE
        )
    )
    query = select(ends.c.last_id).where(ends.c.ranges > 0, ends.c.last_id.is_not(None))
    inner = list(ledger.connection.scalars(query.order_by(ends.c.ranges)))
    if len(inner) < batch // RANGE:
        # The last range has all numbers up to the end of the seal.
        if ledger.connection.scalar(select(event_after([before_all, *inner][-1], 0))):
            inner.append(limit)
        elif inner:
            inner[-1] = limit
    ends_then = [end if end >= FIRST_ID else end + KEPT_OFFSET for end in inner]
    starts = [first_id, *(end + 1 for end in ends_then[:-1])]
    return list(zip(starts, ends_then, strict=False))


def _add_salts(
    ledger: Ledger,
    sealed: SealedTable,
    leaf_columns: LeafColumns,
    areas: Sequence[tuple[int, int]],
    used: Any,
    kept: KeptEvents | None,
    *,
    of_first_events: bool,
) -> None:
    """Give each object of some events, and each of their contexts, a salt.

    :param areas: the numbers of the events.
    :param used: the ids of their contexts.
    :param kept: as :func:`range_digests` has it.
    :param of_first_events: False to look at the objects of all events, True to leave
        out events of an UPDATE or DELETE, which mostly are of objects with a salt.
    """
    salts, as_bytes = ledger.place(ledger.tables.salt), ledger.bytes_of_text()
    has_many = ledger.has_many_salts(len(areas) * RANGE)

    def add(name: str, keys: Any) -> None:
        source, known = with_salts(ledger, keys, name, keys.c.key, has_many)
        # Whoever adds one waits for its turn, so nobody else does now. In the order of
        # the index, which then grows at one place.
        unknown = select(keys.c.key).select_from(source).where(known.c.key.is_(None))
        new = unknown.order_by(keys.c.key).subquery()
        salt = _new_salt(as_bytes(new.c.key))
        ledger.connection.execute(
            insert(salts).from_select(
                ["table_name", "key", "salt"],
                select(literal(name, String), new.c.key, salt),
            )
        )
        ledger.analyze_salts()

    if leaf_columns.can_be_erased:
        events = ledger.place(sealed.table, [sealed.id, "pgh_op", *sealed.key])
        is_sealed_now = are_meant(events, sealed, bounds_of(areas), kept)
        # Distinct before they are text, which costs more.
        of_events = select(*(events.c[name] for name in sealed.key))
        if of_first_events:
            of_events = of_events.where(events.c.pgh_op.not_in(["U", "D"]))
        objects = of_events.where(is_sealed_now).distinct().subquery()
        keys = select(key_text(objects, sealed).label("key"))
        add(sealed.name, keys.subquery())
    if leaf_columns.refers_to_contexts and leaf_columns.context_keys:
        contexts = contexts_in_use(ledger, used)
        keys = select(sql_cast(contexts.c.id, Text).label("key")).where(
            has_keys(contexts.c.metadata, leaf_columns.context_keys)
        )
        add(ledger.history.shared.context_table.fullname, keys.subquery())


def _new_salt(key: Any) -> Any:
    """Return the salt of a key, which nobody can guess.

    To read 16 random bytes for each takes as long as all else of it, so a statement
    reads 30.5 once and forgets them: no salt tells anything of another one.
    """
    one, other = (
        func.uuid_send(func.gen_random_uuid(), type_=LargeBinary) for _ in range(2)
    )
    secret = select(one.op("||", return_type=LargeBinary())(other)).scalar_subquery()
    return sha256(secret.op("||", return_type=LargeBinary())(key))


def _add(
    ledger: Ledger,
    sealed: SealedTable,
    leaf_columns: LeafColumns,
    areas: Sequence[tuple[int, int]],
    contexts: Any,
    kept: KeptEvents | None,
) -> tuple[int, bool]:
    """Add a seal to the chain.

    :param areas: the numbers of its ranges.
    :param contexts: the ids of its contexts.
    :param kept: as :func:`range_digests` has it.
    :return: how many events it has, and whether all have the salts that they need.
    """
    ranges = select_ranges(ledger, sealed, leaf_columns, areas, contexts, kept)
    before = last_seal(ledger)
    unchained = Seal(
        number=1 if before is None else before.number + 1,
        table_name=sealed.name,
        leaf_columns=leaf_columns,
        first_id=areas[0][0],
        last_id=areas[-1][1],
        events=0,
        digest=b"",
        root=b"",
        sealed_at=time_in_database(ledger.connection),
    )
    write_seal(ledger, unchained)
    events, digest, unsalted = write_ranges(ledger, unchained.number, ranges)
    made = replace(unchained, events=events, digest=digest)
    root = made.root_after(b"" if before is None else before.root)
    complete_seal(ledger, replace(made, root=root))
    return events, not unsalted
