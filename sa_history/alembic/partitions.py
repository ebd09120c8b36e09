"""Partitions of event tables and of contexts in a revision.

The first partition is created with its table. The others are made and removed by
``sa-history partitions``, so they are no difference between models and database.
"""

from __future__ import annotations

from collections.abc import Mapping

from alembic.operations import ops
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData, Table, inspect

from sa_history.alembic.operations import HistoryOp
from sa_history.capture.context_table import is_context_table
from sa_history.capture.event_table import is_event_table
from sa_history.ddl.fingerprint import SetComment
from sa_history.ddl.partitions import (
    drop_trigger_of_partitions,
    read_range_partitions,
)
from sa_history.install.expected import trackings_in
from sa_history.sql.compose import Fragment, Qualified, SchemaNames
from sa_history.tracking.registry import history_of


def leave_partitions_alone(
    connection: Connection,
    upgrade_ops: ops.UpgradeOps,
    metadatas: list[MetaData],
    schemas: SchemaNames,
) -> dict[Qualified, Qualified]:
    """Take out the operations on partitions, which Alembic sees as tables.

    :param upgrade_ops: the operations of the revision, which are changed in place.
    :param schemas: gives the name in the database of a schema of the models.
    :return: the table of each partition.
    :raises CommandError: a table is to be partitioned, and is there without partitions.
    """
    parents = {
        Qualified(schemas(table.schema), table.name)
        for metadata in metadatas
        for history in [history_of(metadata)]
        if history is not None
        for table in (
            history.shared.context_table,
            *(tracking.event_table for tracking in trackings_in(metadata)),
        )
    }
    # Those that Alembic does not find in the models: partitions stay and go with them.
    parents |= {
        _table_of(operation, schemas)
        for operation in upgrade_ops.ops
        if isinstance(operation, ops.DropTableOp)
        for table in [operation.to_table()]
        if is_event_table(table) or is_context_table(table)
    }
    in_database = read_range_partitions(
        connection, sorted({str(parent.schema) for parent in parents})
    )
    partitions = {
        partition.name: parent
        for parent in parents
        for partition in in_database.get(parent, ())
    }
    _refuse_conversions(connection, metadatas, in_database, schemas)
    upgrade_ops.ops[:] = [
        operation
        for operation in upgrade_ops.ops
        if _table_of(operation, schemas) not in partitions
    ]
    return partitions


def _refuse_conversions(
    connection: Connection,
    metadatas: list[MetaData],
    in_database: Mapping[Qualified, object],
    schemas: SchemaNames,
) -> None:
    """Refuse a table that is to be partitioned, and is there without partitions.

    :raises CommandError: names the table.
    """
    for tracking in (t for metadata in metadatas for t in trackings_in(metadata)):
        events = tracking.event_table
        if (
            tracking.options.partition_by is not None
            and Qualified(schemas(events.schema), events.name) not in in_database
            and inspect(connection).has_table(events.name, schema=events.schema)
        ):
            raise CommandError(
                f"{events.fullname} is not partitioned in the database, and the model "
                f"says partition_by={tracking.options.partition_by!r}; leave that out "
                "until the table is converted"
            )


def _table_of(operation: object, schemas: SchemaNames) -> Qualified:
    schema = getattr(operation, "schema", None)
    return Qualified(schemas(schema), getattr(operation, "table_name", ""))


def first_partitions(
    upgrade_ops: ops.UpgradeOps, metadatas: list[MetaData], schemas: SchemaNames
) -> list[HistoryOp]:
    """Return the operations that create the first partitions of new tables.

    They come after those that create functions, one of which the triggers call.

    :param upgrade_ops: the operations of the revision.
    :param schemas: gives the name in the database of a schema of the models.
    """
    created = {
        (operation.schema, operation.table_name)
        for operation in upgrade_ops.ops
        if isinstance(operation, ops.CreateTableOp)
    }
    operations = []
    for shared in (h.shared for h in map(history_of, metadatas) if h is not None):
        contexts, table = shared.partitioning, shared.context_table
        if contexts is not None and (table.schema, table.name) in created:
            operations.append(_creation(table, contexts.first(), [], schemas))
    for tracking in (t for metadata in metadatas for t in trackings_in(metadata)):
        table, partitioning = tracking.event_table, tracking.partitioning()
        if partitioning is None or (table.schema, table.name) not in created:
            continue
        statements, guards = partitioning.first()
        undo: list[Fragment] = []
        for guard in guards:
            statements += [guard.create(replace=False), SetComment(guard)]
            # Of all partitions, since it calls a function that goes before the table.
            name = partitioning.partitioned.name
            undo.append(drop_trigger_of_partitions(name, guard.name))
        operations.append(_creation(table, statements, undo, schemas))
    return operations


def _creation(
    table: Table,
    statements: list[Fragment],
    undo: list[Fragment],
    schemas: SchemaNames,
) -> HistoryOp:
    return HistoryOp(
        f"create the first partition of {table.fullname}",
        [statement.render(schemas) for statement in statements],
        (
            f"let the partitions of {table.fullname} go with it",
            [statement.render(schemas) for statement in undo],
        ),
    )
