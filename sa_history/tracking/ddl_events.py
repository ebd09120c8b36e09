"""DDL events: the triggers that record are created and dropped with their tables."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, MetaData, Table, event

from sa_history.ddl.batched_indexes import begin_batch, create_batch
from sa_history.ddl.execution import (
    create_objects,
    drop_functions,
    execute_statements,
    exists,
    run_memo,
)
from sa_history.ddl.table_events import install_with_table
from sa_history.sql.compose import Qualified
from sa_history.tracking.distribution import distribute_tables, refuse_distribution
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

    if not event.contains(table.metadata, "before_create", _remember_tables):
        event.listen(table.metadata, "before_create", _remember_tables)
        event.listen(table.metadata, "before_drop", _remember_tables)

    def prepare(connection: Connection, memo: dict[str, Any]) -> None:
        distribute_tables(tracking, connection, memo)
        refuse_distribution(tracking, connection, memo)

    @event.listens_for(event_table, "before_create")
    def create_shared(_: Table, connection: Connection, **options: Any) -> None:
        require_postgresql(connection)
        mirror_new_columns(tracking)
        _create_if_missing(shared, connection, options)
        begin_batch(event_table, connection, run_memo(options))

    @event.listens_for(event_table, "after_create")
    def protect_events(_: Table, connection: Connection, **options: Any) -> None:
        memo = run_memo(options)
        create_batch(event_table, connection, memo)
        alone = not _is_one_of_run(table, options) and exists(table, connection)
        protection = tracking.append_only_trigger()
        if alone:
            prepare(connection, memo)
        if protection is not None:
            create_objects(connection, protection, memo=memo)
        partitioning = tracking.partitioning()
        if partitioning is not None:
            statements, guards = partitioning.first()
            execute_statements(connection, statements, memo)
            create_objects(connection, *guards, memo=memo)
        if alone:
            create_objects(connection, *tracking.objects(), memo=memo)

    @event.listens_for(table, "after_create")
    def create_event_table(_: Table, connection: Connection, **options: Any) -> None:
        # Table.create() creates one table, and its triggers need the event table.
        _create_if_missing(event_table, connection, options)

    def functions() -> list[Qualified]:
        name = tracking.function_name()
        return [] if name is None else [name]

    # After create_event_table: listeners run in the order of their registration.
    install_with_table(table, tracking.objects, functions, prepare)

    @event.listens_for(event_table, "before_drop")
    def drop_function(_: Table, connection: Connection, **options: Any) -> None:
        # drop_all has dropped it with the table, which depends on the event table.
        if not _is_one_of_run(table, options):
            drop_functions(connection, functions(), run_memo(options))


def _create_if_missing(
    table: Table, connection: Connection, options: dict[str, Any]
) -> None:
    if _is_one_of_run(table, options):
        return
    if exists(table, connection) is False:
        # checkfirst is for an ENUM that was created with the tracked table.
        table.create(connection, checkfirst=True)


_TABLES = "sa_history_tables"


def _remember_tables(
    _: MetaData, connection: Connection, tables: list[Table], **options: Any
) -> None:
    """Remember the tables of ``create_all`` or ``drop_all``, for as long as it runs."""
    run_memo(options)[_TABLES] = frozenset(tables)


def _is_one_of_run(table: Table, options: dict[str, Any]) -> bool:
    """Return whether ``create_all`` or ``drop_all`` creates or drops a table as well.

    What depends on a table is created after it, and dropped before it. Of any other
    table the database has to be asked.

    :param options: the keywords of a DDL event of another table.
    """
    return table in run_memo(options).get(_TABLES, ())
