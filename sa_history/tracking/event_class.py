"""Event classes: what event tables are mapped to."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, overload

from sqlalchemy import Table, and_, inspect
from sqlalchemy.exc import ArgumentError, InvalidRequestError
from sqlalchemy.orm import (
    Mapped,
    Mapper,
    foreign,
    registry,
    relationship,
)
from sqlalchemy.orm.mapper import _CONFIGURE_MUTEX

from sa_history.capture.event_table import key_columns
from sa_history.capture.options import TrackingOptions
from sa_history.definition.columns import TrackedColumns
from sa_history.exc import DefinitionError, EventsError
from sa_history.tracking.context_class import Context
from sa_history.tracking.diff import Diff
from sa_history.tracking.editing import refuse_changes_of
from sa_history.tracking.registry import Tracking
from sa_history.tracking.restore import restore
from sa_history.tracking.versions import diff_to_previous
from sa_history.util.sessions import (
    AnyAsyncSession,
    SyncSession,
    async_attrs_of,
    is_async_session,
    session_of,
)


class Event:
    """The base of every event class.

    An event is one row of an event table. It stores a row of the tracked table as it
    was after or before a change, under the names of the tracked model's attributes, and
    what the attributes below say of the change.

    Example::

        event = session.scalars(account.events.select()).first()
        event.pgh_label, event.pgh_created_at, event.balance
    """

    pgh_id: Mapped[int]
    """The number of the event. One sequence numbers the events of all tables of a
    MetaData."""
    pgh_created_at: Mapped[datetime.datetime]
    """When the transaction that made the change began, unless ``track(created_at=...)``
    says otherwise."""
    pgh_label: Mapped[str]
    """The label of the tracker that wrote the event."""
    pgh_op: Mapped[str]
    """The operation, a value of :class:`sa_history.Op`."""
    pgh_xact_id: Mapped[int]
    """The number of the transaction that made the change."""
    pgh_old_key: Mapped[list[Any] | None]
    """The values of the row's key before a change of the key, else None."""
    pgh_erased: Mapped[list[str] | None]
    """The names of the columns whose values were erased, None if none were; only with
    ``track(erasable=...)`` or ``track(erasable_context=...)``."""
    pgh_context_id: Mapped[uuid.UUID | None]
    """The id of the context that the change was made in, None outside of any."""
    pgh_context: Mapped[Context | None]
    """The :class:`Context`, None outside of any; with ``track(context="inline")`` its
    metadata, which type checkers take from an event base with ``Mapped[Any]``."""
    pgh_obj: Mapped[Any]
    """The tracked object as it is now, None if it is deleted."""

    pgh_tracking: ClassVar[Tracking]
    """The tracking that writes the events of this class."""

    @property
    def diff(self) -> Diff | None:
        """What changed since the row's previous event, None if this is its first one.

        The event's session queries the previous event; with an async session, write
        ``await session.run_sync(lambda _: event.diff)``.

        :raises EventsError: the event is in no session, or another row had the same key
            at once, by a deferrable primary key.

        Example::

            print(event.diff.text())
        """
        return diff_to_previous(self)

    @overload
    def revert(
        self,
        session: SyncSession,
        *,
        columns: Sequence[str] | None = ...,
    ) -> Any: ...

    @overload
    def revert(
        self,
        session: AnyAsyncSession,
        *,
        columns: Sequence[str] | None = ...,
    ) -> Awaitable[Any]: ...

    def revert(
        self,
        session: SyncSession | AnyAsyncSession,
        *,
        columns: Sequence[str] | None = None,
    ) -> Any:
        """Write the values of this event into its row, and flush.

        A row that was deleted is inserted again with its key. The change is recorded as
        any other.

        :param session: the session that writes; with an async one, await the result.
        :param columns: the attributes to restore; all, if left out.
        :return: the object, or None for a row of a Core table.
        :raises EventsError: the event does not store an attribute, its table has no
            primary key, the session is none, or the row is written and Python cannot
            read it.

        Example::

            account = event.revert(session)
            await event.revert(async_session, columns=["balance"])
        """
        target = session_of(session, "revert", EventsError)
        if is_async_session(target):
            return target.run_sync(restore, self, columns)
        return restore(target, self, columns)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __repr__(self) -> str:
        identity = f"pgh_id={self.pgh_id!r}, pgh_label={self.pgh_label!r}"
        return f"<{type(self).__name__} {identity}>"


def make_event_class(
    columns: TrackedColumns,
    event_table: Table,
    model: type[Any] | None,
    options: TrackingOptions,
) -> type[Event]:
    """Make the class of the events of a table; :func:`map_events` maps it.

    :param model: the tracked class, None for a Core table.
    :raises DefinitionError: the ``base`` option cannot be the base of an event class.
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
    bases: tuple[type[Any], ...] = (
        (options.base,) if issubclass(options.base, Event) else (options.base, Event)
    )
    attrs = async_attrs_of(model)
    if attrs is not None and not issubclass(options.base, attrs):
        bases = (*bases, attrs)
    event_class: type[Event] = type(name, bases, {"__doc__": event_table.comment})
    event_class.__module__ = model.__module__ if model else __name__
    return event_class


def _class_name(subject: str, events: str) -> str:
    """Return AccountEvent, or with ``events="prices"`` AccountPrices."""
    ending = "event" if events == "events" else events
    return "".join(p[:1].upper() + p[1:] for p in f"{subject}_{ending}".split("_"))


def map_events(tracking: Tracking) -> type[Event]:
    """Return the event class of a tracking, and map it if it is not mapped yet.

    It is mapped when it is needed first: most programs read the history of few models,
    and to map an event class takes longer than to map its model.

    :raises DefinitionError: SQLAlchemy cannot map it.
    """
    # Whoever configures mappers holds this lock, and may need an event class: a lock of
    # our own beside it would let two threads wait for each other.
    with _CONFIGURE_MUTEX:
        if not tracking.is_mapped:
            _map(tracking)
    event_class: type[Event] = tracking.event_class
    return event_class


def _map(tracking: Tracking) -> None:
    mappers = tracking.history.mappers
    if tracking.model is not None:
        # The model's own registry, so that disposing of it takes the event class along.
        mapper: Mapper[Any] = inspect(tracking.model)
        mappers = mapper.registry
    try:
        # Imperatively: a base that makes dataclasses of its subclasses refuses a ready
        # __table__.
        mappers.map_imperatively(
            tracking.event_class,
            tracking.event_table,
            properties=_properties(tracking),
        )
    except (ArgumentError, InvalidRequestError) as error:
        raise DefinitionError(
            f"{tracking.subject}: its events cannot be mapped to "
            f"{tracking.event_class.__name__}: {error}"
        ) from error
    if not tracking.options.append_only:
        refuse_changes_of(tracking.event_class)


def _properties(tracking: Tracking) -> dict[str, Any]:
    columns, event_table = tracking.tracked_columns, tracking.event_table
    properties: dict[str, Any] = {
        name: event_table.columns[columns.column_name(name)] for name in columns.stored
    }
    properties |= tracking.context_storage.relationships(
        event_table, tracking.history.context_class
    )
    if tracking.model is not None and columns.key:
        key = columns.columns_of_key
        event_key = key_columns(columns, event_table)
        properties["pgh_obj"] = relationship(
            tracking.model,
            primaryjoin=and_(
                *(
                    foreign(event_column) == column
                    for event_column, column in zip(event_key, key, strict=True)
                )
            ),
            viewonly=True,
            uselist=False,
        )
    return properties
