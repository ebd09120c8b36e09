"""What a revision does to event tables when the models change.

History is kept: a column or an event table that the models do not have any more stays
in the database, unless ``env.py`` gives ``history_keep=False`` to
``context.configure``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any, TypeAlias

from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops
from sqlalchemy import (
    ARRAY,
    Column,
    Enum,
    ForeignKeyConstraint,
    MetaData,
    Table,
    TextClause,
    TypeDecorator,
    text,
)
from sqlalchemy.dialects.postgresql import DOMAIN

from sa_history.alembic.column_types import revision_type
from sa_history.alembic.operations import HistoryOp
from sa_history.capture.archive_table import is_archive_table
from sa_history.capture.context_table import is_context_table
from sa_history.capture.event_table import is_event_table
from sa_history.capture.seal_tables import is_seal_table
from sa_history.sql.column_types import postgresql_type
from sa_history.sql.compose import Ident, Joined, Qualified, Raw, SchemaNames
from sa_history.sql.expressions import NextValue
from sa_history.tracking.registry import Tracking, trackings_in

_Key: TypeAlias = "tuple[str | None, str]"


def arrange_tables(
    autogen_context: AutogenContext,
    upgrade_ops: ops.UpgradeOps,
    metadatas: list[MetaData],
    schemas: SchemaNames,
) -> None:
    """Keep the tables of history, and create event tables after tracked tables.

    :param upgrade_ops: the operations of the revision, which are changed in place.
    :param schemas: gives the name in the database of a schema of the models.
    """
    events = _event_tables(metadatas)
    if keeps(autogen_context):
        _keep_tables(upgrade_ops)
        _keep_columns(upgrade_ops, events, schemas)
    _allow_events_from_before(upgrade_ops, events)
    _create_after_tracked(upgrade_ops, events)
    _name_types(upgrade_ops, events)
    for operation in upgrade_ops.ops:
        if isinstance(operation, ops.CreateTableOp):
            operation.columns = [_writable(item) for item in operation.columns]


def _writable(item: Any) -> Any:
    """Return a column whose default can be written in a revision, with any name."""
    default = getattr(getattr(item, "server_default", None), "arg", None)
    if not isinstance(default, NextValue):
        return item
    return Column(
        item.name,
        item.type,
        primary_key=item.primary_key,
        autoincrement=False,
        nullable=item.nullable,
        server_default=NextValue(default.sequence, plain=True),
    )


def keeps(autogen_context: AutogenContext) -> bool:
    """Return True if event tables and columns outlive those of the models."""
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


def _event_tables(metadatas: list[MetaData]) -> dict[_Key, Tracking]:
    return {
        (tracking.event_table.schema, tracking.event_table.name): tracking
        for tracking in trackings_in(*metadatas)
    }


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
    return any(
        is_one(table)
        for is_one in (
            is_event_table,
            is_context_table,
            is_seal_table,
            is_archive_table,
        )
    )


def _keep_columns(
    upgrade_ops: ops.UpgradeOps, events: dict[_Key, Tracking], schemas: SchemaNames
) -> None:
    for modify in list(_modifications(upgrade_ops)):
        if (modify.schema, modify.table_name) not in events:
            continue
        modify.ops[:] = [kept for op in modify.ops for kept in _kept(op, schemas)]
        if not modify.ops:
            upgrade_ops.ops.remove(modify)


def _kept(operation: Any, schemas: SchemaNames) -> list[Any]:
    if not isinstance(operation, ops.DropColumnOp):
        return [operation]
    if operation.to_column().nullable:
        return []
    # Of a key that has changed; new events do not have it, also after a downgrade.
    name = f"{operation.table_name}.{operation.column_name}"
    parts = (
        Raw("ALTER TABLE "),
        Qualified(schemas(operation.schema), operation.table_name),
        Raw(" ALTER COLUMN "),
        Ident(operation.column_name),
        Raw(" DROP NOT NULL"),
    )
    return [
        HistoryOp(
            f"let events have no {name}",
            [Joined(parts).render(schemas)],
            (f"events may have no {name}", ()),
        )
    ]


def _allow_events_from_before(
    upgrade_ops: ops.UpgradeOps, events: dict[_Key, Tracking]
) -> None:
    """Let events from before a column have no value in it.

    No rule is lost: a key has no NULL in the tracked table, and the function that
    records refuses a change without a context that is required.
    """
    for modify in list(_modifications(upgrade_ops)):
        tracking = events.get((modify.schema, modify.table_name))
        if tracking is None:
            continue
        modify.ops[:] = [
            allowed for op in modify.ops for allowed in _allowed(op, tracking)
        ]
        if not modify.ops:
            upgrade_ops.ops.remove(modify)


def _allowed(operation: Any, tracking: Tracking) -> list[Any]:
    if isinstance(operation, ops.AddColumnOp) and not operation.column.nullable:
        return _added(operation, tracking)
    if isinstance(operation, ops.AlterColumnOp) and operation.modify_nullable is False:
        operation.modify_nullable = None
        return [operation] if operation.has_changes() else []
    return [operation]


def _added(operation: ops.AddColumnOp, tracking: Tracking) -> list[Any]:
    """Return what adds a NOT NULL column: with the value that all rows get, if any.

    Without it, events would not be found by the key that their rows have now.
    """
    column = operation.column
    default = _default_of_key(column.name, tracking)
    added = Column(
        column.name, column.type, server_default=default, nullable=default is None
    )
    operation.column = added
    if added.server_default is None:
        return [operation]
    return [
        operation,
        ops.AlterColumnOp(
            operation.table_name,
            column.name,
            schema=operation.schema,
            existing_type=column.type,
            existing_nullable=False,
            existing_server_default=added.server_default,
            modify_server_default=None,
        ),
    ]


# Any other expression may have another value in each row.
_CONSTANT = re.compile(r"[+-]?\d+(\.\d+)?|true|false|'([^']|'')*'", re.IGNORECASE)


def _default_of_key(name: str, tracking: Tracking) -> str | TextClause | None:
    """Return the constant that is the server default of a column of the key."""
    columns = tracking.tracked_columns
    for attribute in columns.key:
        column = columns.by_attribute[attribute]
        default = getattr(column.server_default, "arg", None)
        if column.name == name:
            if isinstance(default, TextClause) and _CONSTANT.fullmatch(default.text):
                return text(default.text)
            return default if isinstance(default, str) else None
    return None


def _create_after_tracked(
    upgrade_ops: ops.UpgradeOps, events: dict[_Key, Tracking]
) -> None:
    """Move new event tables behind the others, whose types they share.

    What refers to events, and what refers to that, comes behind them.
    """
    created = {
        _key(operation): operation.to_table()
        for operation in upgrade_ops.ops
        if isinstance(operation, ops.CreateTableOp)
    }
    ranks = _ranks(created, events)
    upgrade_ops.ops.sort(key=lambda operation: ranks.get(_key(operation), 0))
    _share_types(upgrade_ops, created, events)


def _ranks(created: dict[_Key, Table], events: dict[_Key, Tracking]) -> dict[_Key, int]:
    """Return 1 for event tables and 2 for tables that refer to events."""
    ranks = {key: 1 for key in created if key in events}
    # Alembic has sorted them by what they refer to.
    for key, table in created.items():
        if any(_target(constraint) in ranks for constraint in _foreign_keys(table)):
            ranks.setdefault(key, 2)
    return ranks


def _share_types(
    upgrade_ops: ops.UpgradeOps,
    created: dict[_Key, Table],
    events: dict[_Key, Tracking],
) -> None:
    """Let event tables use the ENUM and DOMAIN types that exist before them."""
    existing = {
        _name(type_)
        for key, tracking in events.items()
        if key in created
        and (tracking.table.schema, tracking.table.name) not in created
        for type_ in _named_types(tracking.table)
    }
    for operation in upgrade_ops.ops:
        if isinstance(operation, ops.CreateTableOp):
            key = _key(operation)
            if key in events:
                operation.columns = [
                    _in_revision(item, existing) for item in operation.columns
                ]
            existing |= {_name(type_) for type_ in _named_types(created[key])}


def _key(operation: Any) -> Any:
    return (
        getattr(operation, "schema", None),
        getattr(operation, "table_name", None),
    )


def _foreign_keys(table: Table) -> Iterator[ForeignKeyConstraint]:
    return (c for c in table.constraints if isinstance(c, ForeignKeyConstraint))


def _target(constraint: ForeignKeyConstraint) -> _Key:
    table, _, _ = constraint.elements[0].target_fullname.rpartition(".")
    schema, _, name = table.rpartition(".")
    return schema or None, name


def _named_types(table: Table) -> list[Any]:
    types = (_named_type(column.type) for column in table.columns)
    return [type_ for type_ in types if type_ is not None]


def _named_type(type_: Any) -> Any:
    """Return the ENUM or DOMAIN that a type is, or has; None if there is none."""
    type_ = type_._variant_mapping.get("postgresql", type_)
    if isinstance(type_, TypeDecorator):
        return _named_type(type_.impl_instance)
    if isinstance(type_, ARRAY):
        return _named_type(type_.item_type)
    if isinstance(type_, Enum) and type_.native_enum and type_.name:
        return type_
    return type_ if isinstance(type_, DOMAIN) else None


def _name(type_: Any) -> tuple[str | None, str]:
    return type_.schema, type_.name


def _in_revision(item: Any, existing: Collection[_Key] | None = None) -> Any:
    """Return a column that a revision can create without the application.

    :param existing: the names of the ENUM and DOMAIN types that need not be created;
        None if none has to be.
    """
    if not isinstance(item, Column):
        return item
    named = _named_type(item.type)
    is_new = named is not None and existing is not None and _name(named) not in existing
    type_ = named if is_new else revision_type(item.type)
    if type_ is item.type:
        return item
    return Column(item.name, type_, nullable=item.nullable)


def _name_types(upgrade_ops: ops.UpgradeOps, events: dict[_Key, Tracking]) -> None:
    """Have a revision name the types of event tables that it drops or changes."""
    upgrade_ops.ops[:] = map(_dropped, upgrade_ops.ops)
    for modify in _modifications(upgrade_ops):
        if (modify.schema, modify.table_name) in events:
            modify.ops[:] = map(_changed, modify.ops)


def _dropped(operation: Any) -> Any:
    if not isinstance(operation, ops.DropTableOp):
        return operation
    table = operation.to_table()
    if not _is_history(table):
        return operation
    again = ops.CreateTableOp.from_table(table)
    again.columns = [_in_revision(item) for item in again.columns]
    return ops.DropTableOp.from_table(again.to_table())


def _changed(operation: Any) -> Any:
    if isinstance(operation, ops.AddColumnOp):
        operation.column = _in_revision(operation.column)
    elif isinstance(operation, ops.DropColumnOp):
        column = _in_revision(operation.to_column())
        return ops.DropColumnOp.from_column_and_tablename(
            operation.schema, operation.table_name, column
        )
    elif isinstance(operation, ops.AlterColumnOp):
        operation.modify_type = _altered(operation.modify_type)
        operation.existing_type = _altered(operation.existing_type)
    return operation


def _altered(type_: Any) -> Any:
    """Return a type of ALTER COLUMN, which creates none.

    An ENUM stays one: alembic_postgresql_enum writes how its values are converted.
    """
    if type_ is None:
        return None
    named = _named_type(type_)
    if isinstance(named, Enum) and not isinstance(postgresql_type(type_), ARRAY):
        return named
    return revision_type(type_)
