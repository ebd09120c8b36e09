"""The class that a context table is mapped to."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

from sqlalchemy import Table
from sqlalchemy.orm import Mapped, foreign, registry, relationship, remote

from sa_history.contexts.frame import ContextFrame
from sa_history.exc import HistoryError
from sa_history.tracking.editing import refuse_changes_of


class Context:
    """The base of the class that the context table is mapped to.

    Example::

        event.pgh_context.metadata  # {"user": 7, "url": "/x"}
    """

    id: Mapped[uuid.UUID]
    """The id of the context."""
    created_at: Mapped[datetime.datetime]
    """When the first transaction began that made a change in the context."""
    updated_at: Mapped[datetime.datetime]
    """When the keys of the context last changed."""
    metadata: Mapped[dict[str, Any]]
    """The keys and values of the context, with those of the contexts around it."""
    parent_id: Mapped[uuid.UUID | None]
    """The id of the context around this one, which has a row if it made changes."""
    parent: Mapped[Context | None]
    """The context around this one, None if it has no row."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.metadata!r}>"


def checked_context_id(given: Any, error: type[HistoryError]) -> uuid.UUID | None:
    """Return the id of a context that is given as an argument, or None for none.

    :param given: the context, as :func:`history.context` or ``event.pgh_context`` gave
        it, or its id.
    :param error: the class of the error.
    :raises HistoryError: it is something else. Rows of the application have ids, too.
    """
    found = given.id if isinstance(given, (Context, ContextFrame)) else given
    if found is None or isinstance(found, uuid.UUID):
        return found
    raise error(
        "context is a context, its id as a UUID, or an event of it, got "
        f"{given!r}; write uuid.UUID(...) around an id that is text"
    )


def make_context_class(table: Table, mappers: registry) -> type[Context]:
    """Make a class, and map the context table to it.

    :param mappers: the registry of the mapping.
    """
    context_class = type("Context", (Context,), {})
    mappers.map_imperatively(
        context_class,
        table,
        properties={
            "parent": relationship(
                context_class,
                primaryjoin=foreign(table.c.parent_id) == remote(table.c.id),
                viewonly=True,
            )
        },
    )
    refuse_changes_of(context_class)
    return context_class
