"""Verification: whether sealed events, and the seals, are what they were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import (
    BigInteger,
    Connection,
    Engine,
    MetaData,
    and_,
    case,
    exists,
    func,
    not_,
    or_,
    select,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.exc import ProgrammingError

from sa_history.capture.context_storage import CONTEXT_COLUMN, CONTEXT_ID_COLUMN
from sa_history.capture.partitioning import FIRST_ID
from sa_history.ddl.execution import connection_of
from sa_history.exc import SealError
from sa_history.sealing.chain import (
    WRONG_VALUES,
    ChainHead,
    Mark,
    Seal,
    SealDigest,
    are_named_by_marks,
    areas_of,
    digest_of_ranges,
    first_line,
    is_refused,
    last_seal,
    marks_of,
    read_ranges,
    read_seals,
)
from sa_history.sealing.discrepancies import (
    Discrepancy,
    SealProblem,
    Verification,
    joined,
)
from sa_history.sealing.leaves import NO_EVENTS, KeptEvents, RangeDigest, range_digests
from sa_history.sealing.sources import (
    Ledger,
    SealedTable,
    canonical_settings,
    has_plans_of_its_own,
    ledger_of,
)
from sa_history.util.arguments import metadata_of
from sa_history.util.messages import counted

WithArchive: TypeAlias = Callable[
    [Ledger, Sequence[Seal], Sequence[SealedTable], "list[Discrepancy]"],
    "list[Discrepancy]",
]
"""Returns what was found in a database, with what is found in its archive."""


def verify_seals(
    bind: Engine | Connection,
    models: Iterable[MetaData | type[Any]],
    digest: SealDigest | None,
    archived: WithArchive | None = None,
) -> Verification:
    """Compare sealed events with their seals, and the seals with one another.

    :param bind: an engine or a connection.
    :param models: declarative bases or MetaData.
    :param digest: a digest from outside, None to do without.
    :param archived: is called with what was found of each chain; None without.
    :raises SealError: no model is sealed, or the tables of seals are missing.
    """
    if digest is not None and not isinstance(digest, SealDigest):
        raise SealError(
            f"digest is what seal has returned, got {digest!r}; write "
            "SealDigest.from_json(...) around the text of one"
        )
    found: list[Discrepancy] = []
    heads: dict[str, ChainHead] = {}
    seals = events = 0
    with connection_of(bind, SealError) as connection:
        for ledger, tables in _by_chain(connection, models):
            known = _known_seals(ledger)
            if isinstance(known, Discrepancy):
                found.append(known)
                continue
            expected = None if digest is None else digest.chains.get(ledger.name)
            if digest is not None and expected is None:
                raise SealError(
                    f"the digest has no chain {ledger.name!r}; it has "
                    f"{', '.join(digest.chains) or 'none'}"
                )
            verifier = Verifier(ledger, known, tables, has_settings=True)
            with canonical_settings(connection):
                own = list(verifier.discrepancies(expected))
            found += own if archived is None else archived(ledger, known, tables, own)
            heads[ledger.name] = ChainHead.of(known[-1] if known else None)
            seals += len(known)
            events += sum(one.events for one in known)
    return Verification(
        discrepancies=tuple(d for d in found if d.problem is not SealProblem.REMOVED),
        removed=tuple(joined(d for d in found if d.problem is SealProblem.REMOVED)),
        seals=seals,
        events=events,
        digest=SealDigest(heads),
    )


def _known_seals(ledger: Ledger) -> list[Seal] | Discrepancy:
    """Return the seals in their order, or that they or the erasures are unreadable."""
    connection, log = ledger.connection, ledger.place(ledger.tables.erasure)
    with canonical_settings(connection):
        name = ledger.name
        try:
            with connection.begin_nested():
                seals = read_seals(ledger)
                name = ledger.tables.erasure.fullname
                # What is asked of it later has no other columns, and these types.
                connection.execute(select(log, log.c.events + log.c.contexts).limit(0))
                return seals
        except (SealError, ProgrammingError) as error:
            if is_refused(error):
                raise
            what = first_line(error)
            return Discrepancy(SealProblem.UNREADABLE, name, 0, 0, detail=what)


def verify_event(
    connection: Connection, metadata: MetaData, event_table: str, number: int
) -> list[Discrepancy]:
    """Compare the range of one event with its seal, and the seals with one another.

    It reads some 1,000 events, where :func:`verify` reads all.

    :param event_table: the event table by its name in the models, with the schema that
        they give it.
    :param number: the number that the event was sealed with.
    :return: what is not as it was, in the range; none if the event is not sealed.
    :raises SealError: the tables of seals are missing.
    """
    ledger = ledger_of(connection, metadata)
    verifier = Verifier(ledger, read_seals(ledger), ledger.sealed_tables())
    found = verifier.discrepancies_of(event_table, number)
    return [one for one in found if one.problem is not SealProblem.REMOVED]


def _by_chain(
    connection: Connection, models: Iterable[MetaData | type[Any]]
) -> list[tuple[Ledger, list[SealedTable]]]:
    """Return the chains of some models, each with the tables that it seals.

    Several MetaData have one chain if their tables of seals are the same.
    """
    found: dict[tuple[str, str], tuple[Ledger, list[SealedTable]]] = {}
    for metadata in [metadata_of(model, SealError) for model in models]:
        ledger = ledger_of(connection, metadata)
        seals = ledger.tables.seal
        chain = (ledger.schemas(seals.schema), seals.name)
        _, tables = found.setdefault(chain, (ledger, []))
        tables += ledger.sealed_tables()
    return list(found.values())


@dataclass
class _Differences:
    """The events of a table that are not as they were, by their range.

    :param was: the marks of changed events by their numbers, as they were sealed.
    :param now: their marks as they are now.
    """

    was: dict[int, bytes] = field(default_factory=dict)
    now: dict[int, bytes] = field(default_factory=dict)
    found: list[Discrepancy] = field(default_factory=list)

    def discrepancies(self) -> Iterator[Discrepancy]:
        """Yield what was found, with the word for events that exchanged places."""
        was, now = set(self.was.values()), set(self.now.values())
        moved = {n for n in self.was if self.was[n] in now and self.now[n] in was}
        for one in self.found:
            if one.problem is SealProblem.CHANGED and not one.detail:
                exchanged = tuple(n for n in one.ids if n in moved)
                others = tuple(n for n in one.ids if n not in moved)
                if exchanged:
                    yield replace(one, problem=SealProblem.REORDERED, ids=exchanged)
                if others or not one.ids:
                    yield replace(one, ids=others)
            else:
                yield one


_TABLES = "r", "p"
"""The kinds of relations that have rows of their own, by ``pg_class.relkind``."""


_Read = TypeVar("_Read")


class _UnreadableError(Exception):
    """What a seal is about cannot be read; the message says why."""


class Verifier:
    """The verification of one chain of seals.

    :param ledger: the seals and their database.
    :param seals: the seals in their order.
    :param tables: the tables that are sealed.
    :param archived: the numbers of the events that an archive has, by table, which no
        retention has removed, and in whose place none was kept; None without one.
    :param has_settings: True if the connection has the settings of digests, which
        take several statements for each block that has them.
    """

    def __init__(
        self,
        ledger: Ledger,
        seals: Sequence[Seal],
        tables: Sequence[SealedTable],
        archived: Mapping[str, Sequence[tuple[int, int]]] | None = None,
        *,
        has_settings: bool = False,
    ) -> None:
        self._ledger = ledger
        self._seals = seals
        self._tables = {one.name: one for one in tables}
        self._removed = self._removals()
        self._archived = archived
        self._has_settings = has_settings
        self._later_formats: dict[int, int] = {}

    def discrepancies(self, expected: ChainHead | None) -> Iterator[Discrepancy]:
        """Yield what is not as it was.

        :param expected: a seal of the chain, by a digest from outside; None without.
        """
        wrong = self._wrong_links()
        by_table: dict[str, _Differences] = {}
        ends: dict[str, int] = {}
        for seal in self._seals:
            differences = by_table.setdefault(seal.table_name, _Differences())
            follows = ends.get(seal.table_name, 0) + 1 == seal.first_id
            ends[seal.table_name] = seal.last_id
            is_wrong = seal.number in wrong or not follows
            differences.found += self._of_seal(seal, is_wrong, differences)
        for differences in by_table.values():
            yield from differences.discrepancies()
        yield from self._of_erasures()
        yield from self._of_erased_columns()
        if expected is not None:
            yield from self._of_head(expected)

    def discrepancies_of_seals(
        self, seals: Iterable[Seal], prepare: Callable[[Seal], bool]
    ) -> Iterator[Discrepancy]:
        """Yield what is not as it was in the events of some seals of one table.

        :param prepare: is called before the events of a seal are read, and returns
            False to leave it out.
        """
        wrong = self._wrong_links()
        differences = _Differences()
        for seal in seals:
            if prepare(seal):
                is_wrong = seal.number in wrong
                differences.found += self._of_seal(seal, is_wrong, differences)
        yield from differences.discrepancies()

    def discrepancies_of(self, table_name: str, number: int) -> Iterator[Discrepancy]:
        """Yield what is not as it was in the range of one event.

        :param number: the number that the event was sealed with.
        """
        wrong = self._wrong_links()
        differences = _Differences()
        of_table = (seal for seal in self._seals if seal.table_name == table_name)
        for seal in [s for s in of_table if s.first_id <= number <= s.last_id]:
            is_wrong = seal.number in wrong
            differences.found += self._of_seal(seal, is_wrong, differences, number)
        yield from differences.discrepancies()

    def _wrong_links(self) -> set[int]:
        """Return the numbers of seals that do not follow from those before them.

        Of those that a later version made it keeps the format.
        """
        wrong = set()
        roots = {b""}
        for position, seal in enumerate(self._seals, 1):
            made = {seal.root_after(root) for root in roots}
            if seal.number != position or seal.root not in made:
                wrong.add(seal.number)
                if (form := seal.later_format(roots)) is not None:
                    self._later_formats[seal.number] = form
            # If only the root was changed, the next seal follows from what it was.
            roots = {seal.root, *made}
        return wrong

    def _of_erasures(self) -> Iterator[Discrepancy]:
        """Yield the erasures that more was erased by than they have recorded.

        Who can write the database can give values the look of erased ones, with a
        commitment that fits, and the number of somebody's erasure.
        """
        tables = self._ledger.tables
        log, erased = (
            self._ledger.place(tables.erasure),
            self._ledger.place(tables.erased),
        )
        recorded = log.c.events + log.c.contexts
        query = (
            select(erased.c.erasure_id, recorded, func.count())
            .select_from(erased.outerjoin(log, erased.c.erasure_id == log.c.id))
            .group_by(erased.c.erasure_id, recorded)
            .having(func.count() > func.coalesce(recorded, 0))
            .order_by(erased.c.erasure_id)
        )
        for number, known, found in self._ledger.connection.execute(query):
            yield Discrepancy(
                SealProblem.CHANGED,
                tables.erasure.fullname,
                first_id=number,
                last_id=number,
                ids=(number,),
                detail=f"it is not there, and has erased {found} events and contexts"
                if known is None
                else f"it has erased {known} events and contexts, of which there are "
                f"{found}",
            )

    def _of_erased_columns(self) -> Iterator[Discrepancy]:
        """Yield events of which other columns are said to be erased than were.

        Readers take it for the truth: a value that is there would be shown as erased.
        Of an event that was sealed before, all that its seal names as erasable was
        erased, and nothing else.
        """
        tables = self._ledger.tables
        log, erased, seals = (
            self._ledger.place(table)
            for table in (tables.erasure, tables.erased, tables.seal)
        )
        # The text of a number, or of the id of a context.
        is_number = erased.c.id.regexp_match("^-?[0-9]{1,18}$")
        number = case((is_number, sql_cast(erased.c.id, BigInteger)))
        is_sealed = and_(
            seals.c.table_name == erased.c.table_name,
            number.between(seals.c.first_id, seals.c.last_id),
            seals.c.sealed_at < log.c.erased_at,
        )
        erasable, told = seals.c.erasable, erased.c.columns
        others = func.unnest(told).column_valued("told")
        is_other = others == func.any(seals.c.columns)
        is_other &= others != func.all(erasable)
        is_other &= others != CONTEXT_COLUMN
        query = (
            select(erased.c.table_name, number)
            .join(log, erased.c.erasure_id == log.c.id)
            .join(seals, is_sealed)
            .where(
                or_(
                    not_(told.op("@>", is_comparison=True)(erasable)),
                    exists(select(others).where(is_other)),
                ),
            )
            .order_by(erased.c.table_name, number)
        )
        for name, found in self._ledger.connection.execute(query):
            yield Discrepancy(
                SealProblem.CHANGED,
                name,
                first_id=found,
                last_id=found,
                ids=(found,),
                detail="other columns than were erased are said to be so",
            )

    def _of_head(self, expected: ChainHead) -> Iterator[Discrepancy]:
        roots = {seal.number: seal.root.hex() for seal in self._seals}
        roots[0] = ""
        if roots.get(expected.number) != expected.root:
            what = (
                f"the digest knows {counted(expected.number, 'seal')}, of which there "
                f"are {len(self._seals)}"
                if expected.number not in roots
                else f"the root of seal {expected.number} is not that of the digest"
            )
            yield Discrepancy(
                SealProblem.RESEALED,
                self._ledger.name,
                first_id=1,
                last_id=expected.number,
                detail=what,
            )

    def _of_seal(
        self,
        seal: Seal,
        is_wrong: bool,
        differences: _Differences,
        only: int | None = None,
    ) -> Iterator[Discrepancy]:
        """Yield what is not as it was in the ranges of a seal.

        :param only: the number of an event, to look at its range alone.
        """
        sealed = self._tables.get(seal.table_name)
        missing = self._missing(seal, sealed)
        if seal.number in self._later_formats:
            missing = (
                f"seal {seal.number} has the format {self._later_formats[seal.number]},"
                " of a later version of sa_history; upgrade sa_history to verify it"
            )
        if sealed is None or missing:
            what = missing or "none of the models given is sealed in this table"
            yield _unreadable(seal, what)
            return
        try:
            yield from self._of_readable_seal(seal, sealed, is_wrong, differences, only)
        except _UnreadableError as error:
            yield _unreadable(seal, str(error))

    def _of_readable_seal(
        self,
        seal: Seal,
        sealed: SealedTable,
        is_wrong: bool,
        differences: _Differences,
        only: int | None,
    ) -> Iterator[Discrepancy]:
        """Yield what is not as it was in the ranges of a seal.

        :raises _UnreadableError: a column has another type, or is gone.
        """
        stored_ranges = self._read(seal, lambda: read_ranges(self._ledger, seal))
        is_wrong = is_wrong or digest_of_ranges(stored_ranges) != seal.digest
        ranges = _without_overlap(stored_ranges)
        areas = areas_of(seal, ranges) if ranges else [(seal.first_id, seal.last_id)]
        if ranges and seal.first_id == 1:
            areas[0] = (-(1 << 63), areas[0][1])  # there are no numbers before
        pairs = [*zip(areas, ranges or [NO_EVENTS], strict=True)]
        if only is not None:
            pairs = [pair for pair in pairs if pair[0][0] <= only <= pair[0][1]]
            areas = [area for area, _ in pairs]
        located = False
        now = self._digests(sealed, seal, areas, with_marks=is_wrong)
        for (area, stored), found in zip(pairs, now, strict=True):
            if not _is_same(stored, found):
                # Somebody may have erased or removed events between two statements.
                self._removed = self._removals()
                (found,) = self._digests(sealed, seal, [area], with_marks=True)
            if _is_same(stored, found):
                if is_wrong and found.marks != stored.marks:
                    located = True
                    yield self._resealed(seal, *area)
                continue
            if not is_wrong and not are_named_by_marks(stored):
                raise _UnreadableError(
                    f"seal {seal.number} has digests of another form, as builds of "
                    "sa_history from before 0.1.0 made them; verify it with that build"
                )
            told = list(self._compare(sealed, seal, area, stored, found, differences))
            if told:
                yield from told
            elif is_wrong:
                located = True
                yield self._resealed(seal, *area)
            else:
                yield self._discrepancy(SealProblem.CHANGED, seal, area, ())
        if is_wrong and not located:
            yield self._resealed(seal, seal.first_id, seal.last_id)

    def _digests(
        self,
        sealed: SealedTable,
        seal: Seal,
        areas: Sequence[tuple[int, int]],
        *,
        with_marks: bool,
    ) -> list[RangeDigest]:
        return self._read(
            seal,
            lambda: range_digests(
                self._ledger,
                sealed,
                seal.leaf_columns,
                areas,
                with_marks=with_marks,
                kept=self._kept(sealed),
            ),
        )

    def _kept(self, sealed: SealedTable) -> KeptEvents | None:
        """Return which events are sealed as others than they are."""
        if self._archived is not None or not self._ledger.has_kept(sealed, FIRST_ID):
            return None
        last = last_seal(self._ledger, sealed.name)
        removed = self._removed.get(sealed.name, ())
        return KeptEvents(0 if last is None else last.last_id, removed)

    def _read(self, seal: Seal, read: Callable[[], _Read]) -> _Read:
        """Return what is read under the settings of digests.

        :raises _UnreadableError: a column has another type, or is gone.
        """
        connection = self._ledger.connection
        settings: AbstractContextManager[None] = canonical_settings(
            connection, seal.events
        )
        if self._has_settings and not has_plans_of_its_own(seal.events):
            settings = nullcontext()
        with settings:
            try:
                with connection.begin_nested():
                    return read()
            except WRONG_VALUES as error:
                if is_refused(error):
                    raise
                unreadable = _UnreadableError(first_line(error))
        raise unreadable

    def _missing(self, seal: Seal, sealed: SealedTable | None) -> str:
        """Return what the database has not any more of what a seal names."""
        if sealed is None:
            return ""
        there = self._ledger.columns_in_database(sealed.table)
        if not there:
            return "the table is gone"
        gone = [name for name in seal.leaf_columns.columns if name not in there]
        if gone:
            return f"the column {', '.join(gone)} is gone"
        tables = [sealed.table]
        if seal.leaf_columns.refers_to_contexts:
            tables.append(self._ledger.history.shared.context_table)
        # A view may show whoever verifies what it shows nobody else.
        for table in tables:
            if self._ledger.kind_of(table) not in (*_TABLES, None):
                return f"{table.fullname} is no table any more"
        return ""

    def _compare(
        self,
        sealed: SealedTable,
        seal: Seal,
        area: tuple[int, int],
        stored: RangeDigest,
        found: RangeDigest,
        differences: _Differences,
    ) -> Iterator[Discrepancy]:
        """Yield what differs between a range and its events, by their marks."""
        was, every = dict(marks_of(stored)), marks_of(found)
        now: dict[int, Mark] = {}
        for number, mark in every:
            # Of several with one number, it is the one that was sealed.
            if now.get(number) != was.get(number) or number not in now:
                now[number] = mark
        gone = [number for number in was if number not in now]
        removed = [number for number in gone if self._is_removed(seal, number)]
        missing = tuple(number for number in gone if number not in set(removed))
        if removed:
            yield self._discrepancy(SealProblem.REMOVED, seal, area, removed)
        if missing:
            yield self._discrepancy(SealProblem.MISSING, seal, area, missing)
        copies = Counter(number for number, _ in every)
        added = tuple(n for n in now if n not in was or copies[n] > 1)
        if added:
            yield self._discrepancy(SealProblem.ADDED, seal, area, added)
        both = {n: (was[n], now[n]) for n in was if n in now}
        changed = [
            n for n, (one, other) in both.items() if one.content != other.content
        ]
        if changed:
            differences.was |= {n: was[n].content for n in changed}
            differences.now |= {n: now[n].content for n in changed}
            yield self._discrepancy(SealProblem.CHANGED, seal, area, changed)
        of_context = _changed_contexts(both)
        if of_context:
            contexts = ", ".join(self._contexts_of(sealed, of_context))
            yield self._discrepancy(
                SealProblem.CHANGED,
                seal,
                area,
                of_context,
                f"their context, {contexts}" if contexts else "their context",
            )

    def _contexts_of(self, sealed: SealedTable, numbers: Sequence[int]) -> list[str]:
        """Return the ids of the contexts of some events."""
        events = self._ledger.place(sealed.table, [sealed.id, CONTEXT_ID_COLUMN])
        query = select(events.c[CONTEXT_ID_COLUMN]).where(
            events.c[sealed.id].in_(numbers[:10]),
            events.c[CONTEXT_ID_COLUMN].is_not(None),
        )
        return sorted(map(str, self._ledger.connection.scalars(query.distinct())))

    def _removals(self) -> Mapping[str, list[tuple[int, int]]]:
        """Return the numbers of the events that a retention has removed, by table."""
        log = self._ledger.place(self._ledger.tables.erasure)
        removals: dict[str, list[tuple[int, int]]] = {}
        query = select(log).where(log.c.first_id.is_not(None)).order_by(log.c.first_id)
        for row in self._ledger.connection.execute(query):
            bounds = removals.setdefault(row.table_name, [])
            # Years of months are one range.
            if bounds and row.first_id <= bounds[-1][1] + 1:
                first, last = bounds.pop()
                bounds.append((first, max(last, row.last_id)))
            else:
                bounds.append((row.first_id, row.last_id))
        return removals

    def _is_removed(self, seal: Seal, number: int) -> bool:
        removed = self._removed.get(seal.table_name, ())
        archived = (self._archived or {}).get(seal.table_name, ())
        return any(first <= number <= last for first, last in removed) and not any(
            first <= number <= last for first, last in archived
        )

    def _resealed(self, seal: Seal, first_id: int, last_id: int) -> Discrepancy:
        return Discrepancy(
            SealProblem.RESEALED,
            seal.table_name,
            max(first_id, seal.first_id),
            last_id,
            detail=f"seal {seal.number} is not the one that was made",
        )

    def _discrepancy(
        self,
        problem: SealProblem,
        seal: Seal,
        area: tuple[int, int],
        numbers: Sequence[int],
        detail: str = "",
    ) -> Discrepancy:
        first_id = min([max(area[0], seal.first_id), *numbers])
        return Discrepancy(
            problem, seal.table_name, first_id, area[1], tuple(numbers), detail
        )


def _unreadable(seal: Seal, what: str) -> Discrepancy:
    """Return that the events of a seal cannot be read.

    :param what: why not, in words.
    """
    return Discrepancy(
        SealProblem.UNREADABLE,
        seal.table_name,
        seal.first_id,
        seal.last_id,
        detail=what,
    )


def _without_overlap(ranges: Sequence[RangeDigest]) -> list[RangeDigest]:
    """Return ranges that follow one another, without others that somebody added."""
    kept: list[RangeDigest] = []
    for one in ranges:
        if not kept or (one.first_id or 0) > (kept[-1].last_id or 0):
            kept.append(one)
    return kept


def _is_same(stored: RangeDigest, found: RangeDigest) -> bool:
    return found.digest == stored.digest and found.events == stored.events


def _changed_contexts(both: Mapping[int, tuple[Mark, Mark]]) -> list[int]:
    """Return the numbers of events whose contexts alone are not as they were."""
    return [
        number
        for number, (one, other) in both.items()
        if one.content == other.content and one.context != other.context
    ]
