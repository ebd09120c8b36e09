"""Partitions of event tables and of contexts in a revision.

The first partition is created with its table. The others are made and removed by
``sa-history partitions``, so they are no difference between models and database.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, Operations, ops
from sqlalchemy import Connection, MetaData, Table

from sa_history.alembic.operations import HistoryOp, created_tables
from sa_history.capture.context_table import is_context_table
from sa_history.capture.event_table import is_event_table
from sa_history.capture.partitioning import (
    CONTEXT_KEY,
    FIRST_ID,
    KEY,
    ContextPartitioning,
    Horizon,
    partition_name,
)
from sa_history.ddl.elements import DEFAULT_SCHEMA, PGTrigger
from sa_history.ddl.execution import current_schema
from sa_history.ddl.fingerprint import SetComment
from sa_history.ddl.partitions import (
    KeyType,
    PartitionedTable,
    drop_trigger_of_partitions,
    read_partitions_of,
    read_range_partitions,
)
from sa_history.ddl.repartition import Repartition
from sa_history.ddl.table_properties import read_table
from sa_history.exc import InstallError
from sa_history.sql.compose import Fragment, Qualified, SchemaNames
from sa_history.tracking.registry import history_of, trackings_in

# Of Alembic's, whose messages its usual configuration shows.
log = logging.getLogger("alembic.sa_history")


@Operations.register_operation("history_partition")
@Operations.register_operation("history_unpartition", "history_unpartition")
class RepartitionOp(MigrateOperation):
    """Makes a table partitioned, or one table again, with its rows.

    :param table: the name of the table.
    :param first: the name of the first partition.
    :param lower: the lowest key that the first partition takes; None for any.
    :param key: the column by which it is partitioned.
    :param key_type: the type of that column.
    :param schema: the schema of both; None for the default one.
    :param is_undone: True to make it one table.
    :param forget_removed: True to make it one table also if events were removed.
    """

    def __init__(
        self,
        table: str,
        first: str,
        lower: int | None,
        key: str,
        key_type: KeyType,
        schema: str | None = None,
        is_undone: bool = False,
        forget_removed: bool = False,
    ) -> None:
        self.arguments = (table, first, lower, key, key_type, schema)
        self.is_undone = is_undone
        self.forget_removed = forget_removed

    @classmethod
    def history_partition(
        cls,
        operations: Operations,
        table: str,
        first: str,
        *,
        lower: int | None,
        key: str,
        key_type: KeyType,
        schema: str | None = None,
    ) -> RepartitionOp:
        """Make a table partitioned: its rows are the first partition.

        In an ``autocommit_block`` each step is a transaction of its own, so that others
        write meanwhile, and an interrupted one goes on where it was.

        :param table: the name of the table.
        :param first: the name of the first partition.
        :param lower: the lowest key that the first partition takes; None for any.
        :param key: the column by which it is partitioned.
        :param key_type: the type of that column, ``"bigint"`` or ``"uuid"``.
        :param schema: the schema of both; None for the default one.
        :raises InstallError: the table has what cannot be given to another table, or is
            never free; or there is no connection.

        Example::

            with op.get_context().autocommit_block():
                op.history_partition(
                    "account_event",
                    "account_event_p1",
                    lower=1,
                    key="pgh_id",
                    key_type="bigint",
                )
        """
        operation = cls(table, first, lower, key, key_type, schema)
        operations.invoke(operation)
        return operation

    @classmethod
    def history_unpartition(
        cls,
        operations: Operations,
        table: str,
        first: str,
        *,
        lower: int | None,
        key: str,
        key_type: KeyType,
        schema: str | None = None,
        forget_removed: bool = False,
    ) -> RepartitionOp:
        """Take back :meth:`history_partition`: the rows are in one table again.

        :param table: the name of the table; the others are as there.
        :param forget_removed: True to do so also if events were removed. That is noted
            on a partition, so nothing refuses the time before them afterwards.
        :raises InstallError: as there, or events were removed.

        Example::

            with op.get_context().autocommit_block():
                op.history_unpartition(
                    "account_event",
                    "account_event_p1",
                    lower=1,
                    key="pgh_id",
                    key_type="bigint",
                )
        """
        operation = cls(
            table,
            first,
            lower,
            key,
            key_type,
            schema,
            is_undone=True,
            forget_removed=forget_removed,
        )
        operations.invoke(operation)
        return operation

    def reverse(self) -> RepartitionOp:
        """Return the operation for the downgrade."""
        return RepartitionOp(*self.arguments, is_undone=not self.is_undone)

    @property
    def name(self) -> str:
        """The name of the operation in a revision."""
        return "history_unpartition" if self.is_undone else "history_partition"

    def to_diff_tuple(self) -> tuple[str, str]:
        """Return the difference that ``alembic check`` shows."""
        return (self.name, self.arguments[0])


@Operations.implementation_for(RepartitionOp)
def run_repartition_op(operations: Operations, operation: RepartitionOp) -> None:
    """Repartition the table of the connection."""
    table, first, lower, key, key_type, schema = operation.arguments
    if operations.get_context().as_sql:
        raise InstallError(
            f"how {table} is to be repartitioned depends on the database, so it cannot "
            "be written as SQL; run this revision online"
        )
    connection: Any = operations.get_bind()
    name = schema or current_schema(connection) or DEFAULT_SCHEMA
    repartition = Repartition(
        connection,
        PartitionedTable(Qualified(name, table), key, key_type),
        Qualified(name, first),
        lower,
        log.info,
    )
    if operation.is_undone:
        if not operation.forget_removed:
            _refuse_removed(connection, repartition.table.name)
        repartition.unpartition()
    else:
        repartition.partition()


def _refuse_removed(connection: Connection, table: Qualified) -> None:
    """Refuse to make a table one of which events were removed."""
    partitions = read_partitions_of(connection, table) or []
    for horizon in (Horizon.of_comment(p.comment) for p in partitions):
        if horizon is not None:
            raise InstallError(
                f"events of {table.dotted} until {horizon.until} were removed, which a "
                "table without partitions cannot tell: as_of would see a wrong past; "
                "leave it partitioned, or give forget_removed=True to "
                "op.history_unpartition"
            )


@renderers.dispatch_for(RepartitionOp)
def render_repartition_op(
    autogen_context: AutogenContext, operation: RepartitionOp
) -> str:
    """Return the operation as it stands in a revision, outside of its transaction.

    If ``env.py`` has begun the transaction, as those for several databases do, it is
    within it: Alembic cannot leave that, and its ``autocommit_block`` would fail.
    """
    autogen_context.imports.add("import sa_history.alembic")
    prefix: Any = autogen_context.opts["alembic_module_prefix"] or ""
    table, first, lower, key, key_type, schema = operation.arguments
    options = {"lower": lower, "key": key, "key_type": key_type}
    if schema is not None:
        options["schema"] = schema
    lines = [
        f"{prefix}{operation.name}(",
        f"    {table!r},",
        f"    {first!r},",
        *(f"    {name}={value!r}," for name, value in options.items()),
        ")",
    ]
    if not getattr(
        autogen_context.migration_context, "_in_external_transaction", False
    ):
        block = f"with {prefix}get_context().autocommit_block():"
        lines = [block, *(f"    {line}" for line in lines)]
    return "\n".join(lines)


def repartitions(
    connection: Connection,
    upgrade_ops: ops.UpgradeOps,
    metadatas: list[MetaData],
    schemas: SchemaNames,
    in_database: Collection[Qualified],
) -> list[MigrateOperation]:
    """Return the operations for tables that are partitioned, and should not, or not.

    :param upgrade_ops: the operations of the revision.
    :param in_database: the tables that are partitioned in the database.
    :param schemas: gives the name in the database of a schema of the models.
    """
    created = created_tables(upgrade_ops)
    found = [
        (tracked, table)
        for tracked in _tables(metadatas)
        for table in [tracked.table]
        if (table.schema, table.name) not in created
    ]
    operations: list[MigrateOperation] = []
    for each, table in found:
        name = Qualified.of(table, schemas)
        is_partitioned = name in in_database
        if (
            is_partitioned == each.is_partitioned
            or read_table(connection, name) is None
        ):
            continue
        repartition = RepartitionOp(
            table.name,
            each.first.name,
            each.lower,
            each.key,
            each.key_type,
            table.schema,
            is_undone=not each.is_partitioned,
        )
        renew = _renewal(each.guard, each.first, schemas)
        if each.is_partitioned:
            operations += [repartition, *renew]
        else:
            operations += [*(each.reverse() for each in renew), repartition]
    return operations


@dataclass(frozen=True)
class _Partitionable:
    """A table that may be partitioned.

    :param table: the table.
    :param is_partitioned: whether the models say that it is.
    :param first: the name of its first partition.
    :param lower: the lowest key of that; None for any.
    :param key: the column by which it is partitioned.
    :param key_type: the type of that column.
    :param guard: the append-only trigger of the table; None if it has none.
    """

    table: Table
    is_partitioned: bool
    first: Qualified
    lower: int | None
    key: str
    key_type: KeyType
    guard: PGTrigger | None = None


def _tables(metadatas: list[MetaData]) -> Iterator[_Partitionable]:
    for shared in (h.shared for h in map(history_of, metadatas) if h is not None):
        contexts = ContextPartitioning(shared.context_table)
        yield _Partitionable(
            table=shared.context_table,
            is_partitioned=shared.partitioning is not None,
            first=contexts.name(None),
            lower=None,
            key=CONTEXT_KEY,
            key_type="uuid",
        )
    for tracking in trackings_in(*metadatas):
        events = tracking.event_table
        yield _Partitionable(
            table=events,
            is_partitioned=tracking.partitioning() is not None,
            first=partition_name(events, str(FIRST_ID)),
            lower=FIRST_ID,
            key=KEY,
            key_type="bigint",
            guard=tracking.append_only_trigger(),
        )


def _renewal(
    guard: PGTrigger | None, first: Qualified, schemas: SchemaNames
) -> list[HistoryOp]:
    """Return the operation that marks the trigger of a first partition as its own.

    The table had the trigger before it was a partition.
    """
    if guard is None:
        return []
    own = guard.on(first)
    statements = [own.create().render(schemas), SetComment(own).render(schemas)]
    what = f"trigger {own.name} on {first.name}"
    return [HistoryOp(f"renew {what}", statements, (f"let {what} go with it", ()))]


def leave_partitions_alone(
    connection: Connection,
    upgrade_ops: ops.UpgradeOps,
    metadatas: list[MetaData],
    schemas: SchemaNames,
) -> dict[Qualified, set[Qualified]]:
    """Take out the operations on partitions, which Alembic sees as tables.

    :param upgrade_ops: the operations of the revision, which are changed in place.
    :param schemas: gives the name in the database of a schema of the models.
    :return: the partitions of each partitioned table.
    """
    parents = {
        Qualified.of(table, schemas)
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
    found = {
        parent: {partition.name for partition in partitions}
        for parent, partitions in in_database.items()
        if parent in parents
    }
    partitions = set().union(*found.values())
    upgrade_ops.ops[:] = [
        operation
        for operation in upgrade_ops.ops
        if _table_of(operation, schemas) not in partitions
    ]
    return found


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
    created = created_tables(upgrade_ops)
    operations = []
    for shared in (h.shared for h in map(history_of, metadatas) if h is not None):
        contexts, table = shared.partitioning, shared.context_table
        if contexts is not None and (table.schema, table.name) in created:
            operations.append(_creation(table, contexts.first(), [], schemas))
    for tracking in trackings_in(*metadatas):
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
