"""The number of the last event of transactions that began before a time.

The times of events do not come quite in the order of their numbers: a transaction that
began earlier may write later. So a page of the events before a time, by their numbers,
would begin with the newest event of all. A BRIN index tells which pages of a table have
both an early time and a high number, which are few.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    and_,
    case,
    func,
    literal,
    literal_column,
    select,
    true,
    union_all,
)
from sqlalchemy.orm import Session

from sa_history.query.details import numbered
from sa_history.tracking.registry import Tracking

_INDEXED = {"pgh_created_at", "pgh_id"}


def has_index_of_both(tracking: Tracking) -> bool:
    """Return whether a model has a BRIN index of the times and numbers of its events.

    The index is one that the event table has in the MetaData.
    """
    return any(
        index.dialect_options["postgresql"]["using"] == "brin"
        and {*index.columns.keys()} >= _INDEXED
        for index in tracking.event_table.indexes
    )


def last_numbers_before(
    session: Session, trackings: Iterable[Tracking], until: datetime.datetime
) -> Mapping[Tracking, int | None]:
    """Return the number of the last event before a time, of each table with the index.

    No event with a greater number is of a transaction that began before the time.

    :param until: the time, with a time zone.
    :return: the numbers by tracking; None for a table without such an event. A table
        without the index is left out.
    """
    indexed = {n: t for n, t in numbered(trackings) if has_index_of_both(t)}
    if not indexed:
        return {}
    searches = [_search(t, n, until) for n, t in indexed.items()]
    found = session.execute(union_all(*searches)).all()
    return {
        indexed[source]: session.scalar(_last(indexed[source], low, until))
        for source, low in found
    }


def _search(tracking: Tracking, source: int, until: datetime.datetime) -> Any:
    """Return the SELECT of the number of an early event, near to the last one.

    It halves the range of the numbers by the primary key, as if the times came in the
    order of the numbers. If they do not, the number is that of an earlier event, or
    that of the first one.
    """
    events = tracking.event_table
    search = select(
        select(func.min(events.c.pgh_id)).scalar_subquery().label("low"),
        select(func.max(events.c.pgh_id) + 1).scalar_subquery().label("high"),
    ).cte(f"pgh_search_{source}", recursive=True)
    low, high = search.c.low, search.c.high
    middle: ColumnElement[int] = low + (high - low) // 2
    found = (
        select(events.c.pgh_id, events.c.pgh_created_at)
        .where(events.c.pgh_id >= middle)
        .order_by(events.c.pgh_id)
        .limit(1)
        .correlate(search)
        .lateral("found")
    )
    is_before = and_(found.c.pgh_created_at < until, found.c.pgh_id < high)
    half = (
        select(
            case((is_before, found.c.pgh_id), else_=low),
            case((is_before, high), else_=middle),
        )
        .select_from(search.join(found, true()))
        .where(high - low > 1)
    )
    search = search.union_all(half)
    number = literal_column(str(source), Integer).label("source")
    return select(number, func.max(search.c.low).label("low"))


def _last(tracking: Tracking, low: int | None, until: datetime.datetime) -> Any:
    """Return the SELECT of the greatest number before a time.

    :param low: a number that it is not below; None for a table without events.
    """
    events = tracking.event_table
    # With a column that no index on the time has, or PostgreSQL would read all of one,
    # or look for the greatest number from the newest event on.
    number = events.c.pgh_id + events.c.pgh_xact_id * 0
    # It thinks that a quarter of the table is read, and would start workers, which
    # takes longer than to read the few pages; this function it calls in no worker.
    without_workers = func.pg_backend_pid() > 0
    return select(func.max(number)).where(
        without_workers,
        events.c.pgh_created_at < until,
        events.c.pgh_id >= literal(low, BigInteger),
    )
