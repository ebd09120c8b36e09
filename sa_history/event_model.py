"""From a tracked class or table to its event table and event class."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    CHAR,
    BigInteger,
    Column,
    DateTime,
    Index,
    MetaData,
    Table,
    Text,
    Uuid,
    and_,
    func,
    inspect,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Mapped, Mapper, foreign, registry, relationship, remote
from sqlalchemy.orm.exc import UnmappedColumnError

from sa_history._types import ContextStorage, Level
from sa_history.ddl import Function, Trigger
from sa_history.exc import DefinitionError
from sa_history.sql.compose import Qualified
from sa_history.sql.expressions import type_sql
from sa_history.sql.naming import generated_name
from sa_history.tables import SharedObjects, create_shared_objects
from sa_history.trackers import TrackedColumns, Tracker, chosen_names
from sa_history.triggers.append_only import append_only_trigger
from sa_history.triggers.record import (
    Capture,
    ContextColumn,
    Recording,
    operations_key,
    record_function,
    record_triggers,
)

PREFIX = "pgh_"
"""What the columns of an event start with that are not a tracked column's."""


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
    pgh_context_id: Mapped[uuid.UUID | None]
    """The id of the context that the change was made in."""
    pgh_context: Mapped[Any]
    """The :class:`Context`, or its metadata where it is stored inline."""
    pgh_obj: Mapped[Any]
    """The tracked object as it is now, None once it is deleted."""

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


@dataclass(frozen=True, eq=False)
class History:
    """What sa_history knows of one MetaData; it stands in ``MetaData.info``.

    :param metadata: the MetaData.
    :param shared: the objects that its event tables share.
    :param context_class: what the context table is mapped to.
    :param mappers: maps what belongs to no model of the application.
    :param trackings: by tracked table and name.
    """

    metadata: MetaData
    shared: SharedObjects
    context_class: type[Context]
    mappers: registry
    trackings: dict[tuple[str, str], Tracking] = field(default_factory=dict)

    def of_table(self, table: Table) -> list[Tracking]:
        """Return the trackings of a table, in the order they were made."""
        return [t for (key, _), t in self.trackings.items() if key == table.key]


INFO_KEY = "sa_history"


def history_of(metadata: MetaData) -> History | None:
    """Return what is known of a MetaData, None where nothing is tracked."""
    found: History | None = metadata.info.get(INFO_KEY)
    return found


def ensure_history(metadata: MetaData) -> History:
    """Return what is known of a MetaData, and begin to know it."""
    found = history_of(metadata)
    if found is not None and found.shared.context_table.key in metadata.tables:
        return found
    shared = create_shared_objects(metadata)
    mappers = registry(metadata=metadata)
    context_class = type("Context", (Context,), {})
    table = shared.context_table
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
    history = History(metadata, shared, context_class, mappers)
    metadata.info[INFO_KEY] = history
    return history


@dataclass(frozen=True, eq=False, kw_only=True)
class TrackingOptions:
    """The options of ``track``, checked.

    :param columns: attribute names to store, None for all.
    :param exclude: attribute names not to store, instead of ``columns``.
    :param level: how often the trigger runs.
    :param events: the name of the attribute on the model.
    :param event_name: the name of the event class, None for the usual one.
    :param event_table: the name of the event table, None for the usual one.
    :param schema: the schema of the event table, None for the tracked table's.
    :param base: the base of the event class.
    :param context: where the context is stored, None for nowhere.
    :param context_columns: keys of the context stored in columns.
    :param append_only: whether events are protected from change.
    :param search_path: schemas in which conditions find operators.
    """

    columns: Sequence[str] | None
    exclude: Sequence[str] | None
    level: Level
    events: str
    event_name: str | None
    event_table: str | None
    schema: str | None
    base: type[Any]
    context: ContextStorage | None
    context_columns: tuple[Column[Any], ...]
    append_only: bool
    search_path: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Tracking:
    """One ``track`` of one table: what it records, and where.

    :param subject: the model's name, for messages.
    :param table: the tracked table.
    :param model: the mapped class, None for a Core table.
    :param trackers: what is recorded, in order.
    :param options: the options of ``track``.
    :param history: what is known of the MetaData.
    :param event_table: the table of the events.
    :param event_class: what it is mapped to.
    """

    subject: str
    table: Table
    model: type[Any] | None
    trackers: tuple[Tracker, ...]
    options: TrackingOptions
    history: History
    event_table: Table
    event_class: type[Event]

    @property
    def tracked_columns(self) -> TrackedColumns:
        """The tracked columns as they are now; subclasses may have added some."""
        return tracked_columns(self.subject, self.table, self.model, self.options)

    def tracker(self, label: str) -> Tracker | None:
        """Return the tracker with a label, None where there is none."""
        return next((t for t in self.trackers if t.event_label == label), None)

    def recordings(self) -> tuple[Recording, ...]:
        """Return what each tracker writes for each operation.

        :raises DefinitionError: a tracker does not fit the table.
        """
        columns = self.tracked_columns
        return tuple(
            recording
            for tracker in self.trackers
            for recording in tracker.recordings(columns)
        )

    def capture(self) -> Capture:
        """Return what is recorded, as a value for the triggers."""
        shared, events = self.history.shared, self.event_table
        function = generated_name(
            self.table.metadata, "history_function", event_table_name=events.name
        )
        return Capture(
            tracked=Qualified(self.table.schema, self.table.name),
            events=Qualified(events.schema, events.name),
            function=Qualified(events.schema, function),
            recordings=self.recordings(),
            level=self.options.level,
            attach_context=(
                shared.attach_context if self.options.context == "reference" else None
            ),
            context_value=shared.context_value,
            inline_context=self.options.context == "inline",
            context_columns=tuple(
                ContextColumn(column.name, type_sql(column.type), not column.nullable)
                for column in self.options.context_columns
            ),
            search_path=self.options.search_path,
        )

    def function(self) -> Function | None:
        """Return the trigger function, None where all trackers are manual."""
        capture = self.capture()
        return record_function(capture) if capture.recordings else None

    def triggers(self) -> list[Trigger]:
        """Return the triggers on the tracked table."""
        return record_triggers(self.capture(), self._trigger_name)

    def append_only_trigger(self) -> Trigger | None:
        """Return the trigger on the event table, None where it is not protected."""
        if not self.options.append_only:
            return None
        return append_only_trigger(
            self._trigger_name(()),
            Qualified(self.event_table.schema, self.event_table.name),
            self.history.shared.append_only,
        )

    def _trigger_name(self, operations: Sequence[Any]) -> str:
        return generated_name(
            self.table.metadata,
            "history_trigger",
            event_table_name=self.event_table.name,
            operation=operations_key(operations) or "append_only",
        )


def tracked_columns(
    subject: str, table: Table, model: type[Any] | None, options: TrackingOptions
) -> TrackedColumns:
    """Return the columns of a table by attribute name, and those that are stored.

    :raises DefinitionError: an option names a column that is not there.
    """
    columns = _columns_by_attribute(table, model)
    key = tuple(name for name, column in columns.items() if column.primary_key)
    # A generated column that is not stored has no value when a trigger runs.
    storable = {
        name: column
        for name, column in columns.items()
        if column.computed is None or column.computed.persisted
    }
    chosen = chosen_names(subject, storable, options.columns, options.exclude)
    stored = tuple(name for name in storable if name in chosen or name in key)
    return TrackedColumns(
        subject=subject,
        table=table,
        columns=storable,
        stored=stored,
        key=key,
        object_id="pgh_obj_id" if len(key) == 1 else None,
    )


def _columns_by_attribute(
    table: Table, model: type[Any] | None
) -> Mapping[str, Column[Any]]:
    if model is None:
        return {column.key: column for column in table.columns}
    mappers = [m for m in _mapper(model).self_and_descendants if m.local_table is table]
    return {_attribute_name(mappers, column): column for column in table.columns}


def _attribute_name(mappers: Sequence[Mapper[Any]], column: Column[Any]) -> str:
    # A column that a subclass adds to the table is known to its mapper only. The
    # mapper's attributes are not asked for: that would configure all mappers, while
    # classes that they name may not exist yet.
    for mapper in mappers:
        try:
            return mapper.get_property_by_column(column).key
        except UnmappedColumnError:
            continue
    return column.key


def _mapper(model: type[Any]) -> Mapper[Any]:
    # Not __mapper__, which a class has only after it was mapped; the mixin is told
    # before.
    mapper: Mapper[Any] = inspect(model)
    return mapper


def make_event_table(
    table: Table, columns: TrackedColumns, options: TrackingOptions, history: History
) -> Table:
    """Add the event table of a tracked table to its MetaData.

    :raises DefinitionError: its name or one of its columns' names is taken.
    """
    metadata, shared = table.metadata, history.shared
    name = options.event_table or generated_name(
        metadata, "history_event_table", table_name=table.name
    )
    schema = options.schema or table.schema
    key = f"{schema}.{name}" if schema else name
    if key in metadata.tables:
        raise DefinitionError(
            f"{columns.subject}: the event table would be {key!r}, which is a table "
            "already; give event_table='another_name'"
        )
    reserved = [c.name for c in columns.columns.values() if c.name.startswith(PREFIX)]
    if reserved:
        raise DefinitionError(
            f"{columns.subject} has columns {reserved}, whose names start with "
            f"{PREFIX!r} like the columns of events; rename them"
        )
    event_table = Table(
        name,
        metadata,
        *_event_columns(columns, options, shared),
        *(mirrored(columns.columns[n], n in columns.key) for n in columns.stored),
        schema=schema,
        comment=f"Events of {table.fullname}",
    )
    lookup = [columns.object_id] if columns.object_id else []
    lookup = lookup or [columns.columns[name].name for name in columns.key]
    if lookup:
        _index(event_table, [*lookup, "pgh_id"])
    if options.context is not None:
        _index(
            event_table,
            ["pgh_context_id"],
            postgresql_where=text("pgh_context_id IS NOT NULL"),
        )
    event_table.add_is_dependent_on(shared.context_table)
    return event_table


def _index(event_table: Table, columns: list[str], **options: Any) -> Index:
    name = generated_name(
        event_table.metadata,
        "history_index",
        event_table_name=event_table.name,
        column_name=columns[0],
    )
    return Index(name, *(event_table.columns[c] for c in columns), **options)


def _event_columns(
    columns: TrackedColumns, options: TrackingOptions, shared: SharedObjects
) -> list[Column[Any]]:
    # Those of a fixed length first, which wastes no bytes on alignment.
    event_columns: list[Column[Any]] = [
        Column(
            "pgh_id",
            BigInteger,
            primary_key=True,
            autoincrement=False,
            server_default=shared.sequence.next_value(),
        ),
        Column(
            "pgh_created_at",
            DateTime(timezone=True),
            nullable=False,
            server_default=func.now(),
        ),
        Column(
            "pgh_xact_id",
            BigInteger,
            nullable=False,
            server_default=text("pg_current_xact_id()::text::bigint"),
        ),
    ]
    if options.context is not None:
        event_columns.append(Column("pgh_context_id", Uuid))
    if columns.object_id is not None:
        key = columns.columns[columns.key[0]]
        event_columns.append(Column("pgh_obj_id", key.type, nullable=False))
    event_columns += [
        Column("pgh_op", CHAR(1), nullable=False),
        Column("pgh_label", Text, nullable=False),
    ]
    if options.context == "inline":
        event_columns.append(Column("pgh_context", JSONB))
    taken = {column.name for column in columns.columns.values()}
    for column in options.context_columns:
        if column.name in taken or column.name.startswith(PREFIX):
            raise DefinitionError(
                f"{columns.subject}: context column {column.name!r} has the name of a "
                "column of the event table; rename the key"
            )
        event_columns.append(
            Column(column.name, column.type, nullable=column.nullable, key=column.key)
        )
    return event_columns


def mirrored(column: Column[Any], is_key: bool) -> Column[Any]:
    """Return the event table's column for a tracked one: its name and type only.

    The type object is the same, because a type with a name (ENUM, DOMAIN) is one
    object in the database.
    """
    return Column(column.name, column.type, nullable=not is_key)


def make_event_class(
    columns: TrackedColumns,
    event_table: Table,
    model: type[Any] | None,
    options: TrackingOptions,
    history: History,
) -> type[Event]:
    """Map the event table to a class of its own.

    The class is plain and mapped imperatively: a base that makes dataclasses of its
    subclasses refuses a ready ``__table__``.

    :raises DefinitionError: ``base`` cannot be the base of an event class.
    """
    name = options.event_name or f"{_class_name(columns.subject)}Event"
    if not isinstance(options.base, type) or hasattr(options.base, "__mapper__"):
        raise DefinitionError(
            f"{columns.subject}: base is a plain class for the event class to inherit, "
            f"got {options.base!r}; leave mapping to sa_history"
        )
    bases = (
        (options.base,) if issubclass(options.base, Event) else (options.base, Event)
    )
    event_class: type[Event] = type(name, bases, {"__doc__": event_table.comment})
    event_class.__module__ = model.__module__ if model else __name__
    # The model's own registry, so that disposing of it takes the event class along.
    mappers = _mapper(model).registry if model else history.mappers
    try:
        mappers.map_imperatively(
            event_class,
            event_table,
            properties=_properties(columns, event_table, model, options, history),
        )
    except InvalidRequestError as error:
        raise DefinitionError(
            f"{columns.subject}: its events cannot be mapped to {name}: {error}"
        ) from error
    return event_class


def _class_name(subject: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in subject.split("_"))


def _properties(
    columns: TrackedColumns,
    event_table: Table,
    model: type[Any] | None,
    options: TrackingOptions,
    history: History,
) -> dict[str, Any]:
    properties: dict[str, Any] = {
        name: event_table.columns[columns.columns[name].name] for name in columns.stored
    }
    if options.context == "reference":
        context_table = history.shared.context_table
        properties["pgh_context"] = relationship(
            history.context_class,
            primaryjoin=foreign(event_table.c.pgh_context_id) == context_table.c.id,
            viewonly=True,
        )
    if model is not None and columns.key:
        key = [columns.columns[name] for name in columns.key]
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


def key_columns(columns: TrackedColumns, event_table: Table) -> list[Column[Any]]:
    """Return the event table's columns that say which row an event is of."""
    names = [columns.object_id] if columns.object_id else []
    names = names or [columns.columns[name].name for name in columns.key]
    return [event_table.columns[name] for name in names]


def mirror_new_columns(tracking: Tracking) -> None:
    """Give the event table the columns that a subclass added to the tracked table."""
    columns, event_table = tracking.tracked_columns, tracking.event_table
    for name in columns.stored:
        column = columns.columns[name]
        if column.name not in event_table.columns:
            event_column = mirrored(column, is_key=False)
            event_table.append_column(event_column)
            _mapper(tracking.event_class).add_property(name, event_column)
