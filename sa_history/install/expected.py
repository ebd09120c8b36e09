"""All that a MetaData has in the database beside its tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from sqlalchemy import MetaData, Table

from sa_history.attachments.registry import attachments_of
from sa_history.attachments.views import views_of
from sa_history.ddl.elements import DatabaseObject, PGFunction
from sa_history.tracking.registry import history_of, trackings_in


@dataclass(frozen=True, eq=False)
class ExpectedObject:
    """An object that the models expect in the database, and its table.

    :param definition: the object, as the models define it.
    :param table: the table that the object serves; of a view, the Table that stands for
        the view in the models.
    :param reads: the tables and views that a view reads; empty for other objects.
    """

    definition: DatabaseObject
    table: Table
    reads: frozenset[Table] = frozenset()


def objects_of(metadata: MetaData) -> list[ExpectedObject]:
    """Return the objects of a MetaData, each after those that it needs."""
    return [
        *_of_tracking(metadata),
        *_of_attachments(metadata),
        *_of_views(metadata),
    ]


def has_objects(metadata: MetaData) -> bool:
    """Return True if a table of a MetaData is tracked, or has triggers, or is a view.

    What tracked tables share does not count: a base may have it before it has models.
    """
    others = chain(_of_attachments(metadata), _of_views(metadata))
    return bool(trackings_in(metadata)) or next(others, None) is not None


def _of_tracking(metadata: MetaData) -> Iterator[ExpectedObject]:
    history = history_of(metadata)
    if history is None:
        return
    shared = history.shared
    yield ExpectedObject(shared.pg_sequence(), shared.context_table)
    for definition in shared.functions():
        yield ExpectedObject(definition, shared.context_table)
    for tracking in trackings_in(metadata):
        for recorder in tracking.objects():
            of_events = isinstance(recorder, PGFunction)
            yield ExpectedObject(
                recorder, tracking.event_table if of_events else tracking.table
            )
        protection = tracking.append_only_trigger()
        if protection is not None:
            yield ExpectedObject(protection, tracking.event_table)


def _of_attachments(metadata: MetaData) -> Iterator[ExpectedObject]:
    for attachment in attachments_of(metadata):
        table = attachment.table
        if metadata.tables.get(table.key) is table:
            for definition in attachment.objects():
                yield ExpectedObject(definition, table)


def _of_views(metadata: MetaData) -> Iterator[ExpectedObject]:
    for defined in views_of(metadata):
        reads = frozenset(defined.reads())
        for definition in defined.objects():
            yield ExpectedObject(definition, defined.table, reads)
