"""Events of several models in one list, as JSON, each with what it changed.

Filters, order and limit go into the SELECT of each event table; the JSON and the
diff are made only for the rows that are returned.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Integer,
    Select,
    String,
    Subquery,
    Text,
    Uuid,
    column,
    func,
    literal,
    literal_column,
    null,
    select,
    true,
    union_all,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.expression import ColumnClause

from sa_history.capture.event_table import key_columns
from sa_history.exc import EventsError
from sa_history.query.event_json import event_details
from sa_history.query.sources import Source, sources_of
from sa_history.tracking.event_class import Context
from sa_history.tracking.registry import Tracking
from sa_history.util.messages import suggestion


class AggregateEvent:
    """The events of any tracked models in one list.

    Its attributes are the columns of the rows that :meth:`select` gives, to narrow or
    order it further.

    Example::

        statement = AggregateEvent.select(account, labels=["snapshot"])
        for row in session.execute(statement):
            print(row.pgh_label, row.pgh_diff)
    """

    pgh_id: ClassVar[ColumnClause[int]] = column("pgh_id", BigInteger)
    """The event's number; the events of all tables have one order."""
    pgh_model: ClassVar[ColumnClause[str]] = column("pgh_model", String)
    """The name of the event class."""
    pgh_obj_model: ClassVar[ColumnClause[str]] = column("pgh_obj_model", String)
    """The name of the tracked class or table."""
    pgh_obj_id: ClassVar[ColumnClause[str | None]] = column("pgh_obj_id", String)
    """The key of the row as text; a JSON list where it has several columns."""
    pgh_label: ClassVar[ColumnClause[str]] = column("pgh_label", String)
    """The label of the tracker."""
    pgh_op: ClassVar[ColumnClause[str]] = column("pgh_op", String)
    """What happened; a value of :class:`sa_history.Op`."""
    pgh_created_at: ClassVar[ColumnClause[datetime.datetime]] = column(
        "pgh_created_at", DateTime(timezone=True)
    )
    """When the transaction began."""
    pgh_xact_id: ClassVar[ColumnClause[int]] = column("pgh_xact_id", BigInteger)
    """The transaction."""
    pgh_context_id: ClassVar[ColumnClause[uuid.UUID | None]] = column(
        "pgh_context_id", Uuid
    )
    """The id of the context."""
    pgh_context: ClassVar[ColumnClause[dict[str, Any] | None]] = column(
        "pgh_context", JSONB
    )
    """The metadata of the context."""
    pgh_data: ClassVar[ColumnClause[dict[str, Any]]] = column("pgh_data", JSONB)
    """The row by attribute name."""
    pgh_diff: ClassVar[ColumnClause[dict[str, list[Any]] | None]] = column(
        "pgh_diff", JSONB
    )
    """What changed, ``{attribute: [before, after]}``; None where nothing was before."""

    @classmethod
    def select(
        cls,
        *targets: Any,
        across: Any = None,
        references: bool | int = False,
        labels: Iterable[str] | None = None,
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
        context: uuid.UUID | Context | Any = None,
        transaction: int | None = None,
        before: int | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> Select[Any]:
        """Return a SELECT of events with their data and diffs, oldest first.

        A diff is against the row's previous event in the same table. Events that one
        change left under several labels have the same diff.

        :param targets: objects, for their events; pairs of a class or table and a key,
            or a SELECT of keys, since the row may be gone; mapped classes and tables,
            for all of theirs; a declarative base or a MetaData, for all that it tracks.
        :param across: classes and tables, to keep only events of these.
        :param references: add the events of rows that had a foreign key to a target,
            association tables included; a number for more hops than one.
        :param labels: keep only events with these labels.
        :param since: keep only events from then on.
        :param until: keep only events before then.
        :param context: a context, as ``history.context`` or ``pgh_context`` give it, or
            its id: keep only its events; or keys and values that contexts have.
        :param transaction: a number, as ``pgh_xact_id`` gives it; keep only its events.
        :param before: keep only events with a smaller ``pgh_id``, to page.
        :param limit: how many events at most.
        :param newest_first: turn the order around; the limit follows it.
        :raises EventsError: a target is not tracked, or there is none; no tracker has
            a label.

        Example::

            statement = AggregateEvent.select(Base, limit=50, newest_first=True)
            session.execute(statement.where(
                AggregateEvent.pgh_context["user"].as_integer() == 7
            ))
        """
        sources = sources_of(targets, across, int(references))
        if isinstance(labels, str):
            raise EventsError(f"labels is a list of labels, got {labels!r}")
        filters = _Filters(
            labels=None if labels is None else tuple(labels),
            since=since,
            until=until,
            context=_context_filter(context),
            transaction=transaction,
            before=before,
        )
        _check_labels(sources, filters.labels)
        order = cls.pgh_id.desc() if newest_first else cls.pgh_id
        return aggregate(sources, filters.criteria, [order], limit)


def aggregate(
    sources: Sequence[Source],
    criteria: Callable[[Source], Iterable[ColumnElement[bool]]],
    order: Sequence[ColumnElement[Any]],
    limit: int | None,
) -> Select[Any]:
    """Return a SELECT of events of several tables, as :class:`AggregateEvent` rows.

    :param criteria: gives what events of a table have to meet beside being wanted.
    :param order: columns of AggregateEvent that event tables have as well.
    """
    page = _page(sources, criteria, order, limit)
    rows = _with_details(page, [source.tracking for source in sources])
    columns = [c for c in vars(AggregateEvent).values() if isinstance(c, ColumnClause)]
    return select(*columns).select_from(rows).order_by(*order)


@dataclass(frozen=True, eq=False)
class _Filters:
    """What the events of every table are narrowed by."""

    labels: tuple[str, ...] | None
    since: datetime.datetime | None
    until: datetime.datetime | None
    context: uuid.UUID | Mapping[str, Any] | None
    transaction: int | None
    before: int | None

    def criteria(self, source: Source) -> Iterable[ColumnElement[bool]]:
        columns = source.tracking.event_table.c
        if self.labels is not None:
            yield columns.pgh_label.in_(self.labels)
        if self.since is not None:
            yield columns.pgh_created_at >= self.since
        if self.until is not None:
            yield columns.pgh_created_at < self.until
        if self.context is not None:
            yield _has_context(source.tracking, self.context)
        if self.transaction is not None:
            yield columns.pgh_xact_id == self.transaction
        if self.before is not None:
            yield columns.pgh_id < self.before


def _context_filter(context: Any) -> uuid.UUID | Mapping[str, Any] | None:
    if isinstance(context, Mapping):
        return context
    found: uuid.UUID | None = getattr(context, "id", context)
    return found


def _has_context(
    tracking: Tracking, context: uuid.UUID | Mapping[str, Any]
) -> ColumnElement[bool]:
    columns, storage = tracking.event_table.c, tracking.options.context
    if storage is None:
        # A table that stores no context has no events of one.
        return literal_column("false")
    if not isinstance(context, Mapping):
        return columns.pgh_context_id == context
    if storage == "inline":
        return columns.pgh_context.contains(context)
    contexts = tracking.history.shared.context_table
    return columns.pgh_context_id.in_(
        select(contexts.c.id).where(contexts.c.metadata.contains(context))
    )


def _check_labels(sources: Sequence[Source], labels: tuple[str, ...] | None) -> None:
    known = {
        tracker.event_label: tracker
        for source in sources
        for tracker in source.tracking.trackers
    }
    for label in labels or ():
        if label not in known:
            raise EventsError(
                f"no tracker has the label {label!r}{suggestion(str(label), known)}"
            )


def _page(
    sources: Sequence[Source],
    criteria: Callable[[Source], Iterable[ColumnElement[bool]]],
    order: Sequence[ColumnElement[Any]],
    limit: int | None,
) -> Subquery:
    """Return the rows to show, without their data: the cheap part, cut early."""

    def ordered(statement: Any) -> Any:
        statement = statement.order_by(*order)
        return statement if limit is None else statement.limit(limit)

    branches = []
    for index, source in enumerate(sources):
        statement = select(*_page_columns(index, source.tracking)).where(
            *source.criteria(), *criteria(source)
        )
        if limit is not None and len(sources) > 1:
            statement = select(ordered(statement).subquery())
        branches.append(statement)
    page = branches[0] if len(branches) == 1 else union_all(*branches)
    return cast("Subquery", ordered(page).subquery("page"))


def _page_columns(index: int, tracking: Tracking) -> list[ColumnElement[Any]]:
    columns = tracking.event_table.c
    inline = tracking.options.context == "inline"
    return [
        columns.pgh_id,
        literal(index, Integer).label("source"),
        literal(tracking.event_type.__name__, String).label("pgh_model"),
        literal(tracking.subject, String).label("pgh_obj_model"),
        _object_id(tracking).label("pgh_obj_id"),
        columns.pgh_label,
        columns.pgh_op,
        columns.pgh_created_at,
        columns.pgh_xact_id,
        (
            columns.pgh_context_id
            if tracking.options.context
            else sql_cast(null(), Uuid).label("pgh_context_id")
        ),
        (columns.pgh_context if inline else sql_cast(null(), JSONB)).label(
            "inline_context"
        ),
    ]


def _object_id(tracking: Tracking) -> ColumnElement[Any]:
    keys = key_columns(tracking.tracked_columns, tracking.event_table)
    if not keys:
        return sql_cast(null(), Text)
    if len(keys) == 1:
        return sql_cast(keys[0], Text)
    return sql_cast(func.jsonb_build_array(*keys), Text)


def _with_details(page: Subquery, trackings: Sequence[Tracking]) -> Subquery:
    """Return the page with context, data and diff."""
    details = union_all(
        *(
            event_details(page, index, tracking)
            for index, tracking in enumerate(trackings)
        )
    ).lateral("details")
    contexts = trackings[0].history.shared.context_table
    context = func.coalesce(page.c.inline_context, contexts.c.metadata)
    return (
        select(
            *(c for c in page.c if c.name != "inline_context"),
            context.label("pgh_context"),
            details.c.pgh_data,
            details.c.pgh_diff,
        )
        .select_from(
            page.outerjoin(contexts, contexts.c.id == page.c.pgh_context_id).join(
                details, true()
            )
        )
        .subquery("pgh_events")
    )
