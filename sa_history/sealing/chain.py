"""Seals, each chained to the one before it by a digest, and the digest to keep.

Whoever can write the database can make all seals anew. So the last root of the chain is
kept outside of it, as a :class:`SealDigest`.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    LargeBinary,
    Select,
    Text,
    false,
    func,
    insert,
    literal,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.exc import DataError, ProgrammingError

from sa_history.exc import SealError
from sa_history.sealing.leaves import (
    CONTENT_BYTES,
    ID_BYTES,
    MARK,
    RangeDigest,
    sha256,
)
from sa_history.sealing.sources import LeafColumns, Ledger
from sa_history.util.postgresql import INSUFFICIENT_PRIVILEGE, sqlstate_of

FORMAT = 1
"""The version of digests and of the JSON that has the root of a chain.

It grows where older libraries would take other digests for events that were changed. A
root is made of it, as :meth:`Seal.root_after` has it in all versions.
"""

_LATER_FORMATS = range(FORMAT + 1, FORMAT + 10)


@dataclass(frozen=True)
class ChainHead:
    """The last seal of a chain.

    :param number: the number of the seal; 0 of a chain without seals.
    :param root: the root as hexadecimal digits.
    """

    number: int
    root: str

    @classmethod
    def of(cls, last: Seal | None) -> ChainHead:
        """Return the head of a chain whose last seal is given; None without seals."""
        return cls(0, "") if last is None else cls(last.number, last.root.hex())


@dataclass(frozen=True)
class SealDigest:
    """What all seals of some models come down to; kept where nobody else can write.

    :param chains: the last seal of each table of seals, by the table's name.

    Example::

        digest = history.seal(engine, Base)
        Path("digest.json").write_text(digest.to_json())
        history.verify(engine, Base, digest=SealDigest.from_json(text))
    """

    chains: Mapping[str, ChainHead]

    def to_json(self) -> str:
        """Return the digest as JSON.

        Example::

            print(history.seal(engine, Base).to_json())
        """
        chains = {
            name: {"seal": head.number, "root": head.root}
            for name, head in sorted(self.chains.items())
        }
        return json.dumps({"sa_history": FORMAT, "chains": chains}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> SealDigest:
        """Return the digest that :meth:`to_json` has written.

        :raises SealError: the text is not one.

        Example::

            digest = SealDigest.from_json(Path("digest.json").read_text())
        """
        try:
            found = json.loads(text)
            if found["sa_history"] in _LATER_FORMATS:
                raise SealError(
                    f"the digest has the format {found['sa_history']}, of a later "
                    "version of sa_history; upgrade sa_history to verify by it"
                )
            if found["sa_history"] != FORMAT:
                raise ValueError(f"it has the format {found['sa_history']!r}")
            heads = {
                str(name): ChainHead(int(head["seal"]), str(head["root"]))
                for name, head in found["chains"].items()
            }
            for head in heads.values():
                if head.number < 0:
                    raise ValueError(f"it has a seal {head.number}")
            return cls(heads)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise SealError(
                f"this is no digest of seals ({error}); give what sa-history seal "
                "--to has written"
            ) from None


@dataclass(frozen=True)
class Seal:
    """A seal of the events of one table with numbers from one to another.

    :param number: its place in the chain, from 1 on.
    :param table_name: the table, as the models name it.
    :param leaf_columns: what the digests of its events are made of.
    :param first_id: the number that the seal begins with.
    :param last_id: the number that it ends with.
    :param events: how many events it seals.
    :param digest: the digest of its ranges.
    :param root: the digest of the root before it and of all of the above.
    :param sealed_at: when the seal was made.
    """

    number: int
    table_name: str
    leaf_columns: LeafColumns
    first_id: int
    last_id: int
    events: int
    digest: bytes
    root: bytes
    sealed_at: datetime.datetime

    def root_after(self, previous: bytes, form: int = FORMAT) -> bytes:
        """Return the root that the seal has after another one.

        :param previous: the root of the seal before it, empty for the first one.
        :param form: the version of its digests.
        """
        told = [
            form,
            self.number,
            self.table_name,
            self.leaf_columns.columns,
            self.leaf_columns.erasable,
            self.leaf_columns.context_keys,
            self.first_id,
            self.last_id,
            self.events,
            self.digest.hex(),
            self.sealed_at.astimezone(datetime.timezone.utc).isoformat(),
        ]
        text = json.dumps(told, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(previous + text.encode()).digest()

    def later_format(self, previous: Iterable[bytes]) -> int | None:
        """Return the format of a seal that a later version made, None of others.

        :param previous: roots, of which one may be that of the seal before it.
        """
        return next(
            (
                form
                for form in _LATER_FORMATS
                for root in previous
                if self.root == self.root_after(root, form)
            ),
            None,
        )


def digest_of_ranges(ranges: Iterable[RangeDigest]) -> bytes:
    """Return the digest of a seal, which is that of its ranges."""
    whole = hashlib.sha256()
    for one in ranges:
        bounds = f"{one.first_id} {one.last_id} {one.events} ".encode()
        whole.update(bounds + (one.digest or b"") + one.marks)
    return whole.digest()


WRONG_VALUES = (ProgrammingError, DataError, TypeError, ValueError, OverflowError)
"""The errors of reading columns that somebody has dropped or given another type."""


def read_seals(ledger: Ledger) -> list[Seal]:
    """Return the seals in their order.

    :raises SealError: a column has not the type that it should have, or is gone.
    """
    table = ledger.place(ledger.tables.seal)
    try:
        rows = ledger.connection.execute(select(table).order_by(table.c.id))
        return [seal_of_row(row) for row in rows]
    except WRONG_VALUES as error:
        if is_refused(error):
            raise
        raise SealError(f"the seals cannot be read: {first_line(error)}") from error


def is_refused(error: BaseException) -> bool:
    """Return whether the role lacks a right, which says nothing of what is read."""
    original = getattr(error, "orig", None)
    return sqlstate_of(original) == INSUFFICIENT_PRIVILEGE


def first_line(error: BaseException) -> str:
    """Return what is wrong, without the statement."""
    return str(getattr(error, "orig", None) or error).splitlines()[0]


def last_seal(ledger: Ledger, table_name: str | None = None) -> Seal | None:
    """Return the last seal, or None without one.

    :param table_name: only of seals of this table; None for all.
    """
    table = ledger.place(ledger.tables.seal)
    query = select(table).order_by(table.c.id.desc()).limit(1)
    if table_name is not None:
        query = query.where(table.c.table_name == table_name)
    row = ledger.connection.execute(query).first()
    return None if row is None else seal_of_row(row)


def seal_of_row(row: Any) -> Seal:
    """Return what a row of the table of seals has."""
    columns = (tuple(row.columns), tuple(row.erasable), tuple(row.context_keys))
    return Seal(
        row.id,
        row.table_name,
        LeafColumns(*columns),
        int(row.first_id),
        int(row.last_id),
        int(row.events),
        bytes(row.digest),
        bytes(row.root),
        row.sealed_at.astimezone(datetime.timezone.utc),
    )


def read_ranges(ledger: Ledger, seal: Seal) -> list[RangeDigest]:
    """Return the ranges of a seal in their order.

    :raises ProgrammingError: a column is gone; or another of ``WRONG_VALUES``.
    """
    table = ledger.place(ledger.tables.seal_range)
    rows = ledger.connection.execute(
        select(table).where(table.c.seal_id == seal.number).order_by(table.c.first_id)
    )
    return [RangeDigest.of_row(row) for row in rows]


def write_seal(ledger: Ledger, seal: Seal) -> None:
    """Add a seal, of which the events and the digests are not known yet."""
    ledger.connection.execute(
        insert(ledger.place(ledger.tables.seal)),
        {
            "id": seal.number,
            "table_name": seal.table_name,
            "columns": list(seal.leaf_columns.columns),
            "erasable": list(seal.leaf_columns.erasable),
            "context_keys": list(seal.leaf_columns.context_keys),
            "first_id": seal.first_id,
            "last_id": seal.last_id,
            "events": seal.events,
            "digest": seal.digest,
            "root": seal.root,
            "sealed_at": seal.sealed_at,
        },
    )


def complete_seal(ledger: Ledger, seal: Seal) -> None:
    """Give a seal that was added its events and digests."""
    table = ledger.place(ledger.tables.seal)
    known = {"events": seal.events, "digest": seal.digest, "root": seal.root}
    statement = update(table).where(table.c.id == seal.number).values(known)
    ledger.connection.execute(statement)


def write_ranges(
    ledger: Ledger, number: int, ranges: Select[Any]
) -> tuple[int, bytes, bool]:
    """Add the ranges of a seal; they do not leave the database.

    :param number: the number of the seal.
    :param ranges: what ``select_ranges`` returns.
    :return: how many events they have, what :func:`digest_of_ranges` returns, and
        whether an event has no salt that should have one.
    """
    found = ranges.cte("found")
    names = ["first_id", "last_id", "events", "digest", "marks"]
    table = ledger.place(ledger.tables.seal_range)
    added = (
        insert(table)
        .from_select(
            ["seal_id", *names],
            select(literal(number, BigInteger), *(found.c[name] for name in names)),
        )
        .returning(*(table.c[name] for name in names))
        .cte("added")
    )
    numbers = [added.c.first_id, added.c.last_id, added.c.events]
    bounds = func.convert_to(
        func.concat(*(part for n in numbers for part in (n, literal(" ", Text)))),
        literal_column("'UTF8'"),
        type_=LargeBinary,
    )
    whole = bounds.op("||", return_type=LargeBinary())(added.c.digest)
    whole = whole.op("||", return_type=LargeBinary())(added.c.marks)
    nothing = literal_column("''::bytea", LargeBinary)
    joined = func.string_agg(whole, aggregate_order_by(nothing, added.c.first_id))
    events = func.coalesce(func.sum(added.c.events), 0)
    digest = sha256(func.coalesce(joined, nothing))
    unsalted = select(func.coalesce(func.bool_or(found.c.unsalted), false()))
    row = ledger.connection.execute(
        select(events, digest, unsalted.scalar_subquery())
    ).one()
    return int(row[0]), bytes(row[1]), row[2]


def areas_of(seal: Seal, ranges: Sequence[RangeDigest]) -> list[tuple[int, int]]:
    """Return the numbers that each range of a seal stands for, without gaps.

    A range is from its first event to its last one. The numbers after these, up to the
    next range, belong to it as well: an event that somebody inserts there is found.
    """
    ends = [one.last_id or 0 for one in ranges]
    starts = [seal.first_id, *(end + 1 for end in ends[:-1])]
    return list(zip(starts, [*ends[:-1], seal.last_id], strict=True))


@dataclass(frozen=True)
class Mark:
    """What a seal keeps of an event beside the digest of its range.

    :param content: the beginning of the digest of its values.
    :param context: the beginning of the digest of its context.
    """

    content: bytes
    context: bytes


def marks_of(one: RangeDigest) -> list[tuple[int, Mark]]:
    """Return the marks of a range with the numbers of the events, in their order."""
    marks = []
    number = one.first_id or 0
    others = CONTENT_BYTES * (len(one.marks) // MARK)
    for start in range(0, others, CONTENT_BYTES):
        content = one.marks[start : start + CONTENT_BYTES]
        entry = one.marks[others : others + MARK - CONTENT_BYTES]
        others += MARK - CONTENT_BYTES
        # The lower bits of the number; the others go up from one event to the next.
        low = int.from_bytes(entry[:ID_BYTES], "big")
        number += (low - number) % (1 << 8 * ID_BYTES)
        marks.append((number, Mark(content, entry[ID_BYTES:])))
    return marks


def are_named_by_marks(one: RangeDigest) -> bool:
    """Return whether the marks of a range name its first and its last event.

    Builds of sa_history from before 0.1.0 wrote marks of another form.
    """
    numbers = [number for number, _ in marks_of(one)]
    ends = (numbers[0], numbers[-1]) if numbers else (None, None)
    return ends == (one.first_id, one.last_id)


def write_digest(path: Path, digest: SealDigest) -> None:
    """Write a digest to a file, whole or not at all."""
    new = path.with_name(path.name + ".new")
    new.write_text(digest.to_json() + "\n")
    new.replace(path)
