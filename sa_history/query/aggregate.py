"""Events of several models in one list, with data and diffs as JSON.

Filters, order and limit go into the SELECT of each event table. The JSON is made for
the rows of the page only, as it costs the most.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, cast, overload

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    DateTime,
    Result,
    Select,
    String,
    Uuid,
    bindparam,
    column,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import TupleResult
from sqlalchemy.sql.expression import ColumnClause

from sa_history.contexts.frame import ContextFrame
from sa_history.contexts.json_values import stored_values
from sa_history.definition.mapped_tables import Model
from sa_history.exc import EventsError
from sa_history.query.contexts_asked import ContextsAsked
from sa_history.query.event_json import decimal_attributes
from sa_history.query.pages import (
    CriteriaOf,
    PageReader,
    page_of,
    read,
    statement_of,
)
from sa_history.query.removed_events import Asked
from sa_history.query.sources import EventSource, EventTarget, sources_of
from sa_history.sql.readable_json import READABLE_JSON
from sa_history.tracking.context_class import Context, checked_context_id
from sa_history.tracking.session_events import REQUIRES
from sa_history.util.arguments import (
    Time,
    checked_number,
    checked_time,
    checked_transaction,
)
from sa_history.util.messages import suggestion
from sa_history.util.sessions import AnyAsyncSession, SyncSession


class AggregateRow(NamedTuple):
    """A row of :class:`AggregateEvent` or of :func:`feed`, for annotations.

    The rows are those that SQLAlchemy returns, which have these attributes, in this
    order. :meth:`AggregateEvent.rows` tells type checkers that they are rows of this
    type.

    Example::

        def shown(row: AggregateRow) -> str:
            return f"{row.pgh_created_at:%d.%m.} {row.pgh_label}"
    """

    pgh_id: int
    pgh_model: str
    pgh_obj_model: str
    pgh_obj_id: str | None
    pgh_label: str
    pgh_op: str
    pgh_created_at: datetime.datetime
    pgh_xact_id: int
    pgh_context_id: uuid.UUID | None
    pgh_context: dict[str, Any] | None
    pgh_data: dict[str, Any]
    pgh_diff: dict[str, list[Any]] | None


class AggregateEvent:
    """The events of any tracked models in one list.

    Its attributes are the columns of the rows that :meth:`select` returns. Use them to
    filter or order that SELECT further.

    Example::

        statement = AggregateEvent.select(account, labels=["snapshot"])
        for row in session.execute(statement):
            print(row.pgh_label, row.pgh_diff)
    """

    pgh_id: ClassVar[ColumnClause[int]] = column("pgh_id", BigInteger)
    """The event's number; the events of all tables are numbered by one sequence."""
    pgh_model: ClassVar[ColumnClause[str]] = column("pgh_model", String)
    """The name of the event class."""
    pgh_obj_model: ClassVar[ColumnClause[str]] = column("pgh_obj_model", String)
    """The name of the tracked class or table."""
    pgh_obj_id: ClassVar[ColumnClause[str | None]] = column(
        "pgh_obj_id",
        cast("Any", String),  # of str, and not of None, in the types of SQLAlchemy 2.0
    )
    """The key of the row as text; a JSON list if the key has several columns. None if
    the table has no primary key."""
    pgh_label: ClassVar[ColumnClause[str]] = column("pgh_label", String)
    """The label of the tracker."""
    pgh_op: ClassVar[ColumnClause[str]] = column("pgh_op", String)
    """The operation; a value of :class:`sa_history.Op`."""
    pgh_created_at: ClassVar[ColumnClause[datetime.datetime]] = column(
        "pgh_created_at", DateTime(timezone=True)
    )
    """The start of the transaction, with its time zone."""
    pgh_xact_id: ClassVar[ColumnClause[int]] = column("pgh_xact_id", BigInteger)
    """The number of the transaction."""
    pgh_context_id: ClassVar[ColumnClause[uuid.UUID | None]] = column(
        "pgh_context_id", Uuid
    )
    """The id of the context, None if the change was made outside of one."""
    pgh_context: ClassVar[ColumnClause[dict[str, Any] | None]] = column(
        "pgh_context", READABLE_JSON
    )
    """The metadata of the context, None if the change was made outside of one."""
    pgh_data: ClassVar[ColumnClause[dict[str, Any]]] = column("pgh_data", READABLE_JSON)
    """The row by attribute name; values that Python cannot hold are shortened. Those of
    ``Numeric`` are ``Decimal`` with the digits that are stored."""
    pgh_diff: ClassVar[ColumnClause[dict[str, list[Any]] | None]] = column(
        "pgh_diff", READABLE_JSON
    )
    """The changed attributes, ``{attribute: [before, after]}``; None if the row has no
    event before."""

    @classmethod
    def select(
        cls,
        *targets: EventTarget,
        across: Model | Sequence[Model] | set[Any] | None = None,
        references: bool | int = False,
        labels: Iterable[str] | None = None,
        since: Time | None = None,
        until: Time | None = None,
        context: uuid.UUID | Context | ContextFrame | Mapping[str, Any] | None = None,
        transaction: int | None = None,
        before: int | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> Select[Any]:
        """Return a SELECT of events with their data and diffs, oldest first.

        A diff is against the row's previous event in the same table. If one change
        wrote events under several labels, their diffs are the same.

        :param targets: objects, for their events; pairs of a class or table and a key
            or a SELECT of keys, for rows that may be deleted; mapped classes and
            tables, for the events of all rows, of a subclass those of its rows; a
            declarative base or a MetaData, for the events of all tables that it tracks.
        :param across: a class or table, or several, to keep only events of these; None
            to keep the events of all targets. Without targets, all of their events.
        :param references: add the events of rows that had a foreign key to a target,
            association tables included. True follows one foreign key, a number follows
            so many, one after the other.
        :param labels: keep only events with these labels; None for any.
        :param since: keep only events of transactions that began then or later; a time,
            or an SQL expression of one, such as ``func.now() - timedelta(days=1)``.
        :param until: keep only events of transactions that began before then, as for
            ``since``.
        :param context: keep only events of a context and of those within it, its
            copies among them; ``history.context`` or ``pgh_context`` gave it, or it is
            given by its id. A mapping keeps the events of all contexts that have its
            keys and values.
        :param transaction: keep only events of the transaction with this number, as in
            ``pgh_xact_id``.
        :param before: keep only events with a smaller ``pgh_id``, to page.
        :param limit: the greatest number of events; None for all.
        :param newest_first: order by ``pgh_id`` descending; a limit keeps the newest.
        :return: the SELECT, for a ``Session`` or an ``AsyncSession``.
        :raises EventsError: a target is not tracked, there is no target, no tracker has
            one of the labels, no event says which rows are of a subclass, or an
            argument is no number, time or context.
        :raises ContextError: a value in the mapping of ``context`` cannot be stored.
        :raises EventsRemovedError: on execution by a session, if ``transaction``,
            ``context``, ``since`` or ``until`` is from before events of one of the
            tables were removed; the error names the folder of their archive.

        Example::

            statement = AggregateEvent.select(Base, limit=50, newest_first=True)
            session.execute(statement.where(
                AggregateEvent.pgh_context["user"].as_integer() == 7
            ))
        """
        sources = sources_of(targets, across, checked_references(references))
        filters = EventFilters.of(
            labels, since, until, context, transaction, before, sources
        )
        limit = checked_limit(limit)
        criteria = filters.criteria_with_contexts
        statement = aggregate(sources, criteria, _order(newest_first), limit)
        return requiring(statement, filters.asked, sources)

    @overload
    @classmethod
    def page(
        cls,
        session: SyncSession,
        *targets: EventTarget,
        across: Model | Sequence[Model] | set[Any] | None = ...,
        references: bool | int = ...,
        labels: Iterable[str] | None = ...,
        since: Time | None = ...,
        until: Time | None = ...,
        context: uuid.UUID | Context | ContextFrame | Mapping[str, Any] | None = ...,
        transaction: int | None = ...,
        before: int | None = ...,
        limit: int | None = ...,
        newest_first: bool = ...,
    ) -> list[AggregateRow]: ...

    @overload
    @classmethod
    def page(
        cls,
        session: AnyAsyncSession,
        *targets: EventTarget,
        across: Model | Sequence[Model] | set[Any] | None = ...,
        references: bool | int = ...,
        labels: Iterable[str] | None = ...,
        since: Time | None = ...,
        until: Time | None = ...,
        context: uuid.UUID | Context | ContextFrame | Mapping[str, Any] | None = ...,
        transaction: int | None = ...,
        before: int | None = ...,
        limit: int | None = ...,
        newest_first: bool = ...,
    ) -> Awaitable[list[AggregateRow]]: ...

    @classmethod
    def page(
        cls,
        session: Any,
        *targets: EventTarget,
        across: Model | Sequence[Model] | set[Any] | None = None,
        references: bool | int = False,
        labels: Iterable[str] | None = None,
        since: Time | None = None,
        until: Time | None = None,
        context: uuid.UUID | Context | ContextFrame | Mapping[str, Any] | None = None,
        transaction: int | None = None,
        before: int | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> Any:
        """Return the rows that :meth:`select` selects, read in two steps.

        The first statement finds the events, the second one reads their data and diffs
        from the tables that they are in. So the time grows with the events of the page,
        and hardly with the number of models and their columns.

        Each statement sees what is committed when it begins, unless the transaction is
        ``REPEATABLE READ``. Of events that are deleted in between there are no rows. A
        diff may be against an event that was committed in between.

        :param session: a ``Session``; with an ``AsyncSession``, await the result.
        :param targets: as for :meth:`select`, and so are all other parameters.
        :return: the rows, in the order of :meth:`select`.
        :raises EventsError: as :meth:`select` does.

        Example::

            rows = AggregateEvent.page(session, Base, limit=50, newest_first=True)
            older = AggregateEvent.page(
                session, Base, limit=50, newest_first=True, before=rows[-1].pgh_id
            )
        """
        sources = sources_of(targets, across, checked_references(references))
        filters = EventFilters.of(
            labels, since, until, context, transaction, before, sources
        )
        bound = filters.bound()
        reader = PageReader(
            sources=sources,
            criteria=bound.criteria,
            order=_order(newest_first),
            limit=checked_limit(limit),
            columns=COLUMNS,
            values=filters.values(),
            # An expression is a part of the statement, and no value of it.
            shape=None if filters.expressions else (newest_first, *filters.values()),
            contexts=bound.contexts,
            asked=filters.asked,
        )
        return read(session, reader, "AggregateEvent.page")

    @staticmethod
    def rows(result: Result[Any]) -> TupleResult[AggregateRow]:
        """Return a result as it is, typed as one of :class:`AggregateRow`.

        SQLAlchemy has no types for the attributes of rows. This is for type checkers
        alone, as ``Result.tuples()`` is.

        :param result: what a session or connection returned for the SELECT of
            :meth:`select` or :func:`feed`.
        :return: the same result.

        Example::

            statement = AggregateEvent.select(account)
            for row in AggregateEvent.rows(session.execute(statement)):
                print(row.pgh_label.upper())
        """
        return cast("TupleResult[AggregateRow]", result)


def aggregate(
    sources: Sequence[EventSource],
    criteria: CriteriaOf,
    order: Sequence[ColumnElement[Any]],
    limit: int | None,
) -> Select[Any]:
    """Return a SELECT of events of several tables, as :class:`AggregateEvent` rows.

    :param sources: the event tables, with the criteria of each.
    :param criteria: returns further criteria for the events of a table.
    :param order: columns of AggregateEvent that event tables have as well.
    :param limit: the greatest number of events; None for all.
    """
    page = page_of(sources, criteria, order, limit)
    decimals = decimal_attributes(source.tracking for source in sources)
    return statement_of(page, COLUMNS, order, decimals)


def requiring(
    statement: Select[Any], asked: Asked, sources: Sequence[EventSource]
) -> Select[Any]:
    """Return a SELECT that a session refuses if what it asks for may be removed.

    :param asked: what the SELECT names.
    :param sources: the event tables that it reads.
    """
    trackings = [source.tracking for source in sources]
    if all(tracking.options.partition_by is None for tracking in trackings):
        return statement

    def require(connection: Connection, parameters: Any) -> None:
        asked.require_events(connection, trackings, parameters)

    return statement.execution_options(**{REQUIRES: require})


COLUMNS = [c for c in vars(AggregateEvent).values() if isinstance(c, ColumnClause)]
"""The columns of the rows."""


def _order(newest_first: bool) -> list[ColumnElement[Any]]:
    return [AggregateEvent.pgh_id.desc() if newest_first else AggregateEvent.pgh_id]


@dataclass(frozen=True, eq=False)
class EventFilters:
    """The filters that :meth:`AggregateEvent.select` applies to each event table.

    Each has a value, or a parameter for it.
    """

    labels: Any
    since: Any
    until: Any
    context: Any
    context_keys: Any
    transaction: Any
    before: Any

    @classmethod
    def of(
        cls,
        labels: Iterable[str] | None,
        since: Time | None,
        until: Time | None,
        context: Any,
        transaction: int | None,
        before: int | None,
        sources: Sequence[EventSource],
    ) -> EventFilters:
        """Return the filters for some sources.

        :raises EventsError: no tracker of the sources has one of the labels, or a value
            is of another type.
        :raises ContextError: a value in the mapping of the context cannot be stored.
        """
        if isinstance(labels, str) or not isinstance(labels, (Iterable, type(None))):
            raise EventsError(
                f"labels is a list of labels, got {labels!r}; write [{labels!r}]"
            )
        known = None if labels is None else tuple(labels)
        _check_labels(sources, known)
        return cls(
            known,
            _time_filter("since", since),
            _time_filter("until", until),
            *_context_filters(context),
            checked_transaction(transaction, EventsError),
            checked_number(_BEFORE, before, EventsError),
        )

    @property
    def asked(self) -> Asked:
        """What may be before all events that are left."""
        return Asked(self.transaction, self.context, self.since, self.until)

    @property
    def expressions(self) -> list[str]:
        """The arguments whose values the database computes."""
        times = {"since": self.since, "until": self.until}
        return [name for name, t in times.items() if isinstance(t, ColumnElement)]

    def values(self) -> dict[str, Any]:
        """Return the values of the parameters of :meth:`bound`."""
        return {f"page_{name}": getattr(self, name) for name in self._bound_names}

    @property
    def _bound_names(self) -> list[str]:
        return [
            name
            for name in _PARAMETERS
            if getattr(self, name) is not None and name not in self.expressions
        ]

    def bound(self) -> EventFilters:
        """Return the same filters with parameters in place of values."""
        parameters: dict[str, Any] = {
            name: bindparam(
                f"page_{name}",
                type_=_PARAMETERS[name],
                expanding=isinstance(_PARAMETERS[name], String),
            )
            for name in self._bound_names
        }
        return replace(self, **parameters)

    @property
    def contexts(self) -> ContextsAsked:
        """Which contexts the events have."""
        keys = self.context_keys
        metadata = [] if keys is None else [lambda metadata: metadata.contains(keys)]
        return ContextsAsked(self.context, metadata)

    def criteria_with_contexts(
        self, source: EventSource
    ) -> Iterable[ColumnElement[bool]]:
        """Yield all criteria of the events of a table."""
        yield from self.criteria(source)
        tracking = source.tracking
        storage, events = tracking.context_storage, tracking.event_table
        yield from self.contexts.criteria(storage, events)

    def criteria(self, source: EventSource) -> Iterable[ColumnElement[bool]]:
        """Yield the criteria of the events of a table, but for their contexts."""
        columns = source.tracking.event_table.c
        if self.labels is not None:
            yield columns.pgh_label.in_(self.labels)
        if self.since is not None:
            yield columns.pgh_created_at >= self.since
        if self.until is not None:
            yield columns.pgh_created_at < self.until
        if self.transaction is not None:
            yield columns.pgh_xact_id == self.transaction
        if self.before is not None:
            yield columns.pgh_id < self.before


_PARAMETERS: Mapping[str, Any] = {
    "labels": String(),
    "since": DateTime(timezone=True),
    "until": DateTime(timezone=True),
    "context": Uuid(),
    "context_keys": JSONB(),
    "transaction": BigInteger(),
    "before": BigInteger(),
}


def _context_filters(
    context: Any,
) -> tuple[uuid.UUID | None, Mapping[str, Any] | None]:
    """Return the id of a context, or the keys and values that contexts have."""
    if isinstance(context, Mapping):
        # As the contexts have them: a date is stored as text.
        values, _ = stored_values(context)
        return None, values
    return checked_context_id(context, EventsError), None


_BEFORE = "before is the number of an event, as in pgh_id"


def checked_limit(limit: Any) -> Any:
    """Return a limit, or None for none.

    :raises EventsError: it is no number from 0 on.
    """
    what = "limit is the greatest number of events, or None for all"
    return checked_number(what, limit, EventsError, least=0)


def _time_filter(argument: str, time: Any) -> Any:
    return None if time is None else checked_time(argument, time, EventsError)


def _check_labels(
    sources: Sequence[EventSource], labels: tuple[str, ...] | None
) -> None:
    if labels is None:
        return
    known = {
        tracker.event_label: tracker
        for source in sources
        for tracker in source.tracking.trackers
    }
    for label in labels:
        if label not in known:
            raise EventsError(
                f"no tracker has the label {label!r}{suggestion(str(label), known)}"
            )


def checked_references(references: Any) -> int:
    """Return how many foreign keys are followed.

    :raises EventsError: it is no number from 0 on, and neither True nor False.
    """
    if isinstance(references, int) and references >= 0:  # True is one as well
        return references
    raise EventsError(
        "references is True, False or how many foreign keys to follow, got "
        f"{references!r}; give an int"
    )
