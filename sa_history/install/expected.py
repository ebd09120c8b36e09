"""All that a MetaData has in the database beside its tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import MetaData, Table

from sa_history.attachments.registry import attachments_of
from sa_history.attachments.views import views_of
from sa_history.ddl.elements import DatabaseObject, PGFunction
from sa_history.tracking.registry import Tracking, history_of


@dataclass(frozen=True, eq=False)
class Owned:
    """An object, and what it is there for.

    :param made: the object.
    :param table: the table it belongs to; of a view, the one that stands for it.
    :param reads: the tables and views that a view reads.
    """

    made: DatabaseObject
    table: Table
    reads: frozenset[Table] = frozenset()


def objects_of(metadata: MetaData) -> list[Owned]:
    """Return what belongs to the tables of a MetaData, in an order that works."""
    return [
        *_of_tracking(metadata),
        *_of_attachments(metadata),
        *_of_views(metadata),
    ]


def trackings_in(metadata: MetaData) -> list[Tracking]:
    """Return what is tracked, but for tables that ``MetaData.remove`` took away."""
    history = history_of(metadata)
    return [
        tracking
        for tracking in (history.trackings.values() if history else ())
        if metadata.tables.get(tracking.table.key) is tracking.table
    ]


def _of_tracking(metadata: MetaData) -> Iterator[Owned]:
    history = history_of(metadata)
    if history is None:
        return
    shared = history.shared
    yield Owned(shared.pg_sequence(), shared.context_table)
    for made in shared.functions():
        yield Owned(made, shared.context_table)
    for tracking in trackings_in(metadata):
        for recorder in tracking.objects():
            of_events = isinstance(recorder, PGFunction)
            yield Owned(recorder, tracking.event_table if of_events else tracking.table)
        protection = tracking.append_only_trigger()
        if protection is not None:
            yield Owned(protection, tracking.event_table)


def _of_attachments(metadata: MetaData) -> Iterator[Owned]:
    for attachment in attachments_of(metadata):
        table = attachment.table
        if metadata.tables.get(table.key) is table:
            for made in attachment.objects():
                yield Owned(made, table)


def _of_views(metadata: MetaData) -> Iterator[Owned]:
    for defined in views_of(metadata):
        reads = frozenset(defined.reads())
        for made in defined.objects():
            yield Owned(made, defined.table, reads)
