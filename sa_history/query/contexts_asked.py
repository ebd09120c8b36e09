"""The contexts whose events are asked for, found before the events.

A criterion that looks for contexts within the statement about events does so once for
each event table. Without an index of the metadata that is to read all contexts as often
as there are models. And PostgreSQL, which does not know how many contexts it will find,
may go through all events of tables that nobody has analysed.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    FromClause,
    Select,
    Table,
    Uuid,
    bindparam,
    column,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.orm import Session

from sa_history.capture.context_storage import (
    ContextStorage,
    MetadataCriterion,
    ids_within,
)
from sa_history.tracking.databases import read_by
from sa_history.tracking.registry import Tracking

IDS = "page_contexts"
"""The name of the parameter that has the ids of the contexts that were found."""

FOUND = bindparam(IDS, type_=ARRAY(Uuid))
"""The array of these ids."""

MOST = 1_000
"""The greatest number of contexts that are found first.

Of a user who has done more than that, the newest events of a table have some soon.
"""


@dataclass(frozen=True, eq=False)
class ContextsAsked:
    """What the contexts of events have to meet, all of it.

    :param within: the id of a context that they are, or are nested in, or a parameter
        for it; None for any.
    :param metadata: criteria of their metadata.
    """

    within: Any = None
    metadata: Sequence[MetadataCriterion] = ()

    def __bool__(self) -> bool:
        return self.within is not None or bool(self.metadata)

    def criteria(
        self, storage: ContextStorage, events: FromClause
    ) -> Iterator[ColumnElement[bool]]:
        """Yield the criteria of events, which look for the contexts themselves.

        :param storage: how the events store their contexts.
        """
        if self.within is not None:
            yield storage.is_within(events, self.within)
        for criterion in self.metadata:
            yield storage.metadata_meets(events, criterion)

    def find(
        self,
        session: Session,
        trackings: Iterable[Tracking],
        values: Mapping[str, Any],
        arguments_of: Callable[[Tracking], dict[str, Any]] = read_by,
    ) -> list[uuid.UUID] | None:
        """Return the ids of the contexts.

        :param session: the session that reads them.
        :param trackings: those of the events, in one database.
        :param values: the parameters of the criteria.
        :param arguments_of: returns the arguments of ``get_bind`` of the database.
        :return: None if they are too many, or no event has one from the context table.
        """
        by_reference = [t for t in trackings if t.options.context == "reference"]
        if not (self and by_reference):
            return None
        tracking = by_reference[0]
        statement = self._ids(tracking.history.shared.context_table).limit(MOST + 1)
        arguments = arguments_of(tracking)
        found = session.scalars(statement, values, bind_arguments=arguments).all()
        return None if len(found) > MOST else [*found]

    def _ids(self, contexts: Table) -> Select[Any]:
        criteria = [criterion(contexts.c.metadata) for criterion in self.metadata]
        if self.within is None:
            return select(contexts.c.id).where(*criteria)
        within = ids_within(contexts, self.within)
        if not criteria:
            return within
        return select(contexts.c.id).where(contexts.c.id.in_(within), *criteria)


ANY_CONTEXT = ContextsAsked()
"""For events that may have any context, or none."""


def of_each_context(
    statement: Select[Any], storage: ContextStorage, events: FromClause
) -> Select[Any]:
    """Return a SELECT of events, for those of the contexts that were found.

    PostgreSQL looks for the events of one context after the other in the index. It does
    not know that most contexts have events of few tables, and expects some in each of
    them. With a limit it would go through all events of a table from the newest on, to
    find these soon; and it would compile the statement, since the events of a hundred
    tables seem to be many. So it is made to expect few.

    :param statement: the SELECT of the events.
    :param storage: how the events store their contexts.
    """
    # Of an array that it does not know, PostgreSQL expects ten elements.
    unknown = select(FOUND).scalar_subquery()
    ids = func.unnest(unknown).table_valued(column("id", Uuid), name="pgh_found")
    each = ids.render_derived()
    is_of_it = [
        storage.has_one_of(events, each.c.id),
        # The same again, of which it thinks that it leaves few of those events.
        storage.id_of(events).between(each.c.id, each.c.id),
    ]
    # PostgreSQL does not make a subquery with OFFSET a part of the outer one.
    of_it = statement.where(*is_of_it).offset(literal_column("0")).lateral("pgh_of_it")
    return select(*of_it.c).select_from(each.join(of_it, true()))
