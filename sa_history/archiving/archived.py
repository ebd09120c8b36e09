"""Questions to an archive: its files and the events that are still live, by DuckDB."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row
from sqlalchemy.orm import InstrumentedAttribute, Query, Session

from sa_history._types import UNSET
from sa_history.archiving.aggregate_rows import aggregate_rows
from sa_history.archiving.folder import ArchiveFolder
from sa_history.archiving.live_part import LivePart
from sa_history.archiving.reader import ArchiveReader
from sa_history.archiving.views import Dialect, script
from sa_history.definition.mapped_tables import Model
from sa_history.exc import ArchiveError, EventsError
from sa_history.query.aggregate import (
    AggregateRow,
    EventFilters,
    checked_limit,
    checked_references,
)
from sa_history.query.attribute_history import changes
from sa_history.query.sources import (
    EventTarget,
    RowTarget,
    sources_of,
    trackings_of_target,
)
from sa_history.query.time_travel import point_in_time
from sa_history.tracking.context_class import Context
from sa_history.tracking.diff import Diff
from sa_history.tracking.event_class import Event
from sa_history.tracking.events import Events, events
from sa_history.tracking.registry import Tracking
from sa_history.tracking.versions import steps

if TYPE_CHECKING:
    from typing_extensions import Self


def archived(folder: Any, models: Any, *, live: Any = None) -> Archived:
    """Return an archive to ask: its files, and the events that are still live.

    What it returns are the objects that the same questions to the database return:
    events, rows as of a time, changes, rows of :class:`AggregateEvent`. DuckDB finds
    them in the files of all partitions at once. The live events are read in one
    transaction, so that all answers are about one moment.

    :param folder: the folder that ``history.archive`` wrote to.
    :param models: a declarative base, a MetaData, or a class of one.
    :param live: an engine of the database, whose events that are not archived are read
        as well; None to read the archive alone.
    :return: an archive, to be used in a ``with`` block, or to be closed.
    :raises ArchiveError: ``live`` is no engine, or an async one; on reading, if DuckDB
        or pyarrow is not installed, or the archive has no such table.
    :raises EventsError: nothing of the models is tracked.

    Example::

        with history.archived("/archive", Base, live=engine) as archive:
            for event in archive.events(Account, 7):
                print(event.pgh_created_at, event.balance)
    """
    trackings = trackings_of_target(models)
    if not trackings:
        raise EventsError(
            f"{models!r} tracks nothing; give a declarative base with tracked classes"
        )
    part = None if live is None else LivePart(live)
    reader = ArchiveReader(ArchiveFolder(folder), trackings[0].history, part)
    return Archived(reader)


class Archived:
    """An archive to ask; :func:`archived` returns it.

    Example::

        with history.archived("/archive", Base) as archive:
            past = archive.as_of(new_year)
            account = past.get(Account, 7)
    """

    def __init__(self, reader: ArchiveReader) -> None:
        self._reader = reader

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; objects that were read are detached.

        Example::

            archive.close()
        """
        self._reader.close()

    def sql(self, dialect: Dialect = "duckdb") -> str:
        """Return the statements that create views of the archive, for other tools.

        For a table ``account`` these are ``account_event``, with its events,
        ``account_event_with_previous`` with the one before each,
        ``account_event_with_context`` with the metadata of their contexts, and the
        function ``account_as_of(pgh_moment)``. The live events are not in them, but for
        those that ``history.archive(..., open=True)`` wrote.

        :param dialect: ``"duckdb"`` or ``"spark"``.
        :return: statements, each with a semicolon at the end of its line.
        :raises ArchiveError: none of the event tables is in the archive.

        Example::

            duckdb.sql(history.archived("/archive", Base).sql())
        """
        history, archived = self._reader.history, self._reader.archived
        found = {
            tracking: table
            for tracking in history.trackings.values()
            if (table := archived(tracking.event_table, with_open=True))
        }
        contexts = archived(history.shared.context_table, with_open=True)
        if not found:
            raise ArchiveError(
                f"{self._reader.folder} has no events of these models; give the folder "
                "that they were archived to"
            )
        return script(dialect, found, contexts)

    @property
    def session(self) -> Session:
        """A session that reads the event tables and the contexts.

        Statements are those for the database, such as ``Account.events.where(...)``.
        Of one table, the live events are read that ``=``, ``IN`` and comparisons of
        numbers and times in its WHERE choose. Other statements read all live events of
        their tables, when a statement first needs them.

        Example::

            archive.session.scalars(Account.events.where(Account.events.balance < 0))
        """
        return self._reader.session

    def as_of(
        self,
        when: datetime.datetime | Event | None = None,
        *,
        transaction: int | None = None,
    ) -> ArchivedPast:
        """Return a session that reads tables as of a point in time.

        :param when: a time with its time zone, or an event, whose change is the last
            one to be seen.
        :param transaction: in place of ``when``, the number of the last transaction
            whose changes are seen.
        :return: a session, which is closed with the archive.
        :raises PastError: no point in time is given, or several; on reading, if a table
            is not tracked in full, or a statement writes or is text.
        :raises EventsRemovedError: on reading, if events from before the archive were
            removed, and the rows are not known without them.
        :raises ArchiveError: on reading, if the point in time is after what the archive
            has, and ``live`` was not given.

        Example::

            past = archive.as_of(new_year)
            account = past.get(Account, 7)
            poor = past.select(Account).where(Account.balance < 0).all()
        """
        given = [argument for argument in (when, transaction) if argument is not None]
        point, value = point_in_time(
            given[0] if len(given) == 1 else None, is_transaction=when is None
        )

        def make(engine: Any) -> ArchivedPast:
            return ArchivedPast(engine, self._reader.covering_row)

        past: Any = self._reader.past_session(point, value, make)
        found: ArchivedPast = past
        return found

    def events(
        self,
        target: Any,
        key: Any = UNSET,
        *,
        name: str = "events",
    ) -> Sequence[Any]:
        """Return the events of a row, or of all rows, oldest first.

        :param target: a tracked class or table, or an object for those of its row.
        :param key: the key of the row; a tuple if it has several columns. Left out for
            the events of all rows.
        :param name: the ``events`` option of the ``track`` that is meant.
        :return: the objects of the event class. The first context that is asked for
            brings those of all events along.
        :raises EventsError: the target is not tracked, or has another key.

        Example::

            for event in archive.events(Account, 7):
                print(event.pgh_op, event.balance, event.pgh_context)
        """
        of_target: Events[Any] = events(target, name)
        tracking: Tracking = of_target.model.pgh_tracking
        if key is not UNSET:
            of_target = of_target.of(key)
        statement = of_target.select()
        table = tracking.event_table
        with self._reader.covering({table: statement.whereclause}):
            found = self.session.scalars(statement).all()
        if tracking.options.context == "reference":
            ids = {event.pgh_context_id for event in found} - {None}
            self._reader.expect_contexts(ids)
        return found

    def diffs(
        self, target: Any, key: Any = UNSET, *, name: str = "events"
    ) -> list[tuple[Any, Diff | None]]:
        """Return the events of a row, each with what changed since the one before it.

        :param target: as for :meth:`events`, and so are the others.
        :return: pairs of an event and its diff, which is None for the first event.
        :raises EventsError: as :meth:`events` does.

        Example::

            for event, changed in archive.diffs(Account, 7):
                print(event.pgh_created_at, changed)
        """
        return list(steps(self.events(target, key, name=name)))

    def changes(
        self, target: RowTarget, attribute: str | InstrumentedAttribute[Any]
    ) -> Sequence[Row[Any]]:
        """Return the changes of an attribute of a row, oldest first.

        :param target: as for ``history.changes``, and so is ``attribute``.
        :return: the rows of ``history.changes``.
        :raises EventsError: the target or the attribute is not tracked.

        Example::

            for row in archive.changes((Account, 7), "balance"):
                print(row.pgh_created_at, row.before, row.after)
        """
        return self.session.execute(changes(target, attribute)).all()

    def aggregate(
        self,
        *targets: EventTarget,
        across: Model | Sequence[Model] | set[Any] | None = None,
        references: bool | int = False,
        labels: Iterable[str] | None = None,
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
        context: Any = None,
        transaction: int | None = None,
        before: int | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> list[AggregateRow]:
        """Return events of any models in one list, as ``AggregateEvent.select`` does.

        :param targets: as for ``AggregateEvent.select``, and so are all others, but
            that ``since`` and ``until`` are no SQL expressions.
        :return: the rows.
        :raises EventsError: as ``AggregateEvent.select`` does.

        Example::

            rows = archive.aggregate(Base, transaction=event.pgh_xact_id)
        """
        sources = sources_of(targets, across, checked_references(references))
        filters = EventFilters.of(
            labels, since, until, context, transaction, before, sources
        )
        for name in filters.expressions:
            raise EventsError(
                f"{name} is a datetime for an archive, as PostgreSQL does not read it, "
                f"got the expression {getattr(filters, name)}; give a value"
            )
        return aggregate_rows(
            self.session,
            sources,
            filters.criteria_with_contexts,
            checked_limit(limit),
            newest_first,
            self._reader.covering,
        )

    def context(self, id: uuid.UUID) -> Context | None:
        """Return a context by its id, None if it made no change.

        :param id: the id, as in ``pgh_context_id``.

        Example::

            archive.context(event.pgh_context_id).metadata
        """
        return self._reader.contexts([id]).get(id)


class ArchivedPast(Session):
    """A session that reads tables as of a point in time; ``archive.as_of`` returns it.

    ``get``, ``scalars``, ``execute``, joins, aggregates and relationships return the
    rows of then, as in ``history.as_of``.

    Example::

        past = archive.as_of(new_year)
        past.scalar(select(func.sum(Account.balance)))
    """

    def __init__(
        self,
        engine: Any,
        covering: Callable[[Any, Any], AbstractContextManager[None]],
    ) -> None:
        super().__init__(engine, autoflush=False)
        self._covering = covering

    def get(self, entity: Any, ident: Any, **options: Any) -> Any:
        """Return an object by its key, None if there was no such row.

        :param entity: a tracked class.
        :param ident: the key; a tuple if it has several columns.
        :param options: as for ``Session.get``.

        Example::

            account = past.get(Account, 7)
        """
        with self._covering(entity, ident):
            return super().get(entity, ident, **options)

    def select(self, *entities: Any) -> Query[Any]:
        """Return a query of rows of then, with ``where``, ``order_by``, ``all`` etc.

        :param entities: classes, attributes or expressions.

        Example::

            past.select(Account).where(Account.balance < 0).all()
        """
        found: Query[Any] = self.query(*entities)
        return found
