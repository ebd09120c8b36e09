"""What is tracked: a Tracking for each ``track``, a History for each MetaData."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import MetaData, Table, inspect, types
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.orm import Mapper, registry

from sa_history._types import Operation
from sa_history.capture.append_only import append_only_trigger
from sa_history.capture.context_storage import CONTEXT_STORAGES, ContextStorage
from sa_history.capture.context_table import SharedObjects, create_shared_objects
from sa_history.capture.event_table import add_event_column, key_columns
from sa_history.capture.options import TrackingOptions
from sa_history.capture.partitioning import EventPartitioning
from sa_history.capture.recording import (
    Capture,
    ContextColumn,
    Recording,
    operations_key,
    record_function,
    record_triggers,
)
from sa_history.capture.statement_order import KeyColumn
from sa_history.capture.trackers import Tracker
from sa_history.ddl.elements import PGFunction, PGTrigger
from sa_history.definition.columns import TrackedColumns, columns_state, tracked_columns
from sa_history.definition.row_order import ROWS, operations_by_row
from sa_history.sql.column_types import equal_by_pg_catalog
from sa_history.sql.compose import Qualified
from sa_history.sql.expressions import type_sql
from sa_history.sql.ignore_switch import is_ignored
from sa_history.sql.naming import check_conventions, generated_name
from sa_history.sql.output_settings import output_settings
from sa_history.tracking.context_class import Context, make_context_class


@dataclass(frozen=True, eq=False)
class History:
    """The trackings of one MetaData, and what they share; part of ``MetaData.info``.

    :param metadata: the MetaData.
    :param shared: the objects that its event tables share.
    :param context_class: the class that the context table is mapped to.
    :param mappers: the registry of classes that belong to no model: the context class,
        and the event classes of Core tables.
    :param trackings: by the key of the tracked table and the ``events`` option.
    :param statements: those that read events and are made again and again.
    :param compiled: parts of such statements, by the dialect they are compiled for.
    """

    metadata: MetaData
    shared: SharedObjects
    context_class: type[Context]
    mappers: registry
    trackings: dict[tuple[str, str], Tracking] = field(default_factory=dict)
    statements: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)
    compiled: WeakKeyDictionary[Dialect, dict[Any, str]] = field(
        default_factory=WeakKeyDictionary, init=False, repr=False
    )

    def of_table(self, table: Table) -> list[Tracking]:
        """Return the trackings of a table, in the order they were made."""
        return [t for (key, _), t in self.trackings.items() if key == table.key]


T = TypeVar("T")

INFO_KEY = "sa_history"


def history_of(metadata: MetaData) -> History | None:
    """Return the History of a MetaData, or None if nothing in it is tracked."""
    found: History | None = metadata.info.get(INFO_KEY)
    return found


def trackings_in(*metadatas: MetaData) -> list[Tracking]:
    """Return the trackings of some MetaData, without tables that have been removed.

    ``MetaData.remove`` tells nobody, so it is looked up.
    """
    return [
        tracking
        for metadata in metadatas
        for history in [history_of(metadata)]
        for tracking in (history.trackings.values() if history else ())
        if metadata.tables.get(tracking.table.key) is tracking.table
    ]


def trackings_of_table(table: Table) -> list[Tracking]:
    """Return the trackings of a table, in the order they were made."""
    history = history_of(table.metadata)
    return history.of_table(table) if history else []


def ensure_history(metadata: MetaData) -> History:
    """Return the History of a MetaData, made if there is none."""
    found = history_of(metadata)
    if found is not None and found.shared.context_table.key in metadata.tables:
        return found
    check_conventions(metadata)
    shared = create_shared_objects(metadata)
    mappers = registry(metadata=metadata)
    context_class = make_context_class(shared.context_table, mappers)
    history = History(metadata, shared, context_class, mappers)
    metadata.info[INFO_KEY] = history
    return history


def recordings_of(
    trackers: Sequence[Tracker], columns: TrackedColumns
) -> tuple[Recording, ...]:
    """Return what each tracker writes, for each of its operations.

    :raises DefinitionError: a tracker does not fit the table.
    """
    return tuple(
        recording for tracker in trackers for recording in tracker.recordings(columns)
    )


def columns_of(
    subject: str, table: Table, model: type[Any] | None, options: TrackingOptions
) -> TrackedColumns:
    """Return the columns of a tracked table, as the options of ``track`` choose them.

    Where Citus distributes a table, events are found by the column that it does so by,
    and not by a copy of it.

    :param subject: the model's name, or the table's, for messages.
    :param model: the mapped class, None for a Core table.
    :raises DefinitionError: the options name an attribute that the table does not have.
    """
    columns = tracked_columns(subject, table, model, options.columns, options.exclude)
    is_by_column = isinstance(options.distribute, str)
    return replace(columns, object_id=None) if is_by_column else columns


@dataclass(frozen=True, eq=False)
class Tracking:
    """One ``track`` of one table: what it records, and into which event table.

    :param subject: the model's name, or the table's, for messages.
    :param table: the tracked table.
    :param model: the mapped class, None for a Core table.
    :param trackers: the trackers, in the order in which ``track`` got them.
    :param options: the options of ``track``.
    :param history: the History of the MetaData.
    :param event_table: the table of the events.
    :param event_class: the class of the events, an ``Event``. It may not be mapped yet:
        statements use what ``map_events`` returns.
    """

    subject: str
    table: Table
    model: type[Any] | None
    trackers: tuple[Tracker, ...]
    options: TrackingOptions
    history: History
    event_table: Table
    event_class: type[Any]
    _remembered: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def is_mapped(self) -> bool:
        """Whether the class of the events is mapped."""
        return "__mapper__" in vars(self.event_class)

    @property
    def context_storage(self) -> ContextStorage:
        """How the events store their context."""
        return CONTEXT_STORAGES[self.options.context](self.history.shared)

    @property
    def tracked_columns(self) -> TrackedColumns:
        """The tracked columns as they are now; subclasses may have added some."""
        state = columns_state(self.table, self.model)
        found: tuple[Any, TrackedColumns] | None = self._remembered.get("columns")
        if found is None or found[0] != state:
            columns = columns_of(self.subject, self.table, self.model, self.options)
            found = self._remembered["columns"] = (state, columns)
        return found[1]

    @property
    def distributed_by(self) -> str | None:
        """The column by which Citus distributes the table and its events.

        None, if it does not distribute their rows.
        """
        name = self.options.distribute
        if not isinstance(name, str):
            return None
        return self.tracked_columns.column_name(name)

    @property
    def is_distributed(self) -> bool:
        """Whether Citus has the table and its events, on whichever nodes."""
        return self.options.distribute is not None

    @property
    def row_operations(self) -> frozenset[Operation]:
        """The operations that fire a trigger for each row.

        They depend on the foreign keys that the table has now.
        """
        return operations_by_row(self.table, self.options.level)

    @property
    def statement_operations(self) -> frozenset[Operation]:
        """The operations on rows that are recorded once for each statement."""
        recorded = {recording.operation for recording in self.recordings()}
        return (ROWS & recorded) - self.row_operations

    def remember_columns(self, columns: TrackedColumns) -> None:
        """Take the tracked columns as they are now from whoever has made them."""
        state = columns_state(self.table, self.model)
        self._remembered["columns"] = (state, columns)

    def tracker(self, label: str) -> Tracker | None:
        """Return the tracker with a label, or None if there is no such tracker."""
        return next((t for t in self.trackers if t.event_label == label), None)

    def recordings(self) -> tuple[Recording, ...]:
        """Return what each tracker writes, for each of its operations.

        :raises DefinitionError: a tracker does not fit the table.
        """
        return self.remembered(
            "recordings",
            lambda _: recordings_of(self.trackers, self.tracked_columns),
        )

    def remembered(self, name: str, make: Callable[[Tracking], T]) -> T:
        """Return what a function makes of the tracking; it is called when needed.

        That is the first time, and after a column was added or got another type.

        :param name: the name that the result is remembered by.
        :param make: the function.
        """
        columns = self.tracked_columns.by_attribute
        key = (name, *((column, column.type) for column in columns.values()))
        if key not in self._remembered:
            self._remembered[key] = make(self)
        found: T = self._remembered[key]
        return found

    def capture(self) -> Capture:
        """Return the value that the trigger function and the triggers are made of."""
        shared, events = self.history.shared, self.event_table
        recordings = self.recordings()
        stores_key = any(r.key_changes is not None for r in recordings)
        return Capture(
            tracked=Qualified(self.table.schema, self.table.name),
            events=Qualified(events.schema, events.name),
            function=self._function_name(),
            recordings=recordings,
            row_operations=self.row_operations,
            context_values=self.context_storage.trigger_values(),
            context_value=shared.context_value,
            context_columns=tuple(
                ContextColumn(
                    column.name,
                    type_sql(column.type),
                    required=not column.nullable,
                    as_json=isinstance(column.type, types.JSON),
                )
                for column in self.options.context_columns
            ),
            ignored=(
                is_ignored(self.table.key, self.options.events)
                if self.options.ignorable
                else None
            ),
            search_path=self.options.search_path,
            notify=self.options.notify,
            settings=output_settings(
                column.type for column in self.table.primary_key if stores_key
            ),
            key=self._key(),
            is_distributed=self.is_distributed,
            distributed_by=self.distributed_by,
        )

    def _key(self) -> tuple[KeyColumn, ...]:
        columns = self.tracked_columns
        own = columns.columns_of_key
        return tuple(
            KeyColumn(column.name, found_by.name, equal_by_pg_catalog(column.type))
            for column, found_by in zip(
                own, key_columns(columns, self.event_table), strict=True
            )
        )

    def _function_name(self) -> Qualified:
        events = self.event_table
        name = generated_name(
            self.table.metadata, "history_function", event_table_name=events.name
        )
        return Qualified(events.schema, name)

    def function_name(self) -> Qualified | None:
        """Return the name of the trigger function, None if there is none."""
        return self._function_name() if self.recordings() else None

    def triggers(self) -> list[PGTrigger]:
        """Return the triggers, none if no tracker has an operation."""
        return record_triggers(self.capture(), self._trigger_name)

    def objects(self) -> list[PGFunction | PGTrigger]:
        """Return the trigger function and the triggers, none if they have no work.

        Both are made of one capture, which is most of the cost.
        """
        capture = self.capture()
        if not capture.recordings:
            return []
        return [
            record_function(capture),
            *record_triggers(capture, self._trigger_name),
        ]

    def append_only_trigger(self) -> PGTrigger | None:
        """Return the trigger of the event table, or None if it is not append-only."""
        if not self.options.append_only:
            return None
        return append_only_trigger(
            self._trigger_name(()),
            Qualified(self.event_table.schema, self.event_table.name),
            self.history.shared.append_only,
        )

    def partitioning(self) -> EventPartitioning | None:
        """Return how the event table is partitioned, or None if it is not."""
        if self.options.partition_by is None:
            return None
        return EventPartitioning(
            self.event_table, self.options.partition_by, self.append_only_trigger()
        )

    def _trigger_name(self, operations: Sequence[Any]) -> str:
        return generated_name(
            self.table.metadata,
            "history_trigger",
            event_table_name=self.event_table.name,
            operation=operations_key(operations) or "append_only",
        )


def mirror_new_columns(tracking: Tracking) -> None:
    """Give the event table the columns that a subclass added to the tracked table."""
    columns, event_table = tracking.tracked_columns, tracking.event_table
    for name in columns.stored:
        column = columns.by_attribute[name]
        if column.name not in event_table.columns:
            event_column = add_event_column(event_table, column)
            if tracking.is_mapped:
                mapper: Mapper[Any] = inspect(tracking.event_class)
                mapper.add_property(name, event_column)
