"""The feed: pages of events in an order in which no event can appear later on.

``pgh_id`` and ``pgh_created_at`` are assigned before the commit, so a reader that keeps
the greatest one misses what commits later with a smaller one. The feed goes by the
numbers of transactions, and ends before the oldest one that is still running.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Sequence
from typing import Any, NamedTuple, overload

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    Text,
    Tuple,
    bindparam,
    func,
    literal,
    tuple_,
)
from sqlalchemy import cast as sql_cast

from sa_history.exc import EventsError
from sa_history.query.aggregate import (
    COLUMNS,
    AggregateEvent,
    AggregateRow,
    aggregate,
    requiring,
)
from sa_history.query.feed_of_nodes import HORIZON, NodesFeedReader
from sa_history.query.pages import CriteriaOf, PageReader, read
from sa_history.query.removed_events import Asked
from sa_history.query.sources import EventSource, EventTarget, sources_of
from sa_history.util.arguments import is_number
from sa_history.util.sessions import AnyAsyncSession, SyncSession


class FeedPosition(NamedTuple):
    """How far a reader of the feed has come.

    It is a tuple of two numbers, so it can be stored as JSON or in two columns, and
    made of them again.

    Example::

        position = FeedPosition(*json.loads(stored))
    """

    transaction: int
    """The ``pgh_xact_id`` of the last event that was read."""
    event: int
    """The ``pgh_id`` of the last event that was read."""


def feed(
    *targets: EventTarget,
    after: FeedPosition | tuple[int, int] | None = None,
    limit: int = 1000,
) -> Select[Any]:
    """Return a SELECT of a page of the events of finished transactions, for exports.

    Events are ordered by the number of their transaction, then by their own. An event
    is given once all transactions with a smaller number have ended, so none can appear
    later behind a position that was handed out. A transaction that stays open holds
    the feed back, also one in another database of the cluster. The rows have the
    columns of :class:`AggregateEvent`.

    :param targets: as for :meth:`AggregateEvent.select`.
    :param after: the position of the last event that was read, as :func:`cursor_of`
        gives it; None to begin with the first event.
    :param limit: the greatest number of events.
    :return: the SELECT, for a ``Session`` or an ``AsyncSession``.
    :raises EventsError: a target is not tracked, there is no target, the limit is no
        number from 1 on, the position is none, or Citus has the tables;
        :func:`feed_page` reads these.
    :raises EventsRemovedError: on execution by a session, if events after the position
        were removed, and so never given; of whole tables only.

    Example::

        rows = session.execute(history.feed(Base, after=position)).all()
        if rows:
            position = history.cursor_of(rows[-1])
    """
    sources = _checked(targets, limit, after)
    for tracking in (source.tracking for source in sources):
        if tracking.is_distributed:
            raise EventsError(
                f"there is no SELECT for a feed of {tracking.subject}, as the nodes of "
                "Citus have to be asked first which transactions have ended; read with "
                "feed_page(session, ...)"
            )
    position = None if after is None else tuple_(*map(literal, after))
    criteria = _criteria(position, _oldest_running_transaction())
    statement = aggregate(sources, criteria, _ORDER, limit)
    return requiring(statement, _asked(sources, after), sources)


@overload
def feed_page(
    session: SyncSession,
    *targets: EventTarget,
    after: FeedPosition | tuple[int, int] | None = ...,
    limit: int = ...,
) -> list[AggregateRow]: ...


@overload
def feed_page(
    session: AnyAsyncSession,
    *targets: EventTarget,
    after: FeedPosition | tuple[int, int] | None = ...,
    limit: int = ...,
) -> Awaitable[list[AggregateRow]]: ...


def feed_page(
    session: Any,
    *targets: EventTarget,
    after: FeedPosition | tuple[int, int] | None = None,
    limit: int = 1000,
) -> Any:
    """Return a page of the feed: the rows of :func:`feed`, read in two steps.

    It is faster than :func:`feed` where there are many models, or models with many
    columns; see :meth:`AggregateEvent.page`. Of tables that Citus has, it asks all
    nodes first which transactions have ended; any session of the database that is in a
    transaction holds this feed back, also one that only reads, and it is a second
    behind.

    :param session: a ``Session``; with an ``AsyncSession``, await the result.
    :param targets: as for :meth:`AggregateEvent.select`.
    :param after: the position of the last event that was read, as :func:`cursor_of`
        gives it; None to begin with the first event.
    :param limit: the greatest number of events.
    :return: the rows, none if there is nothing new.
    :raises EventsError: a target is not tracked, there is no target, the limit is no
        number from 1 on, or the position is none; or Citus has the tables, and the
        nodes do not all answer, or not all, or the session is not READ COMMITTED.

    Example::

        while rows := history.feed_page(session, Base, after=position):
            position = history.cursor_of(rows[-1])
    """
    sources = _checked(targets, limit, after)
    names = () if after is None else ("page_transaction", "page_event")
    position = tuple_(*(bindparam(name, type_=BigInteger) for name in names))
    is_distributed = _is_distributed(sources)
    horizon = (
        bindparam(HORIZON, type_=BigInteger)
        if is_distributed
        else _oldest_running_transaction()
    )
    reader = PageReader(
        sources=sources,
        criteria=_criteria(position if names else None, horizon),
        order=_ORDER,
        limit=limit,
        columns=COLUMNS,
        values=dict(zip(names, after or (), strict=True)),
        shape=("feed", is_distributed, *names),
        asked=_asked(sources, after),
    )
    return read(
        session, NodesFeedReader(reader) if is_distributed else reader, "feed_page"
    )


def _checked(
    targets: tuple[EventTarget, ...], limit: Any, after: Any
) -> list[EventSource]:
    """Return the event tables of a feed.

    :raises EventsError: there is no feed of them, or none that goes on there.
    """
    if not is_number(limit, least=1):
        raise EventsError(
            f"feed gives one event at least, got limit={limit!r}; give an int from 1 on"
        )
    is_pair = isinstance(after, Sequence) and len(after) == 2
    if after is not None and not (is_pair and all(map(is_number, after))):
        raise EventsError(
            f"feed goes on after a transaction and an event, got after={after!r}; give "
            "what cursor_of(row) returned"
        )
    return sources_of(targets, None, 0)


def _is_distributed(sources: Sequence[EventSource]) -> bool:
    """Return whether Citus has the tables of a feed.

    :raises EventsError: it has some of them; the others number transactions otherwise.
    """
    first, *others = (source.tracking for source in sources)
    for other in others:
        if other.is_distributed != first.is_distributed:
            raise EventsError(
                f"there is no feed of {first.subject} and {other.subject} together, as "
                "track(distribute=...) of one of them numbers its transactions for all "
                "nodes of Citus; read a feed of each kind"
            )
    return first.is_distributed


def _asked(sources: Sequence[EventSource], after: Any) -> Asked:
    """Return what may be before all events that are left.

    A reader of some rows only may have come to no later position, and missed nothing.
    """
    is_whole = not any(source.criteria() for source in sources)
    return Asked(after=tuple(after) if after is not None and is_whole else None)


def _criteria(after: Tuple | None, horizon: ColumnElement[int]) -> CriteriaOf:
    """Return what gives the criteria of events that are safe to read.

    :param after: the position of the last event that was read.
    :param horizon: the number below which all transactions have ended.
    """

    def criteria(source: EventSource) -> Iterator[ColumnElement[bool]]:
        columns = source.tracking.event_table.c
        yield columns.pgh_xact_id < horizon
        if after is not None:
            yield tuple_(columns.pgh_xact_id, columns.pgh_id) > after

    return criteria


_ORDER = [AggregateEvent.pgh_xact_id, AggregateEvent.pgh_id]


def _oldest_running_transaction() -> ColumnElement[int]:
    """Return the number below which all transactions have ended.

    https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT
    """
    snapshot = func.pg_snapshot_xmin(func.pg_current_snapshot())
    return sql_cast(sql_cast(snapshot, Text), BigInteger)


def cursor_of(row: Any) -> FeedPosition:
    """Return the position after a row of the feed, to go on from there.

    :param row: a row of :func:`feed` or :func:`feed_page`.
    :return: what ``feed(after=...)`` takes.
    :raises EventsError: it is no such row.

    Example::

        position = history.cursor_of(rows[-1])
    """
    try:
        return FeedPosition(row.pgh_xact_id, row.pgh_id)
    except AttributeError:
        raise EventsError(
            f"cursor_of takes a row of the feed, got {row!r}; give the last one that "
            "was read"
        ) from None
