"""The triggers come and go with the tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Table, event, inspect
from sqlalchemy.engine.reflection import Inspector

from sa_history.attachments import Attachment
from sa_history.ddl import (
    CreateFunction,
    CreateTrigger,
    DropFunction,
    DropTrigger,
    Function,
    Trigger,
)
from sa_history.tables import current_schema, require_postgresql
from sa_history.tracking import Tracking, mirror_new_columns


def install_with_tables(tracking: Tracking) -> None:
    """Have the triggers come and go with the tables.

    The tracked table depends on the event table, so ``create_all`` makes the event
    table first, and the triggers are made after the tracked table. Where that one
    stands already, they are made after the event table.
    """
    table, event_table = tracking.table, tracking.event_table
    shared = tracking.history.shared.context_table

    @event.listens_for(event_table, "before_create")
    def create_shared(_: Table, connection: Connection, **__: Any) -> None:
        require_postgresql(connection)
        mirror_new_columns(tracking)
        _create_if_missing(shared, connection)

    @event.listens_for(event_table, "after_create")
    def protect_events(_: Table, connection: Connection, **__: Any) -> None:
        protection = tracking.append_only_trigger()
        if protection is not None:
            connection.execute(CreateTrigger(protection, current_schema(connection)))
        if exists(table, connection):
            install(tracking, connection)

    @event.listens_for(table, "before_create")
    def check_dialect(_: Table, connection: Connection, **__: Any) -> None:
        require_postgresql(connection)

    @event.listens_for(table, "after_create")
    def create_triggers(_: Table, connection: Connection, **__: Any) -> None:
        # Table.create() makes one table; a tracked one needs the others.
        _create_if_missing(event_table, connection)
        install(tracking, connection)

    @event.listens_for(table, "after_drop")
    @event.listens_for(event_table, "before_drop")
    def drop_triggers(_: Table, connection: Connection, **__: Any) -> None:
        function = tracking.function()
        if function is not None:
            connection.execute(DropFunction(function, current_schema(connection)))


def install(tracking: Tracking, connection: Connection) -> None:
    """Create the function and the triggers of a tracked table."""
    function = tracking.function()
    if function is not None:
        create_objects(connection, function, tracking.triggers())


def install_attached_with_table(attachment: Attachment) -> None:
    """Have an attached trigger come and go with its table."""

    @event.listens_for(attachment.table, "before_create")
    def check_dialect(_: Table, connection: Connection, **__: Any) -> None:
        require_postgresql(connection)

    @event.listens_for(attachment.table, "after_create")
    def create_trigger(_: Table, connection: Connection, **__: Any) -> None:
        create_objects(connection, attachment.function(), attachment.triggers())

    @event.listens_for(attachment.table, "after_drop")
    def drop_function(_: Table, connection: Connection, **__: Any) -> None:
        schema = current_schema(connection)
        connection.execute(DropFunction(attachment.function(), schema))


def create_objects(
    connection: Connection, function: Function, triggers: Iterable[Trigger]
) -> None:
    """Create a function and its triggers, or replace them."""
    schema = current_schema(connection)
    connection.execute(CreateFunction(function, schema))
    for trigger in triggers:
        if trigger.deferrable is not None:
            connection.execute(DropTrigger(trigger, schema))
        connection.execute(CreateTrigger(trigger, schema))


def _create_if_missing(table: Table, connection: Connection) -> None:
    if exists(table, connection) is False:
        # checkfirst is for an ENUM that the tracked table has made already.
        table.create(connection, checkfirst=True)


def exists(table: Table, connection: Connection) -> bool | None:
    """Whether a table is there; None on a mock connection, which only prints."""
    if not isinstance(connection, Connection):
        return None
    # A new inspector each time: it remembers what it was told.
    inspector: Inspector = inspect(connection)
    schema = connection.schema_for_object(table)
    return inspector.has_table(table.name, schema=schema)
