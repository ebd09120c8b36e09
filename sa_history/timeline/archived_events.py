"""What the timeline asks an archive, for events that the database has no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias, TypeVar

from sqlalchemy import ColumnElement, Text, select
from sqlalchemy import cast as sql_cast
from sqlalchemy.orm import Session

from sa_history.archiving.archived_lists import ArchivedLists, GivenContext
from sa_history.archiving.folder import ArchiveFolder
from sa_history.exc import ArchiveError
from sa_history.query.aggregate import AggregateRow
from sa_history.query.removed_events import read_horizons
from sa_history.query.sources import EventSource
from sa_history.sql.readable_json import loads
from sa_history.timeline.entries import Hidden
from sa_history.timeline.filters import Filters, event_criteria, like
from sa_history.timeline.responses import NoArchive
from sa_history.tracking.registry import Tracking

_Answer = TypeVar("_Answer")

ReadFiles: TypeAlias = Callable[[Callable[[], Any]], Any]
"""Calls a function, and returns what it returns."""


class ArchivedKey(NamedTuple):
    """What tells an event of an archive.

    :param pgh_id: its number.
    :param tracking: whose event it is.
    """

    pgh_id: int
    tracking: Tracking


class FoundEvent(NamedTuple):
    """An event, and whose it is.

    :param tracking: the tracking whose event it is.
    :param row: a row of AggregateEvent; an AggregateRow if it is archived.
    """

    tracking: Tracking
    row: Any


def is_archived(row: Any) -> bool:
    """Return whether a row is one of an archive, and none of the database."""
    return isinstance(row, AggregateRow)


@dataclass(frozen=True, eq=False)
class ArchivedEvents:
    """The events that an archive alone has.

    :param session: reads what the database knows of them, such as their contexts, which
        are archived later than they.
    :param trackings: all that the timeline shows.
    :param hidden: the columns that are never shown.
    :param folder: the archive; None if there is none.
    :param read_files: calls a function that reads files, where it may wait for them.
    """

    session: Session
    trackings: Sequence[Tracking]
    hidden: Hidden
    folder: ArchiveFolder | None
    read_files: ReadFiles

    def first_live(self, shown: Sequence[Tracking]) -> dict[Tracking, int]:
        """Return the number of the first event of each table that lost some.

        :param shown: the trackings of the tables.
        :return: none without an archive, which alone has the others.
        """
        if self.folder is None:
            return {}
        horizons = read_horizons(self.session.connection(), shown)
        return {tracking: horizon.first_id for tracking, horizon in horizons.items()}

    def ask(
        self,
        first_live: Mapping[Tracking, int],
        ask: Callable[[ArchivedLists], _Answer],
        filters: Filters | None = None,
    ) -> _Answer:
        """Return what is in the archive and not in the database.

        :param first_live: as :meth:`first_live` returns it.
        :param ask: asks the archive, and nothing of the database.
        :param filters: may look for contexts that the database has.
        :raises NoArchive: the archive cannot be read.
        """
        assert self.folder is not None  # as tables have a first live event
        history = self.trackings[0].history
        contexts = [] if filters is None else self._contexts(filters)
        connection = self.session.connection()
        lists = ArchivedLists(self.folder, history, connection, first_live, contexts)

        def answer() -> _Answer:
            with lists:
                return ask(lists)

        try:
            found: _Answer = self.read_files(answer)
            return found
        except ArchiveError as error:
            raise NoArchive(f"{error}.") from error

    def newest(
        self,
        lists: ArchivedLists,
        shown: Sequence[Tracking],
        filters: Filters,
        before: int | None,
        limit: int,
        searched: int,
    ) -> tuple[list[ArchivedKey], int | None]:
        """Return the newest events, and the number of the last one searched.

        :param lists: what :meth:`ask` gives.
        :param before: the number that theirs are smaller than; None for any.
        :param limit: the greatest number of events.
        :param searched: how many events a text is looked for in.
        :return: the number is None if these are all.
        """
        sources = [EventSource(tracking, None) for tracking in shown]
        oldest = None
        if filters.text is not None:
            others = replace(filters, text=None)
            found = lists.newest(
                sources, others.criteria_with_contexts, before, searched
            )
            oldest = found[-1][0] if len(found) == searched else None
        criteria = event_criteria(filters, self.hidden.attributes, before, oldest)
        newest = lists.newest(sources, criteria, before, limit)
        return [ArchivedKey(*pair) for pair in newest], oldest

    def rows(self, keys: Sequence[ArchivedKey]) -> list[FoundEvent]:
        """Return events, each with its context, wherever that is."""
        rows = self.ask(ends(keys), lambda lists: lists.rows(keys))
        missing = {
            row.pgh_context_id
            for row in rows
            if row.pgh_context is None and row.pgh_context_id is not None
        }
        known: dict[Any, Any] = {}
        if missing:
            contexts = self.trackings[0].history.shared.context_table
            for context in self._given_contexts(contexts.c.id.in_(missing)):
                known[context.id] = loads(context.metadata)
        of_model = {t.event_class.__name__: t for t in self.trackings}
        return [
            FoundEvent(
                of_model[row.pgh_model],
                row
                if row.pgh_context is not None
                else row._replace(pgh_context=known.get(row.pgh_context_id)),
            )
            for row in rows
        ]

    def _contexts(self, filters: Filters) -> list[GivenContext]:
        """Return the contexts that the database has and filters look for."""
        contexts = self.trackings[0].history.shared.context_table
        if filters.text is not None:
            found = sql_cast(contexts.c.metadata, Text).ilike(like(filters.text))
            return self._given_contexts(found)
        events = select(contexts.c.id.label("pgh_context_id")).subquery()
        of_table = [t for t in self.trackings if t.options.context == "reference"]
        criteria = [
            c for t in of_table[:1] for c in filters.criteria_of_contexts(t, events)
        ]
        if not criteria:
            return []
        wanted = contexts.c.id.in_(select(events.c[0]).where(*criteria))
        return self._given_contexts(wanted)

    def _given_contexts(self, wanted: ColumnElement[bool]) -> list[GivenContext]:
        contexts = self.trackings[0].history.shared.context_table.c
        metadata = sql_cast(contexts.metadata, Text)
        statement = select(contexts.id, contexts.parent_id, metadata).where(wanted)
        return [GivenContext(*row) for row in self.session.execute(statement)]


def call(function: Callable[[], Any]) -> Any:
    """Call a function that reads files, and return what it returns."""
    return function()


def number_of(key: Any) -> int:
    """Return the number of an event by its key, live or archived."""
    number: int = key.pgh_id
    return number


def ends(keys: Sequence[ArchivedKey]) -> dict[Tracking, int]:
    """Return the number that those of the events of each table are below."""
    return {key.tracking: key.pgh_id + 1 for key in sorted(keys, key=number_of)}
