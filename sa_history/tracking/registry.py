"""What is tracked: one Tracking for each ``track``, one History for each MetaData."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import MetaData, Table, inspect, types
from sqlalchemy.orm import Mapper, registry
from sqlalchemy.orm.mapper import _CONFIGURE_MUTEX

from sa_history.capture.append_only import append_only_trigger
from sa_history.capture.context_table import SharedObjects, create_shared_objects
from sa_history.capture.event_table import leave_out_checks, mirrored
from sa_history.capture.options import TrackingOptions
from sa_history.capture.recording import (
    Capture,
    ContextColumn,
    Recording,
    operations_key,
    record_function,
    record_triggers,
)
from sa_history.capture.trackers import Tracker
from sa_history.ddl.elements import PGFunction, PGTrigger
from sa_history.definition.columns import TrackedColumns, tracked_columns
from sa_history.sql.compose import Qualified
from sa_history.sql.expressions import type_sql
from sa_history.sql.ignore_switch import is_ignored
from sa_history.sql.naming import check_conventions, generated_name
from sa_history.tracking.event_class import (
    Context,
    Event,
    make_context_class,
    map_event_class,
)


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


def trackings_of_table(table: Table) -> list[Tracking]:
    """Return the trackings of a table, in the order they were made."""
    history = history_of(table.metadata)
    return history.of_table(table) if history else []


def ensure_history(metadata: MetaData) -> History:
    """Return what is known of a MetaData, and begin to know it."""
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
    :param event_type: the class of the events, which may not be mapped yet.
    """

    subject: str
    table: Table
    model: type[Any] | None
    trackers: tuple[Tracker, ...]
    options: TrackingOptions
    history: History
    event_table: Table
    event_type: type[Event]
    _recordings: dict[Any, tuple[Recording, ...]] = field(
        default_factory=dict, init=False, repr=False
    )

    @property
    def event_class(self) -> type[Event]:
        """The class of the events, mapped.

        It is mapped when it is asked for first: most programs read the history of few
        models, and to map an event class takes longer than to map its model.
        """
        # Who configures mappers holds it, and may ask for an event class: two threads
        # would wait for each other if there were a lock of our own beside it.
        with _CONFIGURE_MUTEX:
            if not self.is_mapped:
                map_event_class(
                    self.event_type,
                    self.tracked_columns,
                    self.event_table,
                    self.model,
                    self.options,
                    self.history.context_class,
                    self.history.mappers,
                )
        return self.event_type

    @property
    def is_mapped(self) -> bool:
        """Whether the class of the events is mapped."""
        return "__mapper__" in vars(self.event_type)

    @property
    def tracked_columns(self) -> TrackedColumns:
        """The tracked columns as they are now; subclasses may have added some."""
        return tracked_columns(
            self.subject,
            self.table,
            self.model,
            self.options.columns,
            self.options.exclude,
        )

    def tracker(self, label: str) -> Tracker | None:
        """Return the tracker with a label, None where there is none."""
        return next((t for t in self.trackers if t.event_label == label), None)

    def recordings(self) -> tuple[Recording, ...]:
        """Return what each tracker writes for each operation.

        :raises DefinitionError: a tracker does not fit the table.
        """
        columns = self.tracked_columns
        # To compile conditions is most of the cost of mapping a tracked model.
        now = tuple((column, column.type) for column in columns.by_attribute.values())
        if now not in self._recordings:
            self._recordings.clear()
            self._recordings[now] = tuple(
                recording
                for tracker in self.trackers
                for recording in tracker.recordings(columns)
            )
        return self._recordings[now]

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
        )

    def function(self) -> PGFunction | None:
        """Return the trigger function, None where all trackers are manual."""
        capture = self.capture()
        return record_function(capture) if capture.recordings else None

    def objects(self) -> list[PGFunction | PGTrigger]:
        """Return the trigger function and the triggers; together they cost less."""
        capture = self.capture()
        if not capture.recordings:
            return []
        return [
            record_function(capture),
            *record_triggers(capture, self._trigger_name),
        ]

    def append_only_trigger(self) -> PGTrigger | None:
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


def mirror_new_columns(tracking: Tracking) -> None:
    """Give the event table the columns that a subclass added to the tracked table."""
    columns, event_table = tracking.tracked_columns, tracking.event_table
    for name in columns.stored:
        column = columns.by_attribute[name]
        if column.name not in event_table.columns:
            event_column = mirrored(column, is_key=False)
            event_table.append_column(event_column)
            leave_out_checks(event_table)
            if tracking.is_mapped:
                mapper: Mapper[Any] = inspect(tracking.event_type)
                mapper.add_property(name, event_column)
