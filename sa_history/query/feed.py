"""Events in an order in which none can appear behind a reader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Select, Text, func, tuple_
from sqlalchemy import cast as sql_cast

from sa_history.exc import EventsError
from sa_history.query.aggregate import AggregateEvent, aggregate
from sa_history.query.sources import Source, sources_of


class Cursor(NamedTuple):
    """How far a reader of the feed has come.

    It can be stored anywhere as its two numbers, and made of them again.

    Example::

        cursor = Cursor(*json.loads(stored))
    """

    transaction: int
    event: int


def feed(
    *targets: Any, after: Cursor | tuple[int, int] | None = None, limit: int = 1000
) -> Select[Any]:
    """Return a SELECT of the events of all finished transactions, for exports.

    They are in the order of their transactions. An event is given once all transactions
    that began to write before its own have ended, so that no event can appear later
    behind a cursor that was handed out. A transaction that stays open holds the feed
    back, also one in another database of the cluster. Its rows have the columns of
    :class:`AggregateEvent`; ``cursor_of(row)`` is where to go on.

    :param targets: as for :meth:`AggregateEvent.select`.
    :param after: the cursor of the last row that was read; from the beginning without.
    :param limit: how many events at most.
    :raises EventsError: a target is not tracked, or there is none.

    Example::

        rows = session.execute(history.feed(Base, after=cursor)).all()
        if rows:
            cursor = history.cursor_of(rows[-1])
    """
    if limit < 1:
        raise EventsError(f"feed gives one event at least, got limit={limit!r}")

    def criteria(source: Source) -> Iterator[ColumnElement[bool]]:
        columns = source.tracking.event_table.c
        yield columns.pgh_xact_id < _horizon()
        if after is not None:
            transaction, event = after
            # Said again for the index, which has the transaction only.
            yield columns.pgh_xact_id >= transaction
            yield tuple_(columns.pgh_xact_id, columns.pgh_id) > (transaction, event)

    order = [AggregateEvent.pgh_xact_id, AggregateEvent.pgh_id]
    return aggregate(sources_of(targets, None, 0), criteria, order, limit)


def _horizon() -> ColumnElement[int]:
    """Return the number below which all transactions have ended.

    https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT
    """
    snapshot = func.pg_snapshot_xmin(func.pg_current_snapshot())
    return sql_cast(sql_cast(snapshot, Text), BigInteger)


def cursor_of(row: Any) -> Cursor:
    """Return where a reader goes on after a row of the feed.

    Example::

        cursor = history.cursor_of(rows[-1])
    """
    return Cursor(row.pgh_xact_id, row.pgh_id)
