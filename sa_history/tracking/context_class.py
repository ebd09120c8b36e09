"""The class that a context table is mapped to."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

from sqlalchemy import Table
from sqlalchemy.orm import Mapped, foreign, registry, relationship, remote

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
