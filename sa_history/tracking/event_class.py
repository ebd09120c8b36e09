"""The classes that event tables and the context table are mapped to."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, overload

from sqlalchemy import (
    Table,
    and_,
    inspect,
)
from sqlalchemy.exc import ArgumentError, InvalidRequestError
from sqlalchemy.orm import (
    Mapped,
    Mapper,
    Session,
    foreign,
    registry,
    relationship,
    remote,
    scoped_session,
)

from sa_history.capture.event_table import key_columns
from sa_history.capture.options import TrackingOptions
from sa_history.definition.columns import TrackedColumns
from sa_history.exc import DefinitionError
from sa_history.tracking.diff import Diff
from sa_history.tracking.restore import restore
from sa_history.tracking.versions import Recorded, diff, previous_version
from sa_history.util.sessions import is_async_session, unscoped

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession


class Event:
    """The base of every event class.

    An event is one row of an event table: what a row of the tracked table was, after
    or before a change, and the change. It has the tracked model's attributes beside
    those below.

    Example::

        event = session.scalars(account.events.select()).first()
        event.pgh_label, event.pgh_created_at, event.balance
    """

    pgh_id: Mapped[int]
    """Its number; events of all tables of a MetaData have one order."""
    pgh_created_at: Mapped[datetime.datetime]
    """When the transaction began that made the change."""
    pgh_label: Mapped[str]
    """The label of the tracker that wrote it."""
    pgh_op: Mapped[str]
    """What happened; a value of :class:`sa_history.Op`."""
    pgh_xact_id: Mapped[int]
    """The transaction; the same for all that was changed together."""
    pgh_old_key: Mapped[list[Any] | None]
    """The key that the row had before, in a list, if the change gave it another."""
    pgh_context_id: Mapped[uuid.UUID | None]
    """The id of the context that the change was made in."""
    pgh_context: Mapped[Any]
    """The :class:`Context`, or its metadata where it is stored inline."""
    pgh_obj: Mapped[Any]
    """The tracked object as it is now, None once it is deleted."""

    pgh_recorded: ClassVar[Recorded]
    """What events of this class record."""

    @property
    def diff(self) -> Diff | None:
        """What changed since the row's previous event, None for its first one.

        It asks the database through the event's session; of an async one, call it in
        ``await session.run_sync(lambda _: event.diff)``.

        :raises EventsError: the event is in no session.

        Example::

            print(event.diff.text())
        """
        previous = previous_version(self)
        return None if previous is None else diff(previous, self)

    @overload
    def revert(
        self,
        session: Session | scoped_session[Any],
        *,
        columns: Sequence[str] | None = ...,
    ) -> Any: ...

    @overload
    def revert(
        self, session: AsyncSession, *, columns: Sequence[str] | None = ...
    ) -> Awaitable[Any]: ...

    def revert(self, session: Any, *, columns: Sequence[str] | None = None) -> Any:
        """Make the row what it was in this event, and flush.

        A row that was deleted comes back with its key. It is a change as any other,
        and recorded as one.

        :param session: with an async session, await the result.
        :param columns: the attributes to restore; all, if left out.
        :return: the object, None of a Core table.
        :raises EventsError: the event does not store an attribute.

        Example::

            account = event.revert(session)
            await event.revert(async_session, columns=["balance"])
        """
        target: Any = unscoped(session)
        if is_async_session(target):
            return target.run_sync(restore, self, columns)
        return restore(target, self, columns)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __repr__(self) -> str:
        identity = f"pgh_id={self.pgh_id!r}, pgh_label={self.pgh_label!r}"
        return f"<{type(self).__name__} {identity}>"


class Context:
    """The base of the class that the context table is mapped to.

    Example::

        event.pgh_context.metadata  # {"user": 7, "url": "/x"}
    """

    id: Mapped[uuid.UUID]
    """Its id."""
    created_at: Mapped[datetime.datetime]
    """When the first transaction began that made a change in it."""
    updated_at: Mapped[datetime.datetime]
    """When its keys last changed."""
    metadata: Mapped[dict[str, Any]]
    """Its keys and values, those of the contexts around it included."""
    parent_id: Mapped[uuid.UUID | None]
    """The id of the context around it; that one has a row if it made changes."""
    parent: Mapped[Context | None]
    """The context around it."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.metadata!r}>"


def make_context_class(table: Table, mappers: registry) -> type[Context]:
    """Map the context table to a class of its own."""
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
    return context_class


def make_event_class(
    columns: TrackedColumns,
    event_table: Table,
    model: type[Any] | None,
    options: TrackingOptions,
) -> type[Event]:
    """Make the class of the events of a table, which is to be mapped.

    :raises DefinitionError: ``base`` cannot be the base of an event class.
    """
    name = options.event_name or _class_name(columns.subject, options.events)
    if (
        not isinstance(options.base, type)
        or hasattr(options.base, "__mapper__")
        or isinstance(getattr(options.base, "registry", None), registry)
    ):
        raise DefinitionError(
            f"{columns.subject}: base is a plain class for the event class to inherit, "
            f"got {options.base!r}; leave mapping to sa_history"
        )
    bases = (
        (options.base,) if issubclass(options.base, Event) else (options.base, Event)
    )
    event_class: type[Event] = type(name, bases, {"__doc__": event_table.comment})
    event_class.__module__ = model.__module__ if model else __name__
    return event_class


def map_event_class(
    event_class: type[Event],
    columns: TrackedColumns,
    event_table: Table,
    model: type[Any] | None,
    options: TrackingOptions,
    context_class: type[Context],
    mappers: registry,
) -> None:
    """Map the class of events to their table.

    It is mapped imperatively: a base that makes dataclasses of its subclasses refuses a
    ready ``__table__``.

    :param mappers: for the events of a Core table.
    :raises DefinitionError: SQLAlchemy cannot map it.
    """
    # The model's own registry, so that disposing of it takes the event class along.
    if model is not None:
        mapper: Mapper[Any] = inspect(model)
        mappers = mapper.registry
    try:
        mappers.map_imperatively(
            event_class,
            event_table,
            properties=_properties(columns, event_table, model, options, context_class),
        )
    except (ArgumentError, InvalidRequestError) as error:
        raise DefinitionError(
            f"{columns.subject}: its events cannot be mapped to "
            f"{event_class.__name__}: {error}"
        ) from error


def _class_name(subject: str, events: str) -> str:
    """Return AccountEvent, or with ``events="prices"`` AccountPrices."""
    ending = "event" if events == "events" else events
    return "".join(p[:1].upper() + p[1:] for p in f"{subject}_{ending}".split("_"))


def _properties(
    columns: TrackedColumns,
    event_table: Table,
    model: type[Any] | None,
    options: TrackingOptions,
    context_class: type[Context],
) -> dict[str, Any]:
    properties: dict[str, Any] = {
        name: event_table.columns[columns.column_name(name)] for name in columns.stored
    }
    if options.context == "reference":
        context_mapper: Mapper[Any] = inspect(context_class)
        properties["pgh_context"] = relationship(
            context_class,
            primaryjoin=foreign(event_table.c.pgh_context_id) == context_mapper.c.id,
            viewonly=True,
        )
    if model is not None and columns.key:
        key = [columns.by_attribute[name] for name in columns.key]
        properties["pgh_obj"] = relationship(
            model,
            primaryjoin=and_(
                *(
                    foreign(event_column) == column
                    for event_column, column in zip(
                        key_columns(columns, event_table), key, strict=True
                    )
                )
            ),
            viewonly=True,
            uselist=False,
        )
    return properties
