"""What a verification finds: ranges of sealed events that are not as they were."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from sa_history.sealing.chain import SealDigest


class SealProblem(str, enum.Enum):
    """What is wrong with sealed events, or was done to them.

    Example::

        [d for d in verification.discrepancies if d.problem is SealProblem.MISSING]
    """

    CHANGED = "changed"
    """An event, or its context, has other values; or an erased one has some again."""
    MISSING = "missing"
    """An event is not there any more."""
    ADDED = "added"
    """There is an event that was not there when its range was sealed."""
    REORDERED = "reordered"
    """Events have exchanged their places."""
    RESEALED = "resealed"
    """The seals are not those that were made, or not those that a digest knows."""
    UNREADABLE = "unreadable"
    """A table or a column that the seal names is gone, or of no model given; or the
    seal was made by a version of sa_history that has another form of seals."""
    REMOVED = "removed"
    """Old events were removed by a retention that is recorded; it is no fault."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Discrepancy:
    """A range of sealed events that is not as it was, and how.

    :param problem: what is wrong.
    :param table: the event table, or the table of seals.
    :param first_id: the number that the range begins with.
    :param last_id: the number that it ends with.
    :param ids: the numbers of the events; none if these cannot be told.
    :param detail: more words; empty for none.
    :param in_archive: whether it is so in the archive, and not in the database.

    Example::

        for discrepancy in history.verify(engine, Base).discrepancies:
            print(discrepancy)
    """

    problem: SealProblem
    table: str
    first_id: int
    last_id: int
    ids: tuple[int, ...] = ()
    detail: str = ""
    in_archive: bool = False

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.ids[:10]))
        more = f" and {len(self.ids) - 10} more" if len(self.ids) > 10 else ""
        ids = f": {shown}{more}" if self.ids else ""
        detail = f" ({self.detail})" if self.detail else ""
        where = f"{self.first_id} to {self.last_id}"
        archive = " in the archive" if self.in_archive else ""
        return f"{self.problem} {self.table} {where}{archive}{ids}{detail}"


@dataclass(frozen=True)
class Verification:
    """What a verification has found.

    :param discrepancies: what is not as it was.
    :param removed: what a recorded retention has removed.
    :param seals: how many seals were verified.
    :param events: how many events these seal.
    :param digest: the last seals that are in the database now.

    Example::

        assert not history.verify(engine, Base).discrepancies
    """

    discrepancies: tuple[Discrepancy, ...]
    removed: tuple[Discrepancy, ...]
    seals: int
    events: int
    digest: SealDigest


def joined(removed: Iterable[Discrepancy]) -> Iterator[Discrepancy]:
    """Yield discrepancies, those that follow one another as one."""
    last: Discrepancy | None = None
    for one in removed:
        if last and (last.table, last.last_id + 1) == (one.table, one.first_id):
            last = replace(last, last_id=one.last_id, ids=())
            continue
        if last:
            yield last
        last = one
    if last:
        yield last
