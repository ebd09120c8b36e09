"""Events and versions that are asked for by text, as on a command line.

Whoever types a key or a user does not know the types of columns, nor whether a number
was a number in the context. So keys are cast by PostgreSQL, and the values of contexts
are compared as text.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    SelectBase,
    String,
    Text,
    column,
    literal,
    or_,
    select,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session

from sa_history._types import Op
from sa_history.capture.context_storage import MetadataCriterion
from sa_history.capture.partitioning import FIRST_ID, KEPT_OFFSET
from sa_history.exc import EventsError
from sa_history.query.aggregate import COLUMNS, AggregateEvent, AggregateRow
from sa_history.query.contexts_asked import ANY_CONTEXT, ContextsAsked
from sa_history.query.details import numbered
from sa_history.query.last_numbers import last_numbers_before
from sa_history.query.pages import PageReader
from sa_history.query.removed_events import Asked, require_version
from sa_history.query.sources import EventSource, EventTarget, sources_of
from sa_history.sql.column_types import postgresql_type
from sa_history.tracking.completeness import (
    GONE,
    complete_tracking,
    version_events,
)
from sa_history.tracking.event_keys import keys_of
from sa_history.tracking.events import trackings_of, values_of_columns
from sa_history.tracking.registry import Tracking
from sa_history.tracking.stored_values import is_same_value

VERBS: Mapping[str, str] = {
    Op.INSERT: "created",
    Op.UPDATE: "changed",
    Op.DELETE: "deleted",
    Op.TRUNCATE: "truncated",
    Op.MANUAL: "noted",
    Op.BASELINE: "began",
}
"""What an operation did to a row, in a word, by the value of :class:`Op`."""

Found: TypeAlias = tuple[Tracking, AggregateRow]
"""Whose event it is, and the event."""

PAGE_SIZE = 500
"""The number of events that one statement reads."""


@dataclass(frozen=True)
class EventSearch:
    """Which events are looked for.

    :param targets: as for ``AggregateEvent.select``, models of one MetaData.
    :param context: keys of the context, each with its value as text; an event has to
        have all of them.
    :param since: only events of transactions that began then or later; None for any.
    :param until: only events of transactions that began before then; None for any.
    :param transaction: the number of a transaction; None for any.
    """

    targets: Sequence[EventTarget]
    context: Sequence[tuple[str, str]] = ()
    since: datetime.datetime | None = None
    until: datetime.datetime | None = None
    transaction: int | None = None

    def rows(self, session: Session, limit: int | None) -> Iterator[Found]:
        """Yield the events, the newest first; they are read a page at a time.

        :param limit: the greatest number of events; None for all.
        :raises EventsError: a target is not tracked.
        :raises EventsRemovedError: the times or the transaction may have had events
            that were removed.
        """
        sources = sources_of(self.targets, None, 0)
        asked = Asked(self.transaction, None, self.since, self.until)
        trackings = [source.tracking for source in sources]
        asked.require_events(session.connection(), trackings)
        last: Mapping[Tracking, int | None] = {}
        if self.until is not None:
            last = last_numbers_before(session, trackings, self.until)
        before: int | None = None
        left = limit
        while left is None or left > 0:
            size = PAGE_SIZE if left is None else min(left, PAGE_SIZE)
            page = self._page(session, sources, last, before, size)
            yield from page
            if len(page) < size:
                return
            before = page[-1][1].pgh_id
            left = None if left is None else left - size

    def _page(
        self,
        session: Session,
        sources: Sequence[EventSource],
        last: Mapping[Tracking, int | None],
        before: int | None,
        limit: int,
    ) -> list[Found]:
        def criteria(source: EventSource) -> Iterator[ColumnElement[bool]]:
            number = source.tracking.event_table.c.pgh_id
            yield from self._criteria(source.tracking)
            if before is not None:
                yield number < before
            elif source.tracking in last:
                yield number <= literal(last[source.tracking], BigInteger)

        order = [AggregateEvent.pgh_id.desc()]
        contexts = ContextsAsked(metadata=[_has(*pair) for pair in self.context])
        return _read(session, sources, criteria, order, limit, contexts)

    def _criteria(self, tracking: Tracking) -> Iterator[ColumnElement[bool]]:
        events = tracking.event_table
        if self.since is not None:
            yield events.c.pgh_created_at >= self.since
        if self.until is not None:
            yield events.c.pgh_created_at < self.until
        if self.transaction is not None:
            yield events.c.pgh_xact_id == self.transaction


def _read(
    session: Session,
    sources: Sequence[EventSource],
    criteria: Any,
    order: Sequence[ColumnElement[Any]],
    limit: int,
    contexts: ContextsAsked = ANY_CONTEXT,
) -> list[Found]:
    reader = PageReader(
        sources=sources,
        criteria=criteria,
        order=order,
        limit=limit,
        columns=[*COLUMNS, column("source")],
        values={},
        shape=None,
        contexts=contexts,
    )
    trackings = dict(numbered([source.tracking for source in sources]))
    rows: list[Any] = reader.read(session)
    return [(trackings[row.source], row) for row in rows]


def in_order(tracking: Tracking, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by attribute, in the order of the model and not of jsonb."""
    stored = tracking.tracked_columns.stored
    return {name: values[name] for name in stored if name in values}


def _has(key: str, value: str) -> MetadataCriterion:
    return lambda metadata: metadata[key].astext == value


def key_from_texts(session: Session, model: Any, texts: Sequence[str]) -> SelectBase:
    """Return a SELECT of the key of a row, from its values as text.

    :param session: a session of the database, which is asked whether they are a key.
    :param model: a tracked class or table.
    :param texts: a value for each column of the primary key, in its order.
    :raises EventsError: the model is not tracked, its key has another number of
        columns, or a text is no value of its column.
    """
    tracking = trackings_of(model)[0]
    values = values_of_columns(tracking, tuple(texts))
    columns = keys_of(tracking, tracking.event_table)
    key = select(
        *(
            sql_cast(literal(text, Text), _type_to_read(part.type))
            for part, text in zip(columns, values, strict=True)
        )
    )
    try:
        session.execute(key).close()
    except DataError as error:
        said = str(error.orig).partition("\n")[0]
        raise EventsError(
            f"{' '.join(texts)!r} is no key of {tracking.subject}: {said}; give a "
            f"value for {', '.join(tracking.tracked_columns.key)}"
        ) from error
    return key


def _type_to_read(type_: Any) -> Any:
    """Return the type by which PostgreSQL reads a value of a type from text."""
    kind = postgresql_type(type_)
    is_text = isinstance(kind, String) and not getattr(kind, "native_enum", False)
    # A VARCHAR would be cut to its length, and find another row.
    return Text() if is_text else kind


@dataclass(frozen=True)
class Version:
    """A row as an event left it, or as the last one by a time did.

    :param number: the number of the event.
    :param time: when the event's transaction began.
    :param values: the values by attribute; None if the row was deleted.
    """

    number: int
    time: datetime.datetime
    values: Mapping[str, Any] | None


def first_version(session: Session, model: Any, key: SelectBase) -> Version | None:
    """Return the version of a row's first event, None if it has no event.

    :param model: a tracked class or table.
    :param key: what :func:`key_from_texts` returns.
    """
    return _version(session, model, key, None, AggregateEvent.pgh_id.asc())


def version_at(
    session: Session,
    model: Any,
    key: SelectBase,
    at: int | datetime.datetime | None,
) -> Version | None:
    """Return the version that a row had, None if it had no event by then.

    :param model: a tracked class or table.
    :param key: what :func:`key_from_texts` returns.
    :param at: the number of an event, of any row, or a time; None for the last version.
    :raises EventsRemovedError: it may have had one, which was removed.
    """
    return _version(session, model, key, at, AggregateEvent.pgh_id.desc())


def _version(
    session: Session,
    model: Any,
    key: SelectBase,
    at: int | datetime.datetime | None,
    order: ColumnElement[Any],
) -> Version | None:
    """Return a version of a row, from all tables that have a part of it."""

    def criteria(source: EventSource) -> Iterator[ColumnElement[bool]]:
        events = source.tracking.event_table
        if isinstance(at, int):
            yield events.c.pgh_id <= at
            if source.tracking.options.partition_by is not None:
                was_number_or_less = events.c.pgh_id <= at - KEPT_OFFSET
                yield or_(events.c.pgh_id >= FIRST_ID, was_number_or_less)
        elif at is not None:
            yield events.c.pgh_created_at <= at
        yield from version_events(source.tracking, events)

    found: list[Found] = []
    for source in _one_for_each_table(sources_of([(model, key)], None, 0)):
        rows = _read(session, [source], criteria, [order], 1)
        if not rows and at is not None:
            require_version(session.connection(), source.tracking, at)
        found += rows
    if not found:
        return None
    last = max((row for _, row in found), key=lambda row: row.pgh_id)
    is_gone = last.pgh_op in GONE
    values: dict[str, Any] = {}
    for tracking, row in found:
        values.update(in_order(tracking, row.pgh_data))
    return Version(last.pgh_id, last.pgh_created_at, None if is_gone else values)


def _one_for_each_table(sources: Sequence[EventSource]) -> list[EventSource]:
    """Return the sources without those of a second tracking of a table.

    The one that is kept records all states of rows, if one does.
    """
    by_table: dict[Any, EventSource] = {}
    for source in reversed(sources):
        table = source.tracking.table
        if complete_tracking(table) in (None, source.tracking):
            by_table[table] = source
    return list(by_table.values())


def differences(
    before: Version | None, after: Version | None
) -> dict[str, tuple[Any, Any]]:
    """Return what differs between two versions, ``{attribute: (before, after)}``.

    Of a row that was not there, each value is None.
    """
    was, now = (v.values if v is not None else None for v in (before, after))
    if was is not None and now is not None:
        names = [name for name in now if name in was]
    else:
        names = [*(was or now or ())]
    pairs = {name: ((was or {}).get(name), (now or {}).get(name)) for name in names}
    return {n: (b, a) for n, (b, a) in pairs.items() if not is_same_value(b, a)}
