"""Pages of events of several tables, read in two steps.

The first statement finds the numbers of the events, the second one what the page shows
of them, from the tables that they are in. So neither grows with the columns of the
models, and the second one not with the number of models. The first one has an entry for
each table, but is made once and kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import (
    Callable,
    Collection,
    Hashable,
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    Row,
    Select,
    Subquery,
    Table,
    any_,
    bindparam,
    column,
    func,
    literal_column,
    select,
    true,
    union_all,
)
from sqlalchemy.orm import Session
from sqlalchemy.sql.expression import ColumnClause

from sa_history.exc import EventsError
from sa_history.query.contexts_asked import (
    ANY_CONTEXT,
    FOUND,
    IDS,
    ContextsAsked,
    of_each_context,
)
from sa_history.query.details import (
    PAGE,
    Details,
    event_columns,
    events_of_page,
    numbered,
    values_of_event,
)
from sa_history.query.event_json import (
    data_of,
    decimal_attributes,
    diff_of,
    diff_of_attributes,
    stored_values,
)
from sa_history.query.removed_events import ANYTHING, Asked
from sa_history.query.sources import EventSource
from sa_history.sql.readable_json import readable_json
from sa_history.tracking.databases import read_by
from sa_history.tracking.registry import History, Tracking
from sa_history.util.sessions import is_async_session, session_of

CriteriaOf: TypeAlias = Callable[[EventSource], Iterable[ColumnElement[bool]]]
"""Returns further criteria for the events of a table."""

LIMIT = "page_limit"
"""The name of the parameter that is the number of events of a page."""

_MOST_STATEMENTS = 200
"""How many statements a MetaData keeps."""


def page_of(
    sources: Sequence[EventSource],
    criteria: CriteriaOf,
    order: Sequence[ColumnElement[Any]],
    limit: int | None,
) -> Subquery:
    """Return the events of a page with data and diffs, for a statement of one step."""
    trackings = [source.tracking for source in sources]
    if on_citus(trackings):
        return _page_on_citus(sources, criteria, order, limit)
    made = _meeting(criteria, event_columns)
    page: Any = _union(sources, made, order, limit).subquery(PAGE)
    converted = {t: is_converted_as_whole(t, _USUAL_EVENTS) for t in trackings}
    details = Details(converted, "details", values_of_event)
    contexts = trackings[0].history.shared.context_table
    return _shown(
        [c for c in page.c if c.name != "inline_context"],
        page,
        details,
        page.outerjoin(contexts, contexts.c.id == page.c.pgh_context_id).join(
            details, true()
        ),
        contexts,
    )


def on_citus(trackings: Iterable[Tracking]) -> bool:
    """Return whether Citus distributes any of some event tables.

    It cannot plan all that PostgreSQL can.
    """
    return any(tracking.distributed_by is not None for tracking in trackings)


def _page_on_citus(
    sources: Sequence[EventSource],
    criteria: CriteriaOf,
    order: Sequence[ColumnElement[Any]],
    limit: int | None,
) -> Subquery:
    """Return the events of a page with all that is made of them, in one form for Citus.

    The nodes read the event before each, since Citus cannot join a page with tables.
    With a limit, they do so for the events of the page only: PostgreSQL evaluates an
    expensive expression after it has sorted.
    """

    def columns(
        tracking: Tracking, source: int, events: FromClause
    ) -> list[ColumnElement[Any]]:
        return [
            *event_columns(tracking, source, events),
            *stored_values(tracking, events, None),
        ]

    made = _meeting(criteria, columns)
    page: Any = _union(sources, made, order, limit).subquery(PAGE)
    trackings = [source.tracking for source in sources]
    joined, contexts = _with_contexts(page, trackings)
    return _shown(
        [c for c in page.c if c.name in _SHOWN],
        page,
        page,
        joined,
        contexts,
        _attributes(trackings),
    )


def _with_contexts(
    events: FromClause, trackings: Collection[Tracking]
) -> tuple[FromClause, Table | None]:
    """Return events that are joined with their contexts, and the table of these.

    :return: the events as they are and None on Citus, if all have their contexts in
        them: its workers do not have the table then.
    """
    is_by_reference = any(t.options.context == "reference" for t in trackings)
    if on_citus(trackings) and not is_by_reference:
        return events, None
    contexts = next(iter(trackings)).history.shared.context_table
    joined = events.outerjoin(contexts, contexts.c.id == events.c.pgh_context_id)
    return joined, contexts


def _attributes(trackings: Iterable[Tracking]) -> list[str]:
    """Return the attributes that are stored, by name, each once."""
    stored = (name for t in trackings for name in t.tracked_columns.stored)
    return list(dict.fromkeys(stored))


def _shown(
    columns: Sequence[ColumnElement[Any]],
    events: FromClause,
    values: FromClause,
    joined: FromClause,
    contexts: FromClause | None,
    attributes: Sequence[str] | None = None,
) -> Subquery:
    """Return events with their context, data and diff.

    :param columns: the columns that are shown as they are.
    :param events: has the metadata that events store themselves.
    :param values: has the columns of :func:`stored_values`.
    :param joined: all of these and their contexts, joined.
    :param contexts: the table of the contexts; None if events have them.
    :param attributes: those that events store, for a form that Citus plans; None for
        the usual one.
    """
    context: ColumnElement[Any] = events.c.inline_context
    if contexts is not None:
        context = func.coalesce(context, contexts.c.metadata)
    if attributes is None:
        data, diff = data_of(values), diff_of(values)
    else:
        data, diff = values.c.stored, diff_of_attributes(values, attributes)
    return (
        select(
            *columns,
            context.label("pgh_context"),
            data.label("pgh_data"),
            diff.label("pgh_diff"),
        )
        .select_from(joined)
        .subquery("pgh_events")
    )


ColumnsOf: TypeAlias = Callable[
    [Tracking, int, FromClause], Sequence[ColumnElement[Any]]
]
"""Returns what to select of a tracking's events.

It takes the tracking, its number, and the event table.
"""

SelectOf: TypeAlias = Callable[[EventSource, int], Select[Any]]
"""Returns a SELECT of the events of a table, with the number of its tracking."""


def _meeting(criteria: CriteriaOf, columns_of: ColumnsOf) -> SelectOf:
    """Return what makes the SELECT of events that meet criteria."""

    def made(source: EventSource, number: int) -> Select[Any]:
        tracking = source.tracking
        columns = columns_of(tracking, number, tracking.event_table)
        return select(*columns).where(*source.criteria(), *criteria(source))

    return made


def _union(
    sources: Sequence[EventSource],
    select_of: SelectOf,
    order: Sequence[ColumnElement[Any]],
    limit: Any,
    is_separate: bool = False,
) -> Any:
    """Return a SELECT of events of several tables.

    :param limit: the greatest number of events, or a parameter for it.
    :param is_separate: have PostgreSQL plan each table by itself.
    """

    def ordered(statement: Any) -> Any:
        statement = statement.order_by(*order)
        return statement if limit is None else statement.limit(limit)

    branches = []
    trackings = [source.tracking for source in sources]
    # A SELECT around each one takes PostgreSQL half as long again to plan.
    is_on_citus = on_citus(trackings)
    numbers = numbered(trackings)
    for source, (number, _) in zip(sources, numbers, strict=True):
        statement: Any = select_of(source, number)
        if limit is not None and len(sources) > 1:
            statement = ordered(statement)
            if is_separate:
                table = statement.cte(f"pgh_events_{number}")
                statement = select(table.prefix_with("MATERIALIZED"))
            elif is_on_citus:
                statement = select(statement.subquery())
        branches.append(statement)
    return ordered(branches[0] if len(branches) == 1 else union_all(*branches))


@dataclass(frozen=True, eq=False)
class PageReader:
    """A page of events, to be read by a session.

    :param sources: the event tables, with the criteria of each.
    :param criteria: returns further criteria for the events of a table.
    :param order: columns of AggregateEvent that event tables have as well.
    :param limit: the greatest number of events; None for all.
    :param columns: the columns of the rows.
    :param values: the parameters of the criteria.
    :param shape: what tells criteria and order from those of other readers, but for
        the parameters; None if no statement is to be kept for them.
    :param contexts: which contexts the events have; they are found first, unless they
        are many. Each table is planned by itself then. Else PostgreSQL expects to need
        a few events of each table only, and goes through them from the newest on, which
        takes seconds for a user who did nothing lately.
    :param asked: what may be before all events that are left, and is refused then.
    """

    sources: Sequence[EventSource]
    criteria: CriteriaOf
    order: Sequence[ColumnElement[Any]]
    limit: int | None
    columns: Sequence[ColumnClause[Any]]
    values: Mapping[str, Any]
    shape: Hashable | None
    contexts: ContextsAsked = ANY_CONTEXT
    asked: Asked = ANYTHING

    def read(self, session: Session) -> list[Row[Any]]:
        """Return the rows.

        :raises EventsRemovedError: some of what is asked for may have been removed.
        """
        partitioned = [
            source.tracking
            for source in self.sources
            if source.tracking.options.partition_by is not None
        ]
        if partitioned and not self.asked.is_anything:
            connection = _connection(session, partitioned[0])
            self.asked.require_events(connection, partitioned)
        return self.rows(session, self.keys(session))

    def keys(self, session: Session) -> list[Row[Any]]:
        """Return the numbers and sources of the events of the page: the first step."""
        values = {**self.values}
        trackings = [source.tracking for source in self.sources]
        ids = self.contexts.find(session, trackings, values)
        if ids == []:
            # Only of events that have their contexts in them, some may be asked for.
            return self._of_inline_contexts().keys(session)
        if ids is not None:
            values[IDS] = ids
        if not self.sources:
            return []
        if self.limit is not None:
            values[LIMIT] = self.limit
        return [*session.execute(self._keys(ids is not None), values)]

    def rows(self, session: Session, keys: Sequence[Row[Any]]) -> list[Row[Any]]:
        """Return the rows of some events: the second step.

        :param keys: some of what :meth:`keys` returned.
        """
        if not keys:
            return []
        wanted = Counter(key.source for key in keys)
        trackings = [s.tracking for s in self.sources]
        is_on_citus = on_citus(trackings)
        found = {
            tracking: not is_on_citus
            and is_converted_as_whole(tracking, wanted[number])
            for number, tracking in numbered(trackings)
            if number in wanted
        }
        page = {
            "page_ids": [key.pgh_id for key in keys],
            "page_sources": [key.source for key in keys],
        }
        return [*session.execute(self._events(found), page)]

    @property
    def _history(self) -> History:
        return self.sources[0].tracking.history

    @property
    def _decimals(self) -> frozenset[str]:
        # Of all sources, so that an attribute has one type on each page.
        trackings = tuple(source.tracking for source in self.sources)
        sizes = tuple(len(tracking.event_table.c) for tracking in trackings)
        key = ("decimals", trackings, sizes)
        found: frozenset[str] = _kept(
            self._history, key, lambda: decimal_attributes(trackings)
        )
        return found

    def _of_inline_contexts(self) -> PageReader:
        """Return a reader of the tables whose contexts the context table may not have.

        Of the others, none has events of a context that the table does not have.
        """
        return replace(
            self,
            sources=[
                source
                for source in self.sources
                if not source.tracking.context_storage.knows_contexts
            ],
        )

    def _keys(self, are_contexts_found: bool) -> Any:
        """Return the statement of the first step.

        :param are_contexts_found: whether the ids of the contexts are a parameter.
        """

        def make() -> Any:
            return self._made_keys(are_contexts_found)

        if self.shape is None or any(source.criteria() for source in self.sources):
            return make()
        trackings = tuple(source.tracking for source in self.sources)
        key = ("keys", trackings, self.shape, self.limit is None, are_contexts_found)
        return _kept(self._history, key, make)

    def _made_keys(self, are_contexts_found: bool) -> Any:
        trackings = [source.tracking for source in self.sources]
        # Of one context, the newest events may be the last ones of millions.
        is_of_few = self.limit is None or bool(self.contexts.metadata)
        is_of_each = is_of_few and not on_citus(trackings)

        def select_of(source: EventSource, number: int) -> Select[Any]:
            tracking = source.tracking
            storage, events = tracking.context_storage, tracking.event_table
            statement = _meeting(self.criteria, self._number_and_source)(source, number)
            if are_contexts_found and storage.knows_contexts:
                if is_of_each:
                    return of_each_context(statement, storage, events)
                return statement.where(storage.has_one_of(events, any_(FOUND)))
            return statement.where(*self.contexts.criteria(storage, events))

        limit = None
        if self.limit is not None:
            # PostgreSQL plans by the number, also for a prepared statement.
            limit = bindparam(LIMIT, type_=Integer, literal_execute=True)
        is_separate = bool(self.contexts)
        return _union(self.sources, select_of, self.order, limit, is_separate)

    def _number_and_source(
        self, _: Tracking, source: int, events: FromClause
    ) -> list[ColumnElement[Any]]:
        number = literal_column(str(source), Integer).label("source")
        by_transaction = len(self.order) > 1
        # What the primary key has is found without a look at the table.
        further = [events.c.pgh_xact_id] if by_transaction else []
        return [events.c.pgh_id, *further, number]

    def _events(self, trackings: Mapping[Tracking, bool]) -> Any:
        """Return the statement of the second step.

        :param trackings: those that have events in the page, each with whether these
            are converted as a whole.
        """
        order, columns = tuple(map(str, self.order)), tuple(map(str, self.columns))
        sizes = tuple(len(tracking.event_table.c) for tracking in trackings)
        key = (
            *("events", tuple(trackings.items()), sizes),
            *(order, columns, self._decimals),
        )
        return _kept(self._history, key, lambda: self._made_events(trackings))

    def _made_events(self, trackings: Mapping[Tracking, bool]) -> Select[Any]:
        numbers = func.unnest(
            bindparam("page_ids", type_=ARRAY(BigInteger)),
            bindparam("page_sources", type_=ARRAY(Integer)),
        ).table_valued(
            column("pgh_id", BigInteger), column("source", Integer), name=PAGE
        )
        page = select(*numbers.render_derived().c).cte(PAGE)
        events = Details(trackings, "events", events_of_page)
        joined, contexts = _with_contexts(events, list(trackings))
        rows = _shown(
            [c for c in events.c if c.name in _SHOWN],
            events,
            events,
            joined,
            contexts,
            _attributes(trackings) if on_citus(trackings) else None,
        )
        statement = statement_of(rows, self.columns, self.order, self._decimals)
        return statement.add_cte(page)


def _connection(session: Session, tracking: Tracking) -> Connection:
    """Return the connection of a session that reads the events of a table."""
    return session.connection(bind_arguments=read_by(tracking))


_USUAL_EVENTS = 10
"""How many events of a table a page is thought to have, before it is known."""


def is_converted_as_whole(tracking: Tracking, events: int) -> bool:
    """Return whether it is cheaper to convert the events of a page as a whole.

    To name a column costs a statement as much as to convert some columns of an event.

    :param events: how many events of the table the page has.
    """
    return 2 * events < len(tracking.event_table.c)


class Reader(Protocol):
    """What reads rows by a session."""

    def read(self, session: Session) -> list[Row[Any]]:
        """Return the rows."""


def read(session: Any, reader: Reader, function: str) -> Any:
    """Return the rows of a page, or what gives them when it is awaited.

    :param session: a ``Session`` or an ``AsyncSession``, scoped or not.
    :param function: the name of what was called, for the error.
    :raises EventsError: the session is none.
    """
    target = session_of(session, function, EventsError)
    if is_async_session(target):
        return target.run_sync(reader.read)
    return reader.read(target)


_SHOWN = {
    "pgh_id",
    "source",
    "pgh_model",
    "pgh_obj_model",
    "pgh_obj_id",
    "pgh_label",
    "pgh_op",
    "pgh_created_at",
    "pgh_xact_id",
    "pgh_context_id",
}


def _kept(history: History, key: Hashable, make: Callable[[], Any]) -> Any:
    """Return the statement, or what it needs, that is kept under a key.

    :param make: makes it, if there is none.
    """
    found = history.statements.get(key)
    if found is None:
        if len(history.statements) >= _MOST_STATEMENTS:
            history.statements.clear()
        found = history.statements[key] = make()
    return found


def statement_of(
    rows: Subquery,
    columns: Sequence[ColumnClause[Any]],
    order: Sequence[ColumnElement[Any]],
    decimals: Collection[str],
) -> Select[Any]:
    """Return the SELECT of some columns of events, in an order.

    :param decimals: the attributes whose values are decimal numbers.
    """
    exact = readable_json(decimals)
    typed = {"pgh_data": exact, "pgh_diff": exact}
    # SQLAlchemy gives an anonymous label to the expression that a type selects for a
    # column without a table.
    labeled = (column(c.name, typed.get(c.name, c.type)).label(c.name) for c in columns)
    return select(*labeled).select_from(rows).order_by(*order)
