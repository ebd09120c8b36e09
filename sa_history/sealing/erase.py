"""Erasure: the personal data of an object becomes NULL in all its history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Text,
    and_,
    bindparam,
    case,
    delete,
    false,
    func,
    literal,
    not_,
    null,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from sa_history.capture.context_storage import CONTEXT_COLUMN, CONTEXT_ID_COLUMN
from sa_history.capture.event_table import OLD_KEY, key_columns
from sa_history.capture.partitioning import (
    FIRST_ID,
    KEPT_OFFSET,
    ContextPartitioning,
)
from sa_history.capture.seal_tables import ERASED_COLUMN
from sa_history.ddl.elements import Statement, switch_trigger
from sa_history.ddl.execution import require_new_snapshots
from sa_history.definition.mapped_tables import Model
from sa_history.exc import ErasureError
from sa_history.sealing.chain import Seal, read_seals
from sa_history.sealing.detached import require_attached
from sa_history.sealing.erase_contexts import (
    contexts_of,
    erase_contexts,
    erased_context_keys,
    is_any_of,
    nulled,
    require_context_commitments,
    sealed_before,
    with_inherited,
)
from sa_history.sealing.erasure_log import add_to_log, insert_erased
from sa_history.sealing.leaves import (
    commitment,
    has_keys,
    key_text,
    with_salts,
)
from sa_history.sealing.sources import (
    ArchivedHistory,
    LeafColumns,
    Ledger,
    SealedTable,
    canonical_settings,
    erasable_columns,
    ledger_of,
)
from sa_history.sql.compose import Raw
from sa_history.sql.naming import CONTEXT_METADATA
from sa_history.tracking.databases import ModelSession
from sa_history.tracking.events import key_values, trackings_with_subclasses
from sa_history.tracking.registry import Tracking


@dataclass(frozen=True)
class Erasure:
    """What ``history.erase`` has erased, or would erase.

    :param number: the number in the log of erasures; None if nothing was written, since
        nothing was left to erase, or only asked.
    :param events: how many events were erased, without those that had been before.
    :param contexts: how many stored contexts had values that could be erased.

    Example::

        print(history.erase(session, Person, 7).events)
    """

    number: int | None
    events: int
    contexts: int


def erase_history(
    session: Session,
    model: Model,
    keys: Sequence[Any],
    reason: str | None,
    dry_run: bool,
    archived: ArchivedHistory | None = None,
) -> Erasure:
    """Erase the personal data of objects in a database, within the transaction.

    :param archived: what is in an archive, of which the database has then what a
        verification needs; the files are not changed. None without one.
    :raises ErasureError: nothing of the model can be erased; an event was sealed before
        the model had these options; another row has taken a key that the object had; a
        detached partition has events of it; or the transaction is not READ COMMITTED.
    :raises EventsError: the model is not tracked, or a key has another number of
        columns.
    """
    tracked = trackings_with_subclasses(model)
    trackings = [t for t in tracked if t.options.is_erasable]
    _require_erasable(model)
    if reason is not None and not isinstance(reason, str):
        raise ErasureError(
            f"reason is a text for the log of erasures, got {reason!r}; write one, "
            "and give all keys before it"
        )
    if not trackings or not keys:
        subject = tracked[0].subject
        raise ErasureError(
            f"erase got no key of {subject}; give one at least"
            if trackings
            else f"nothing of {subject} can be erased; name its personal data in "
            "track(..., erasable=[...])"
        )
    return _erase(session, trackings, keys, reason, dry_run, archived)


def _require_erasable(model: Model) -> None:
    """Refuse a table of which another event table keeps what is erased from one.

    :raises ErasureError: there is such an event table.
    """
    trackings = trackings_with_subclasses(model)
    for one in trackings:
        for other in trackings:
            kept = {*one.options.erasable} & {*other.tracked_columns.stored}
            kept -= {*other.options.erasable}
            if one.table is other.table and kept:
                raise ErasureError(
                    f"{other.event_table.fullname} stores {', '.join(sorted(kept))} of "
                    f"{one.subject} as well; name it in erasable= of that track, too"
                )


def _erase(
    session: Session,
    trackings: Sequence[Tracking],
    keys: Sequence[Any],
    reason: str | None,
    dry_run: bool,
    archived: ArchivedHistory | None,
) -> Erasure:
    session.flush()
    # Nothing of a half-done erasure is left if the caller goes on after an error.
    with session.begin_nested():
        first = trackings[0]
        connection = session.connection(ModelSession(session, first).bind_arguments)
        ledger = ledger_of(connection, first.table.metadata, ErasureError)
        # What was sealed after its snapshot would be erased without a commitment, and
        # what was removed then would be kept with its values.
        require_new_snapshots(
            connection,
            ErasureError,
            'erase in a session of engine.execution_options(isolation_level="READ '
            'COMMITTED")',
        )
        ledger.wait_for_turn()
        if archived is not None:
            ledger = archived.ledger(ledger)
        found = [_Objects(ledger, t, _keys(t, keys), archived) for t in trackings]
        for objects in found:
            objects.lock_rows()
        seals = read_seals(ledger)
        events = [objects.events(seals) for objects in found]
        keys_of_contexts = erased_context_keys(ledger, seals)
        ids = [number for some in events for number in some.contexts]
        if any(t.options.partition_by is not None for t in trackings):
            require_attached(
                ledger,
                ContextPartitioning(ledger.history.shared.context_table),
                ["id", "metadata"],
                lambda rows: and_(
                    is_any_of(rows.c.id, ids),
                    has_keys(rows.c.metadata, keys_of_contexts),
                ),
            )
        ids = with_inherited(ledger, ids, keys_of_contexts, archived)
        contexts = contexts_of(ledger, ids, keys_of_contexts)
        require_context_commitments(ledger, seals, contexts, keys_of_contexts)
        how_many = sum(some.count_left() for some in events)
        if dry_run or not (how_many or contexts):
            return Erasure(None, how_many, len(contexts))
        with canonical_settings(connection):
            number = _record(ledger, found[0], reason, how_many, len(contexts))
            for some in events:
                some.erase(number)
            erase_contexts(ledger, number, contexts, keys_of_contexts)
    session.expire_all()
    return Erasure(number, how_many, len(contexts))


def _keys(tracking: Tracking, keys: Sequence[Any]) -> list[tuple[Any, ...]]:
    return [tuple(key_values(tracking, key)) for key in keys]


@dataclass(frozen=True, eq=False)
class _Objects:
    """Objects of a tracked table.

    :param keys: the values of their keys, in the order of the key.
    :param archived: what is in an archive; None without one.
    """

    ledger: Ledger
    tracking: Tracking
    keys: list[tuple[Any, ...]]
    archived: ArchivedHistory | None

    def lock_rows(self) -> None:
        """Wait until nobody writes the rows, and let nobody do so."""
        columns = self.tracking.tracked_columns.columns_of_key
        self.ledger.connection.execute(
            select(*columns)
            .where(_is_one_of(columns, self.keys))
            .order_by(*columns)
            .with_for_update(of=self.tracking.table)
        )

    def events(self, seals: Sequence[Seal]) -> _ErasableEvents:
        """Return the events of the objects that have something to erase.

        :raises ErasureError: an event was sealed before it could be erased, or another
            row has taken a key that one of the objects had.
        """
        tracking = self.tracking
        table = tracking.event_table
        keys = self._all_keys()
        events, key = self._events()
        partitioning = tracking.partitioning()
        if partitioning is not None:
            of_key = [column.name for column in key]
            require_attached(
                self.ledger,
                partitioning,
                of_key,
                lambda rows: _is_one_of([rows.c[name] for name in of_key], keys),
            )
        of_objects = select(events.c.pgh_id).where(_is_one_of(key, keys))
        found = set(self.ledger.connection.scalars(of_objects))
        # Until its partition is dropped, an event is there under both numbers.
        numbers = sorted(
            n for n in found if n >= FIRST_ID or n + KEPT_OFFSET not in found
        )
        name = table.fullname
        own = [one for one in seals if one.table_name == name]
        events = _ErasableEvents(self.ledger, tracking, tuple(numbers), own, ())
        events.require_commitments()
        return events.with_contexts()

    def _events(self) -> tuple[Any, list[Any]]:
        """Return the events with the columns of their key."""
        tracking = self.tracking
        key = key_columns(tracking.tracked_columns, tracking.event_table)
        names = ["pgh_id", OLD_KEY, *(column.name for column in key)]
        events = self.ledger.place(tracking.event_table, dict.fromkeys(names))
        return events, [events.c[column.name] for column in key]

    def _all_keys(self) -> list[tuple[Any, ...]]:
        """Return the keys that the objects have or had, with those of the rows.

        :raises ErasureError: another row has taken one of these keys.
        """
        execute = self.ledger.connection.execute
        known = dict.fromkeys(self.keys)
        while True:
            found = [*known]
            if self.archived is not None:
                self.archived.load_events(self.tracking, found)
            events, key = self._events()
            size = len(key)
            stored = sql_cast(events.c[OLD_KEY], JSONB)
            old = [
                sql_cast(stored[n].astext, column.type).label(f"old_{n}")
                for n, column in enumerate(key)
            ]
            rows = execute(
                select(events.c.pgh_id, *old, *key).where(
                    events.c[OLD_KEY].is_not(None),
                    or_(_is_one_of(old, found), _is_one_of(key, found)),
                )
            ).all()
            for row in rows:
                known |= {tuple(row[1 : size + 1]): None, tuple(row[size + 1 :]): None}
            if len(known) == len(found):
                left = {row.pgh_id: tuple(row[1 : size + 1]) for row in rows}
                self._require_unused(events, key, left)
                return found

    def _require_unused(
        self, events: Any, key: Sequence[Any], left: Mapping[int, tuple[Any, ...]]
    ) -> None:
        """Refuse keys that another row has taken after an object had left them.

        :param left: the keys that were left, by the numbers of the events that did so.
        """
        for move, before in left.items():
            later = self.ledger.connection.scalar(
                select(func.min(events.c.pgh_id)).where(
                    _is_one_of(key, [before]), events.c.pgh_id > move
                )
            )
            # The object itself may have gone back to a key.
            if later is None or later in left:
                continue
            raise ErasureError(
                f"the {self.tracking.subject} has left the key {before} with event "
                f"{move}, and event {later} is of a row that has it since; it cannot "
                "be told which events are of whom"
            )


@dataclass(frozen=True, eq=False)
class _ErasableEvents:
    """The events of some objects of one table.

    :param numbers: the numbers of the events.
    :param seals: the seals of the table.
    :param contexts: the ids of the events' stored contexts.
    """

    ledger: Ledger
    tracking: Tracking
    numbers: tuple[int, ...]
    seals: Sequence[Seal]
    contexts: tuple[Any, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns that are erased.

        Those of the seals are among them, which have one commitment to all of them.
        """
        names = (*erasable_columns(self.tracking), *_all_of(self.seals))
        return tuple(dict.fromkeys(names))

    @property
    def inline_keys(self) -> tuple[str, ...]:
        """The keys that are erased of contexts in the events themselves.

        They are those of all models, as seals have one commitment to all of them.
        """
        is_inline = CONTEXT_COLUMN in self.tracking.event_table.columns
        return erased_context_keys(self.ledger, self.seals) if is_inline else ()

    def require_commitments(self) -> None:
        """Refuse events that a seal has without commitments to what is erased.

        :raises ErasureError: there is such an event.
        """
        wanted, keys = {*self.columns}, {*self.ledger.context_keys()}
        for one in self.seals:
            known = one.leaf_columns
            missing = [*(wanted & {*known.columns}) - {*known.erasable}]
            if known.stores_context:
                missing += keys - {*known.context_keys}
            for number in self.numbers if missing else ():
                if one.first_id <= number <= one.last_id:
                    raise sealed_before(one, number, missing)

    def with_contexts(self) -> _ErasableEvents:
        """Return the events with the ids of their stored contexts."""
        table, keys = self.tracking.event_table, self.tracking.options.erasable_context
        if (
            not keys
            or CONTEXT_COLUMN in table.columns
            or CONTEXT_ID_COLUMN not in table.columns
        ):
            return self
        events = self.ledger.place(table, ["pgh_id", CONTEXT_ID_COLUMN])
        query = select(events.c[CONTEXT_ID_COLUMN]).where(
            self._are(events), events.c[CONTEXT_ID_COLUMN].is_not(None)
        )
        found = tuple(self.ledger.connection.scalars(query.distinct()))
        return _ErasableEvents(
            self.ledger, self.tracking, self.numbers, self.seals, found
        )

    def _are(self, table: Any, *, with_kept: bool = False) -> Any:
        """Return whether a row is one of the events.

        :param with_kept: True for those that were kept, under lower numbers, when the
            events were removed, as well.
        """
        known = list(self.numbers)
        if with_kept and self.tracking.options.partition_by is not None:
            known += [n - KEPT_OFFSET for n in known if n >= FIRST_ID]
        numbers = bindparam(None, known, ARRAY(BigInteger))
        return table.c.pgh_id == func.any(sql_cast(numbers, ARRAY(BigInteger)))

    def _told(self) -> list[str]:
        """Return the names of the columns that the events have as erased."""
        return [*self.columns, *([CONTEXT_COLUMN] if self.inline_keys else [])]

    def count_left(self) -> int:
        """Return how many of the events are not erased yet, or have a value again."""
        told = self._told()
        events = self.ledger.place(
            self.tracking.event_table, dict.fromkeys(["pgh_id", ERASED_COLUMN, *told])
        )
        erased, has_all = events.c[ERASED_COLUMN], literal(told, ARRAY(Text))
        is_left = [
            # An event without values becomes an erased one too: its salt is deleted.
            not_(func.coalesce(erased.op("@>", is_comparison=True)(has_all), false())),
            *(events.c[name].is_not(None) for name in self.columns),
        ]
        if self.inline_keys:
            is_left.append(has_keys(events.c[CONTEXT_COLUMN], self.inline_keys))
        query = select(func.count()).where(self._are(events), or_(*is_left))
        return self.ledger.connection.scalar(query) or 0

    def erase(self, erasure: int) -> None:
        """Commit to the values of the events, and erase them.

        :param erasure: the number of the erasure.
        """
        sealed = SealedTable.of(self.tracking)
        told = self._told()
        names = ["pgh_id", ERASED_COLUMN, *sealed.key, *told]
        events = self.ledger.place(sealed.table, dict.fromkeys(names))
        # A join would read the salts of all objects for those of a few.
        has_many = self.ledger.has_many_salts(len(self.numbers))
        key = key_text(events, sealed)
        source, own_salt = with_salts(self.ledger, events, sealed.name, key, has_many)
        number = sealed.number(events.c.pgh_id)
        made = [
            (number.between(first, last), commitment(events, own_salt, columns))
            for columns, first, last in _by_columns(self.seals)
            if columns.can_be_erased
        ]
        # None without a salt, since it could be guessed what it is made of.
        commitments: Any = sql_cast(null(), self.ledger.tables.erased.c.commitment.type)
        if made:
            commitments = case((own_salt.c.salt.is_not(None), case(*made)))
        erased = self.ledger.place(self.ledger.tables.erased)
        rows = (
            select(
                literal(sealed.name, Text),
                sql_cast(number, Text),
                literal(erasure, BigInteger),
                literal(told, ARRAY(Text)),
                commitments,
            )
            .select_from(source)
            .where(self._are(events))
        )
        execute = self.ledger.connection.execute
        execute(insert_erased(erased, rows))
        salt = self.ledger.place(self.ledger.tables.salt)
        # As an array, for the index: PostgreSQL would read all salts to join a few.
        keys = func.array(
            select(key).where(self._are(events)).distinct().scalar_subquery(),
            type_=ARRAY(Text),
        )
        execute(
            delete(salt).where(
                salt.c.table_name == sealed.name, salt.c.key == func.any(keys)
            )
        )
        own = self.ledger.place_own(sealed.table, dict.fromkeys(names))
        nulls: dict[str, Any] = {name: null() for name in self.columns}
        if self.inline_keys:
            nulls[CONTEXT_COLUMN] = nulled(own.c[CONTEXT_COLUMN], self.inline_keys)
        with self._unprotected():
            execute(
                update(own)
                .where(self._are(own, with_kept=True))
                .values({**nulls, ERASED_COLUMN: literal(told, ARRAY(Text))})
            )

    @contextmanager
    def _unprotected(self) -> Iterator[None]:
        """Have the trigger of an append-only table off."""
        trigger = self.tracking.append_only_trigger()
        if trigger is None:
            yield
            return

        def switch(state: str) -> None:
            alter = switch_trigger(trigger.table, trigger.name, state)
            rendered = Raw(alter.render(self.ledger.schemas))
            self.ledger.connection.execute(Statement(rendered))

        switch("D")
        yield
        switch("O")


def _all_of(seals: Sequence[Seal]) -> Iterator[str]:
    for columns, _, _ in _by_columns(seals):
        yield from columns.erasable


def _by_columns(seals: Sequence[Seal]) -> list[tuple[LeafColumns, int, int]]:
    """Return what seals are made of, with the numbers that they have so."""
    found: list[tuple[LeafColumns, int, int]] = []
    for one in seals:
        if found and found[-1][0] == one.leaf_columns:
            found[-1] = (one.leaf_columns, found[-1][1], one.last_id)
        else:
            found.append((one.leaf_columns, one.first_id, one.last_id))
    return found


def _record(
    ledger: Ledger,
    objects: _Objects,
    reason: str | None,
    events: int,
    contexts: int,
) -> int:
    """Write an erasure into the log, and return its number."""
    keys = objects.keys
    metadata = func.nullif(func.current_setting(CONTEXT_METADATA, True), "")
    return add_to_log(
        ledger,
        table_name=objects.tracking.table.fullname,
        keys=[str(key if len(key) > 1 else key[0]) for key in keys],
        reason=reason,
        events=events,
        contexts=contexts,
        erased_by=sql_cast(metadata, JSONB)["user"].astext,
    )


def _is_one_of(columns: Sequence[Any], keys: Sequence[tuple[Any, ...]]) -> Any:
    if len(columns) == 1:
        return columns[0].in_([key[0] for key in keys])
    return tuple_(*columns).in_(keys)
