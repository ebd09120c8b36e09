"""What the timeline asks the database: one statement for a list."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import (
    Column,
    ColumnElement,
    MetaData,
    Text,
    and_,
    literal,
    select,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session
from werkzeug.exceptions import BadRequest, NotFound

from sa_history.aggregate import AggregateEvent, aggregate
from sa_history.event_class import Event
from sa_history.event_table import key_columns
from sa_history.objects import trackings_in
from sa_history.sources import Source
from sa_history.tracking import Tracking


@dataclass(frozen=True)
class Filters:
    """Which events are shown.

    :param table: whose events, None for all.
    :param key: of the row, as text.
    :param label: of the tracker.
    :param user: the ``user`` of the context, as text.
    :param since: from then on.
    :param until: before then.
    :param context: a key of the context and its value, as text.
    :param context_id: the id of the context.
    :param transaction: the number of the transaction.
    """

    table: Tracking | None = None
    key: str | None = None
    label: str | None = None
    user: str | None = None
    since: datetime.datetime | None = None
    until: datetime.datetime | None = None
    context: tuple[str, str] | None = None
    context_id: uuid.UUID | None = None
    transaction: int | None = None

    @classmethod
    def of(cls, arguments: Mapping[str, str], timeline: Timeline) -> Filters:
        """Return what the form of the first page asks for.

        :raises BadRequest: a value cannot be read.
        """

        def given(name: str) -> str | None:
            return arguments.get(name, "").strip() or None

        table, pair = given("table"), given("context")
        if pair is not None and "=" not in pair:
            raise BadRequest("context is key=value")
        key, _, value = (pair or "").partition("=")
        return cls(
            table=None if table is None else timeline.table(table),
            key=given("key"),
            label=given("label"),
            user=given("user"),
            since=as_time("since", given("since")),
            until=as_time("until", given("until")),
            context=None if pair is None else (key.strip(), value.strip()),
        )

    def criteria(self, source: Source) -> Iterator[ColumnElement[bool]]:
        """Yield what events of a table meet."""
        tracking, columns = source.tracking, source.tracking.event_table.c
        if self.key is not None:
            yield _has_key(tracking, self.key)
        if self.label is not None:
            yield columns.pgh_label == self.label
        if self.since is not None:
            yield columns.pgh_created_at >= self.since
        if self.until is not None:
            yield columns.pgh_created_at < self.until
        if self.transaction is not None:
            yield columns.pgh_xact_id == self.transaction
        if self.context_id is not None:
            stored = tracking.options.context is not None
            yield (
                columns.pgh_context_id == self.context_id if stored else literal(False)
            )
        if self.user is not None:
            yield _context_has(tracking, "user", self.user)
        if self.context is not None:
            yield _context_has(tracking, *self.context)


def as_time(name: str, text: str | None) -> datetime.datetime | None:
    """Return a time that was given as text; without a time zone it is UTC.

    :raises BadRequest: it is none.
    """
    if text is None:
        return None
    try:
        time = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise BadRequest(f"{name} is no time: {text!r}") from error
    return time if time.tzinfo else time.replace(tzinfo=datetime.timezone.utc)


class Timeline:
    """The events of a MetaData, read through one session.

    :param session: closed at the end of the block.
    :param metadata: whose events.
    """

    def __init__(self, session: Session, metadata: MetaData) -> None:
        self.session = session
        self.trackings = trackings_in(metadata)

    def __enter__(self) -> Timeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    @property
    def labels(self) -> list[str]:
        """The labels of all trackers."""
        return sorted({t.event_label for t in self._trackers()})

    def _trackers(self) -> Iterator[Any]:
        for tracking in self.trackings:
            yield from tracking.trackers

    def table(self, name: str) -> Tracking:
        """Return the tracking with an event table.

        :raises NotFound: there is none.
        """
        for tracking in self.trackings:
            if tracking.event_table.fullname == name:
                return tracking
        raise NotFound

    def table_of(self, row: Any) -> str:
        """Return the name of the event table that a row of AggregateEvent is from."""
        return next(
            tracking.event_table.fullname
            for tracking in self.trackings
            if tracking.event_class.__name__ == row.pgh_model
        )

    def events(self, filters: Filters, before: int | None, limit: int) -> Sequence[Any]:
        """Return the newest events.

        :param before: only those with a smaller number.
        """

        def criteria(source: Source) -> Iterator[ColumnElement[bool]]:
            yield from filters.criteria(source)
            if before is not None:
                yield source.tracking.event_table.c.pgh_id < before

        return self._rows(filters, criteria, limit)

    def versions(self, filters: Filters, numbers: Sequence[int]) -> Sequence[Any]:
        """Return some versions of a row, oldest first."""

        def criteria(source: Source) -> Iterator[ColumnElement[bool]]:
            yield from filters.criteria(source)
            yield source.tracking.event_table.c.pgh_id.in_(numbers)

        return self._rows(filters, criteria, len(numbers))[::-1]

    def at(self, filters: Filters, moment: datetime.datetime) -> Any:
        """Return the version that a row had at a moment, None for none."""

        def criteria(source: Source) -> Iterator[ColumnElement[bool]]:
            yield from filters.criteria(source)
            yield source.tracking.event_table.c.pgh_created_at <= moment

        rows = self._rows(filters, criteria, 1)
        return rows[0] if rows else None

    def _rows(self, filters: Filters, criteria: Any, limit: int) -> Sequence[Any]:
        shown = self.trackings if filters.table is None else [filters.table]
        if not shown:
            return []
        sources = [Source(tracking, None) for tracking in shown]
        order = [AggregateEvent.pgh_id.desc()]
        try:
            statement = aggregate(sources, criteria, order, limit)
            return self.session.execute(statement).all()
        except DataError as error:  # a key, or a number, that the column cannot hold
            raise NotFound from error

    def event(self, table: str, number: int) -> Event:
        """Return an event.

        :raises NotFound: there is none.
        """
        event = self.session.get(self.table(table).event_class, number)
        if event is None:
            raise NotFound
        return event

    def key_of(self, event: Event) -> str:
        """Return the key of an event's row as text, as a list shows it."""
        tracking = next(t for t in self.trackings if isinstance(event, t.event_class))
        events = tracking.event_table
        statement = aggregate(
            [Source(tracking, [events.c.pgh_id == event.pgh_id])],
            lambda _: (),
            [AggregateEvent.pgh_id],
            1,
        )
        return str(self.session.execute(statement).one().pgh_obj_id)


def _has_key(tracking: Tracking, key: str) -> ColumnElement[bool]:
    """Return whether an event is of the row with a key that was given as text."""
    columns = key_columns(tracking.tracked_columns, tracking.event_table)
    if len(columns) == 1:
        return columns[0] == _as(columns[0], literal(key, Text))
    if not columns:
        return literal(False)
    return and_(
        *(
            column == _as(column, sql_cast(literal(key, Text), JSONB)[i].astext)
            for i, column in enumerate(columns)
        )
    )


def _as(column: Column[Any], text: ColumnElement[Any]) -> ColumnElement[Any]:
    return sql_cast(text, column.type)


def _context_has(tracking: Tracking, key: str, value: str) -> ColumnElement[bool]:
    storage, columns = tracking.options.context, tracking.event_table.c
    if storage is None:
        return literal(False)
    if storage == "inline":
        return cast("ColumnElement[bool]", columns.pgh_context[key].astext == value)
    contexts = tracking.history.shared.context_table
    return columns.pgh_context_id.in_(
        select(contexts.c.id).where(contexts.c.metadata[key].astext == value)
    )
