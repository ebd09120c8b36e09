"""What the timeline asks the database: two statements for a list."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy import BigInteger, ColumnElement, MetaData, bindparam, column, inspect
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session, defer

from sa_history.capture.trackers import full_row_labels
from sa_history.install.expected import trackings_in
from sa_history.query.aggregate import COLUMNS, AggregateEvent, aggregate
from sa_history.query.details import numbered
from sa_history.query.pages import PageReader
from sa_history.query.sources import EventSource
from sa_history.sql.column_types import holds_json
from sa_history.timeline.entries import Hidden
from sa_history.timeline.filters import Filters, tracking_of
from sa_history.timeline.responses import NotFound
from sa_history.tracking.completeness import full_row_events
from sa_history.tracking.event_class import Event, map_events
from sa_history.tracking.registry import Tracking
from sa_history.tracking.restore import restore_row

Found: TypeAlias = tuple[Tracking, Any]
"""Whose event it is, and a row of AggregateEvent."""


class Timeline:
    """The events of a MetaData, read through one session.

    :param session: the session, which whoever made it closes.
    :param metadata: the models.
    :param hidden: the columns that are never shown. Where a key is hidden no row is
        found by its key, since that would tell whether a guess is right.
    """

    def __init__(self, session: Session, metadata: MetaData, hidden: Hidden) -> None:
        self.session = session
        self.hidden = hidden
        self.trackings = trackings_in(metadata)

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
        return tracking_of(self.trackings, name)

    def events(self, filters: Filters, before: int | None, limit: int) -> list[Found]:
        """Return the newest events.

        :param before: the number of an event, to show those with smaller numbers.
        """
        bound = filters.bound()

        def criteria(source: EventSource) -> Iterator[ColumnElement[bool]]:
            yield from bound.criteria(source)
            if before is not None:
                number = bindparam("page_before", type_=BigInteger)
                yield source.tracking.event_table.c.pgh_id < number

        values = {"page_before": before} if before is not None else {}
        return self._rows(filters, criteria, limit, values, tuple(values))

    def versions(self, filters: Filters, numbers: Sequence[int]) -> list[Found]:
        """Return some versions of a row, oldest first."""

        def criteria(source: EventSource) -> Iterator[ColumnElement[bool]]:
            yield from filters.criteria(source)
            yield source.tracking.event_table.c.pgh_id.in_(numbers)

        return self._rows(filters, criteria, len(numbers))[::-1]

    def at(self, filters: Filters, moment: datetime.datetime) -> Found | None:
        """Return the version that a row had at a moment, or None if it had none."""

        def criteria(source: EventSource) -> Iterator[ColumnElement[bool]]:
            events = source.tracking.event_table
            yield from filters.criteria(source)
            yield events.c.pgh_created_at <= moment
            tracking = source.tracking
            # A note does not tell the whole row.
            if full_row_labels(tracking.trackers, tracking.tracked_columns):
                yield from full_row_events(tracking, events)

        rows = self._rows(filters, criteria, 1)
        return rows[0] if rows else None

    def _rows(
        self,
        filters: Filters,
        criteria: Any,
        limit: int,
        values: Mapping[str, Any] | None = None,
        shape: tuple[str, ...] | None = None,
    ) -> list[Found]:
        """Return the newest events that meet criteria.

        :param values: the parameters of criteria that are not those of the filters.
        :param shape: tells these criteria from others; None if they have other values.
        """
        shown = self.trackings if filters.table is None else [filters.table]
        if filters.key is not None:
            shown = [t for t in shown if not self.hidden.has_key(t)]
        if not shown:
            return []
        known = filters.shape()
        reader = PageReader(
            sources=[EventSource(tracking, None) for tracking in shown],
            criteria=criteria,
            order=[AggregateEvent.pgh_id.desc()],
            limit=limit,
            columns=[*COLUMNS, column("source")],
            values={**filters.values(), **(values or {})} if shape is not None else {},
            shape=None if shape is None or known is None else (*shape, *known),
            finds_contexts=filters.user is not None or filters.context is not None,
        )
        try:
            rows = reader.read(self.session)
            of_source = dict(numbered(shown))
            return [(of_source[row.source], row) for row in rows]
        except DataError as error:  # a key, or a number, that the column cannot hold
            raise NotFound from error

    def event(self, table: str, number: int) -> Event:
        """Return an event.

        :raises NotFound: there is none.
        """
        try:
            event_class = map_events(self.table(table))
            # What Python may not be able to read; to restore it, it need not.
            unread = [
                defer(getattr(event_class, attribute.key))
                for attribute in inspect(event_class).column_attrs
                if holds_json(attribute.columns[0].type)
            ]
            event = self.session.get(event_class, number, options=unread)
        except DataError as error:
            raise NotFound from error
        if event is None:
            raise NotFound
        return event

    def restore(self, event: Event) -> None:
        """Write the values of an event into its row, and commit."""
        restore_row(self.session, event, None)
        self.session.commit()

    def key_of(self, event: Event) -> str:
        """Return the key of an event's row as text, as a list shows it."""
        tracking = next(t for t in self.trackings if isinstance(event, t.event_class))
        events = tracking.event_table
        statement = aggregate(
            [EventSource(tracking, [events.c.pgh_id == event.pgh_id])],
            lambda _: (),
            [AggregateEvent.pgh_id],
            1,
        )
        return str(self.session.execute(statement).one().pgh_obj_id)
