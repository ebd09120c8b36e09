"""Events of several models in one list, as JSON, each with what it changed.

Filters, order and limit go into the SELECT of each event table; the JSON and the
diff are made only for the rows that are returned.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    FromClause,
    Integer,
    MetaData,
    Select,
    String,
    Subquery,
    Table,
    Text,
    Uuid,
    and_,
    column,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.expression import ColumnClause

from sa_history.conditions import suggestion
from sa_history.event_class import Context
from sa_history.event_data import event_details
from sa_history.event_table import key_columns
from sa_history.events import key_of, trackings_of
from sa_history.exc import EventsError
from sa_history.tracking import Tracking, history_of


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
        labels: Iterable[str] | None = None,
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
        context: uuid.UUID | Context | Any = None,
        before: int | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> Select[Any]:
        """Return a SELECT of events with their data and diffs, oldest first.

        A diff is against the row's previous event in the same table. Events that one
        change left under several labels have the same diff.

        :param targets: objects, for their events; mapped classes and tables, for
            all of theirs; a declarative base or a MetaData, for all that it tracks.
        :param across: the same, to keep only events of these.
        :param labels: keep only events with these labels.
        :param since: keep only events from then on.
        :param until: keep only events before then.
        :param context: a context, as ``history.context`` or ``pgh_context`` give it, or
            its id; keep only its events.
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
        sources = _sources(targets, across)
        if isinstance(labels, str):
            raise EventsError(f"labels is a list of labels, got {labels!r}")
        filters = _Filters(
            labels=None if labels is None else tuple(labels),
            since=since,
            until=until,
            context_id=_context_id(context),
            before=before,
        )
        _check_labels(sources, filters.labels)
        page = _page(sources, filters, limit, newest_first)
        rows = _with_details(page, [source.tracking for source in sources])
        order = cls.pgh_id.desc() if newest_first else cls.pgh_id
        return select(*cls._columns()).select_from(rows).order_by(order)

    @classmethod
    def _columns(cls) -> list[ColumnClause[Any]]:
        return [c for c in vars(cls).values() if isinstance(c, ColumnClause)]


def _context_id(context: Any) -> uuid.UUID | None:
    found: uuid.UUID | None = getattr(context, "id", context)
    return found


@dataclass(frozen=True, eq=False)
class _Filters:
    """What the events of every table are narrowed by."""

    labels: tuple[str, ...] | None
    since: datetime.datetime | None
    until: datetime.datetime | None
    context_id: uuid.UUID | None
    before: int | None

    def criteria(self, events: FromClause) -> Iterable[ColumnElement[bool]]:
        columns = events.c
        if self.labels is not None:
            yield columns.pgh_label.in_(self.labels)
        if self.since is not None:
            yield columns.pgh_created_at >= self.since
        if self.until is not None:
            yield columns.pgh_created_at < self.until
        if self.context_id is not None:
            # A table that stores no context has no events of one.
            has_context = "pgh_context_id" in columns
            yield (
                columns.pgh_context_id == self.context_id
                if has_context
                else literal_column("false")
            )
        if self.before is not None:
            yield columns.pgh_id < self.before


@dataclass(eq=False)
class _Source:
    """An event table, and the objects whose events are wanted; None for all."""

    tracking: Tracking
    objects: list[object] | None

    def criteria(self, events: FromClause) -> Iterable[ColumnElement[bool]]:
        if self.objects is None:
            return
        keys = [events.c[c.name] for c in self._key_columns()]
        yield or_(
            *(
                and_(
                    *(
                        key == value
                        for key, (_, value) in zip(
                            keys, key_of(self.tracking, obj), strict=True
                        )
                    )
                )
                for obj in self.objects
            )
        )

    def _key_columns(self) -> Sequence[Any]:
        return key_columns(self.tracking.tracked_columns, self.tracking.event_table)


def _check_labels(sources: Sequence[_Source], labels: tuple[str, ...] | None) -> None:
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


def _sources(targets: Sequence[Any], across: Any) -> list[_Source]:
    sources: dict[Tracking, _Source] = {}
    for target in targets:
        whole = _is_whole(target)
        for tracking in _trackings(target):
            source = sources.setdefault(tracking, _Source(tracking, []))
            if whole:
                source.objects = None
            elif source.objects is not None:
                source.objects.append(target)
    if across is not None:
        models = across if isinstance(across, (list, tuple, set)) else [across]
        for model in models:
            if not _is_whole(model):
                raise EventsError(
                    f"across takes tracked classes and tables, got {model!r}; give an "
                    "object as a target"
                )
        kept = [tracking for model in models for tracking in _trackings(model)]
        if targets:
            sources = {t: source for t, source in sources.items() if t in kept}
        else:
            sources = {tracking: _Source(tracking, None) for tracking in kept}
    if not sources:
        raise EventsError(
            "AggregateEvent.select needs something whose events to select; give "
            "objects, tracked classes, or a declarative base for all it tracks"
        )
    if len({source.tracking.history for source in sources.values()}) > 1:
        raise EventsError(
            "AggregateEvent.select got models of several MetaData, whose events have "
            "no common order; select from each"
        )
    return list(sources.values())


def _is_whole(target: Any) -> bool:
    return isinstance(target, (type, Table, MetaData))


def _trackings(target: Any) -> list[Tracking]:
    metadata = target
    if isinstance(target, type) and not hasattr(target, "__mapper__"):
        metadata = getattr(target, "metadata", None)
    if isinstance(metadata, MetaData):
        history = history_of(metadata)
        return list(history.trackings.values()) if history else []
    return trackings_of(target)


def _page(
    sources: Sequence[_Source],
    filters: _Filters,
    limit: int | None,
    newest_first: bool,
) -> Subquery:
    """Return the rows to show, without their data: the cheap part, cut early."""

    def ordered(statement: Any) -> Any:
        key: ColumnElement[Any] = literal_column("pgh_id")
        statement = statement.order_by(key.desc() if newest_first else key)
        return statement if limit is None else statement.limit(limit)

    branches = []
    for index, source in enumerate(sources):
        events = source.tracking.event_table
        statement = select(*_page_columns(index, source.tracking)).where(
            *source.criteria(events), *filters.criteria(events)
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
        literal(tracking.event_class.__name__, String).label("pgh_model"),
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
            *(c for c in page.c if c.name not in ("source", "inline_context")),
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
