"""What happens to event tables when the models change.

History keeps what it has: a column or a whole event table that the models do not have
any more stays in the database, unless ``env.py`` says ``history_keep=False`` to
``context.configure``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops
from sqlalchemy import Column, Enum, MetaData, Table
from sqlalchemy.dialects.postgresql import DOMAIN, ENUM

from sa_history.event_table import is_event_table
from sa_history.objects import trackings_in
from sa_history.sql.compose import Qualified, SchemaNames
from sa_history.tables import is_context_table


def arrange_tables(
    autogen_context: AutogenContext,
    upgrade_ops: ops.UpgradeOps,
    metadatas: list[MetaData],
) -> None:
    """Keep what history has, and create event tables after what they record."""
    events = _event_tables(metadatas)
    if keeps(autogen_context):
        _keep_tables(upgrade_ops)
        _keep_columns(upgrade_ops, events)
    _create_after_tracked(upgrade_ops, events)


def keeps(autogen_context: AutogenContext) -> bool:
    """Return whether history stays that the models do not have any more."""
    return bool(autogen_context.opts.get("history_keep", True))


def changed_columns(
    upgrade_ops: ops.UpgradeOps, schemas: SchemaNames
) -> dict[Qualified, set[str]]:
    """Return the columns, by table, that are dropped or get another type."""
    changed: dict[Qualified, set[str]] = {}
    for modify in _modifications(upgrade_ops):
        for operation in modify.ops:
            if isinstance(operation, ops.DropColumnOp) or (
                isinstance(operation, ops.AlterColumnOp)
                and operation.modify_type is not None
            ):
                table = Qualified(schemas(modify.schema), modify.table_name)
                changed.setdefault(table, set()).add(operation.column_name)
    return changed


def _event_tables(metadatas: list[MetaData]) -> dict[tuple[str | None, str], Table]:
    tables = [
        tracking.event_table
        for metadata in metadatas
        for tracking in trackings_in(metadata)
    ]
    return {(table.schema, table.name): table for table in tables}


def _modifications(upgrade_ops: ops.UpgradeOps) -> Iterator[ops.ModifyTableOps]:
    for operation in upgrade_ops.ops:
        if isinstance(operation, ops.ModifyTableOps):
            yield operation


def _keep_tables(upgrade_ops: ops.UpgradeOps) -> None:
    kept = {
        (operation.schema, operation.table_name)
        for operation in upgrade_ops.ops
        if isinstance(operation, ops.DropTableOp) and _is_history(operation.to_table())
    }
    upgrade_ops.ops[:] = [
        operation
        for operation in upgrade_ops.ops
        # With a table go the operations on its indexes.
        if _key(operation) not in kept
    ]


def _is_history(table: Table) -> bool:
    return is_event_table(table) or is_context_table(table)


def _keep_columns(
    upgrade_ops: ops.UpgradeOps, events: dict[tuple[str | None, str], Table]
) -> None:
    for modify in list(_modifications(upgrade_ops)):
        if (modify.schema, modify.table_name) not in events:
            continue
        modify.ops[:] = [kept for op in modify.ops for kept in _kept(op)]
        if not modify.ops:
            upgrade_ops.ops.remove(modify)


def _kept(operation: Any) -> list[Any]:
    if not isinstance(operation, ops.DropColumnOp):
        return [operation]
    column = operation.to_column()
    if column.nullable:
        return []
    # Of a key that has changed; new events do not have it.
    return [
        ops.AlterColumnOp(
            operation.table_name,
            operation.column_name,
            schema=operation.schema,
            existing_type=column.type,
            existing_nullable=False,
            modify_nullable=True,
        )
    ]


def _create_after_tracked(
    upgrade_ops: ops.UpgradeOps, events: dict[tuple[str | None, str], Table]
) -> None:
    """Move new event tables behind the others, whose types they share."""
    created = {
        (operation.schema, operation.table_name)
        for operation in upgrade_ops.ops
        if isinstance(operation, ops.CreateTableOp)
    }
    late = created & events.keys()
    for operation in upgrade_ops.ops:
        if isinstance(operation, ops.CreateTableOp) and _key(operation) in late:
            operation.columns = [_sharing_type(item) for item in operation.columns]
    upgrade_ops.ops.sort(key=lambda operation: _key(operation) in late)


def _key(operation: Any) -> tuple[str | None, str | None]:
    return (
        getattr(operation, "schema", None),
        getattr(operation, "table_name", None),
    )


def _sharing_type(item: Any) -> Any:
    """Return a column that does not create its ENUM or DOMAIN, which is there."""
    if not isinstance(item, Column):
        return item
    type_: Any = item.type
    if isinstance(type_, Enum) and type_.native_enum and type_.name:
        shared: Any = ENUM(
            *type_.enums, name=type_.name, schema=type_.schema, create_type=False
        )
    elif isinstance(type_, DOMAIN):
        shared = copy.copy(type_)
        shared.create_type = False
    else:
        return item
    return Column(item.name, shared, nullable=item.nullable)
