"""DDL events: the triggers that record are created and dropped with their tables."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table, event

from sa_history.ddl.execution import create_objects, drop_objects, exists
from sa_history.tracking.registry import Tracking, mirror_new_columns
from sa_history.util.postgresql import require_postgresql


def install_with_tables(tracking: Tracking) -> None:
    """Listen to DDL events, to create and drop the triggers with the tables.

    The tracked table depends on the event table, so ``create_all`` creates the event
    table first, and the triggers are created after the tracked table. If the tracked
    table exists already, they are created after the event table.
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
            create_objects(connection, protection)
        if exists(table, connection):
            install(tracking, connection)

    @event.listens_for(table, "before_create")
    def check_dialect(_: Table, connection: Connection, **__: Any) -> None:
        require_postgresql(connection)

    @event.listens_for(table, "after_create")
    def create_triggers(_: Table, connection: Connection, **__: Any) -> None:
        # Table.create() creates one table only, and a tracked one needs the others.
        _create_if_missing(event_table, connection)
        install(tracking, connection)

    @event.listens_for(table, "after_drop")
    @event.listens_for(event_table, "before_drop")
    def drop_triggers(_: Table, connection: Connection, **__: Any) -> None:
        function = tracking.function()
        if function is not None:
            drop_objects(connection, function)


def install(tracking: Tracking, connection: Connection) -> None:
    """Create the function and the triggers of a tracked table."""
    create_objects(connection, *tracking.objects())


def _create_if_missing(table: Table, connection: Connection) -> None:
    if exists(table, connection) is False:
        # checkfirst is for an ENUM that was created with the tracked table.
        table.create(connection, checkfirst=True)
