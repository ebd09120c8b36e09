"""From a tracked table to its event table."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    CHAR,
    BigInteger,
    Column,
    DateTime,
    Index,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from sa_history.columns import TrackedColumns
from sa_history.exc import DefinitionError
from sa_history.options import TrackingOptions
from sa_history.sql.naming import generated_name
from sa_history.tables import SharedObjects

PREFIX = "pgh_"
"""What the columns of an event start with that are not a tracked column's."""


def make_event_table(
    table: Table,
    columns: TrackedColumns,
    options: TrackingOptions,
    shared: SharedObjects,
) -> Table:
    """Add the event table of a tracked table to its MetaData.

    :raises DefinitionError: its name or one of its columns' names is taken.
    """
    metadata = table.metadata
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
            server_default=options.created_at,
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


def key_columns(columns: TrackedColumns, event_table: Table) -> list[Column[Any]]:
    """Return the event table's columns that say which row an event is of."""
    names = [columns.object_id] if columns.object_id else []
    names = names or [columns.columns[name].name for name in columns.key]
    return [event_table.columns[name] for name in names]
