"""How an event table stores the context of a change: by reference, inline, or not.

One class for each value of the ``context`` option of ``track``. It knows the columns,
what triggers and the program write into them, and how they are read again, so that no
other module has to ask which one it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    FromClause,
    Select,
    Table,
    Uuid,
    cast,
    false,
    func,
    inspect,
    literal,
    null,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapper, foreign, relationship

from sa_history._types import ContextOption
from sa_history.capture.context_table import SharedObjects
from sa_history.sql.compose import Fragment, Raw, Setting
from sa_history.sql.expressions import call_once
from sa_history.sql.naming import CONTEXT_ID, CONTEXT_METADATA

CONTEXT_ID_COLUMN = "pgh_context_id"
"""The event column of the context's id."""

CONTEXT_COLUMN = "pgh_context"
"""The event column of an inline context's metadata."""

MetadataCriterion = Callable[[ColumnElement[Any]], ColumnElement[bool]]
"""Makes a criterion of the JSONB expression that is a context's metadata."""


@dataclass(frozen=True, eq=False)
class ContextStorage(ABC):
    """How the events of a table store the context that a change was made in.

    :param shared: the objects that the event tables of the MetaData share.
    """

    shared: SharedObjects

    @abstractmethod
    def id_columns(self) -> list[Column[Any]]:
        """Return the event table's column for the context's id, if it has one."""

    @abstractmethod
    def metadata_columns(self) -> list[Column[Any]]:
        """Return the event table's column for the context's metadata, if it has one."""

    @abstractmethod
    def trigger_values(self) -> tuple[tuple[str, Fragment], ...]:
        """Return the columns with the SQL by which a trigger fills them."""

    @abstractmethod
    def insert_values(self) -> dict[str, ColumnElement[Any]]:
        """Return the columns with the values of an INSERT that is no trigger's."""

    @abstractmethod
    def relationships(
        self, event_table: Table, context_class: type[Any]
    ) -> dict[str, Any]:
        """Return the properties of the event class that columns do not give.

        :param context_class: the class that the context table is mapped to.
        """

    @abstractmethod
    def id_of(self, events: FromClause) -> ColumnElement[Any]:
        """Return the id of an event's context, NULL if none is stored."""

    @abstractmethod
    def inline_metadata_of(self, events: FromClause) -> ColumnElement[Any]:
        """Return the metadata that the event itself stores, NULL if it does not."""

    @abstractmethod
    def metadata_of(self, events: FromClause) -> ColumnElement[Any]:
        """Return the metadata of an event's context, wherever it is stored."""

    @abstractmethod
    def metadata_meets(
        self, events: FromClause, criterion: MetadataCriterion
    ) -> ColumnElement[bool]:
        """Return whether the metadata of an event's context meets a criterion."""

    @abstractmethod
    def is_within(self, events: FromClause, context: Any) -> ColumnElement[bool]:
        """Return whether an event was made in a context or in one nested in it.

        :param context: the id of the context, or a parameter for it.
        """

    knows_contexts: ClassVar[bool] = True
    """Whether the context table has all contexts of the events."""

    @abstractmethod
    def has_one_of(
        self, events: FromClause, ids: ColumnElement[Any]
    ) -> ColumnElement[bool]:
        """Return whether an event was made in a context that the context table has.

        :param ids: its id, or ``any_`` of an array of ids.
        """


class NoContext(ContextStorage):
    """Events store no context: ``context=None``."""

    def id_columns(self) -> list[Column[Any]]:
        """Return no column."""
        return []

    def metadata_columns(self) -> list[Column[Any]]:
        """Return no column."""
        return []

    def trigger_values(self) -> tuple[tuple[str, Fragment], ...]:
        """Return nothing to fill."""
        return ()

    def insert_values(self) -> dict[str, ColumnElement[Any]]:
        """Return nothing to fill."""
        return {}

    def relationships(
        self, event_table: Table, context_class: type[Any]
    ) -> dict[str, Any]:
        """Return no property."""
        return {}

    def id_of(self, events: FromClause) -> ColumnElement[Any]:
        """Return NULL."""
        return cast(null(), Uuid)

    def inline_metadata_of(self, events: FromClause) -> ColumnElement[Any]:
        """Return NULL."""
        return cast(null(), JSONB)

    def metadata_of(self, events: FromClause) -> ColumnElement[Any]:
        """Return NULL."""
        return cast(null(), JSONB)

    def metadata_meets(
        self, events: FromClause, criterion: MetadataCriterion
    ) -> ColumnElement[bool]:
        """Return false."""
        return false()

    def is_within(self, events: FromClause, context: Any) -> ColumnElement[bool]:
        """Return false."""
        return false()

    def has_one_of(
        self, events: FromClause, ids: ColumnElement[Any]
    ) -> ColumnElement[bool]:
        """Return false."""
        return false()


class _WithId(ContextStorage):
    """Events store the id of their context, and maybe more."""

    def id_columns(self) -> list[Column[Any]]:
        """Return the column of the id."""
        return [Column(CONTEXT_ID_COLUMN, Uuid)]

    def id_of(self, events: FromClause) -> ColumnElement[Any]:
        """Return the column of the id."""
        return events.c[CONTEXT_ID_COLUMN]

    def has_one_of(
        self, events: FromClause, ids: ColumnElement[Any]
    ) -> ColumnElement[bool]:
        """Compare the id."""
        is_it: ColumnElement[bool] = events.c[CONTEXT_ID_COLUMN] == ids
        return is_it


class ContextReference(_WithId):
    """Events store the id of a row of the context table: ``context="reference"``."""

    def metadata_columns(self) -> list[Column[Any]]:
        """Return no column: the context table has the metadata."""
        return []

    def trigger_values(self) -> tuple[tuple[str, Fragment], ...]:
        """Call the function that stores the context and returns its id."""
        return ((CONTEXT_ID_COLUMN, self.shared.attach_context + Raw("()")),)

    def insert_values(self) -> dict[str, ColumnElement[Any]]:
        """Call the function that stores the context and returns its id."""
        return {CONTEXT_ID_COLUMN: call_once(self.shared.attach_context, Uuid())}

    def relationships(
        self, event_table: Table, context_class: type[Any]
    ) -> dict[str, Any]:
        """Return ``pgh_context``, which loads the row of the context table."""
        context_mapper: Mapper[Any] = inspect(context_class)
        is_its_context = (
            foreign(event_table.c[CONTEXT_ID_COLUMN]) == context_mapper.c.id
        )
        return {
            CONTEXT_COLUMN: relationship(
                context_class, primaryjoin=is_its_context, viewonly=True
            )
        }

    def inline_metadata_of(self, events: FromClause) -> ColumnElement[Any]:
        """Return NULL: the context table has the metadata."""
        return cast(null(), JSONB)

    def metadata_of(self, events: FromClause) -> ColumnElement[Any]:
        """Look up the metadata in the context table."""
        contexts = self.shared.context_table
        return (
            select(contexts.c.metadata)
            .where(contexts.c.id == events.c[CONTEXT_ID_COLUMN])
            .scalar_subquery()
        )

    def metadata_meets(
        self, events: FromClause, criterion: MetadataCriterion
    ) -> ColumnElement[bool]:
        """Look for the id among those of the contexts that meet the criterion."""
        contexts = self.shared.context_table
        return events.c[CONTEXT_ID_COLUMN].in_(
            select(contexts.c.id).where(criterion(contexts.c.metadata))
        )

    def is_within(self, events: FromClause, context: Any) -> ColumnElement[bool]:
        """Look for the id among those of the context and its descendants."""
        ids = ids_within(self.shared.context_table, context)
        return events.c[CONTEXT_ID_COLUMN].in_(ids)


class InlineContext(_WithId):
    """Events store the id and the metadata themselves: ``context="inline"``."""

    knows_contexts = False

    def metadata_columns(self) -> list[Column[Any]]:
        """Return the column of the metadata."""
        return [Column(CONTEXT_COLUMN, JSONB)]

    def trigger_values(self) -> tuple[tuple[str, Fragment], ...]:
        """Read the settings that the session has of its context."""
        return tuple(
            (column, Setting(setting) + Raw(f"::{type_}"))
            for column, setting, type_ in (
                (CONTEXT_ID_COLUMN, CONTEXT_ID, "uuid"),
                (CONTEXT_COLUMN, CONTEXT_METADATA, "jsonb"),
            )
        )

    def insert_values(self) -> dict[str, ColumnElement[Any]]:
        """Read the settings that the session has of its context."""
        context_id = func.current_setting(CONTEXT_ID, True)
        metadata = func.current_setting(CONTEXT_METADATA, True)
        return {
            CONTEXT_ID_COLUMN: cast(func.nullif(context_id, ""), Uuid),
            CONTEXT_COLUMN: cast(func.nullif(metadata, ""), JSONB),
        }

    def relationships(
        self, event_table: Table, context_class: type[Any]
    ) -> dict[str, Any]:
        """Return no property: ``pgh_context`` is a column."""
        return {}

    def inline_metadata_of(self, events: FromClause) -> ColumnElement[Any]:
        """Return the column of the metadata."""
        return events.c[CONTEXT_COLUMN]

    def metadata_of(self, events: FromClause) -> ColumnElement[Any]:
        """Return the column of the metadata."""
        return events.c[CONTEXT_COLUMN]

    def metadata_meets(
        self, events: FromClause, criterion: MetadataCriterion
    ) -> ColumnElement[bool]:
        """Apply the criterion to the column of the metadata."""
        return criterion(events.c[CONTEXT_COLUMN])

    def is_within(self, events: FromClause, context: Any) -> ColumnElement[bool]:
        """Compare the id alone: events do not store which context is around it."""
        is_it: ColumnElement[bool] = events.c[CONTEXT_ID_COLUMN] == context
        return is_it


def ids_within(contexts: Table, context: Any) -> Select[Any]:
    """Return a SELECT of the ids of a context and its descendants.

    Its copies are among them: a transaction stores one if another transaction has
    stored the context with other metadata, or is storing it at the moment.

    :param contexts: the context table.
    :param context: the id of the context, or a parameter for it.
    """
    given = context if isinstance(context, ColumnElement) else literal(context, Uuid)
    # Without a name, since a statement about several tables has one of each.
    within = select(cast(given, Uuid).label("id")).cte(recursive=True)
    is_child = contexts.c.parent_id == within.c.id
    within = within.union(select(contexts.c.id).join(within, is_child))
    return select(within.c.id)


CONTEXT_STORAGES: Final[Mapping[ContextOption | None, type[ContextStorage]]] = {
    "reference": ContextReference,
    "inline": InlineContext,
    None: NoContext,
}
"""The class for each value of the ``context`` option of ``track``."""
