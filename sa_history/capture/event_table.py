"""From a tracked table to its event table."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    CHAR,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import NullType, TypeEngine

from sa_history.capture.context_table import SharedObjects
from sa_history.capture.options import TrackingOptions
from sa_history.capture.recording import OLD_KEY
from sa_history.definition.columns import TrackedColumns
from sa_history.exc import DefinitionError
from sa_history.sql.expressions import NextValue
from sa_history.sql.naming import generated_name
from sa_history.util.messages import suggestion

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
    reserved = [
        name
        for attribute, column in columns.by_attribute.items()
        for name in {attribute, column.name}
        if name.startswith(PREFIX)
    ]
    if reserved:
        raise DefinitionError(
            f"{columns.subject} has columns {reserved}, whose names start with "
            f"{PREFIX!r} like the columns of events; rename them"
        )
    event_table = Table(
        name,
        metadata,
        *_event_columns(columns, options, shared),
        *(mirrored(columns.by_attribute[n], n in columns.key) for n in columns.stored),
        schema=schema,
        comment=f"Events of {table.fullname}",
    )
    leave_out_checks(event_table)
    lookup = [columns.object_id] if columns.object_id else []
    lookup = lookup or [columns.column_name(name) for name in columns.key]
    if lookup:
        _index(event_table, [*lookup, "pgh_id"])
    _index(event_table, ["pgh_xact_id"])
    for name in options.index:
        if name not in columns.stored:
            known = dict.fromkeys(columns.stored)
            raise DefinitionError(
                f"{columns.subject}: index names {name!r}, which is not tracked"
                f"{suggestion(name, known)}"
            )
        _index(event_table, [columns.column_name(name), "pgh_id"])
    sparse = [OLD_KEY] if columns.key else []
    sparse += ["pgh_context_id"] if options.context is not None else []
    for name in sparse:
        _index(event_table, [name], postgresql_where=text(f"{name} IS NOT NULL"))
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
            server_default=NextValue(shared.sequence),
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
            server_default=text("((pg_current_xact_id())::text)::bigint"),
        ),
    ]
    if options.context is not None:
        event_columns.append(Column("pgh_context_id", Uuid))
    if columns.object_id is not None:
        key = columns.by_attribute[columns.key[0]]
        event_columns.append(mirrored(key, is_key=True, name="pgh_obj_id"))
    event_columns += [
        Column("pgh_op", CHAR(1), nullable=False),
        Column("pgh_label", Text, nullable=False),
    ]
    if columns.key:
        event_columns.append(Column(OLD_KEY, JSONB))
    if options.context == "inline":
        event_columns.append(Column("pgh_context", JSONB))
    taken = {*columns.by_attribute, *map(columns.column_name, columns.by_attribute)}
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


def mirrored(column: Column[Any], is_key: bool, name: str | None = None) -> Column[Any]:
    """Return the event table's column for a tracked one: its name and type only.

    The type object is the same, because a type with a name (ENUM, DOMAIN) is one
    object in the database.

    :param name: a name of its own.
    """
    if isinstance(column.type, NullType) and column.foreign_keys:
        return _Following(name or column.name, column, nullable=not is_key)
    return Column(name or column.name, column.type, nullable=not is_key)


def leave_out_checks(event_table: Table) -> None:
    """Take away the CHECK constraints that types such as Enum brought along."""
    for constraint in list(event_table.constraints):
        if isinstance(constraint, CheckConstraint):
            event_table.constraints.discard(constraint)


class _Following(Column[Any]):
    """A column that has the type of another one, at any time.

    A column that is declared without a type has its foreign key's, and has none
    before the table that the key refers to exists.
    """

    inherit_cache = True
    _constructor = Column

    def __init__(self, name: str, followed: Column[Any], **options: Any) -> None:
        self._followed = followed
        super().__init__(name, **options)

    @property
    def type(self) -> TypeEngine[Any]:
        return self._followed.type

    @type.setter
    def type(self, _: TypeEngine[Any]) -> None:
        pass  # set by Column(), which is given none


def is_event_table(table: Table) -> bool:
    """Return whether a table, maybe a reflected one, is the event table of another."""
    return {"pgh_id", "pgh_created_at", "pgh_op", "pgh_label"} <= set(
        table.columns.keys()
    )


def key_columns(columns: TrackedColumns, event_table: Table) -> list[Column[Any]]:
    """Return the event table's columns that say which row an event is of."""
    names = [columns.object_id] if columns.object_id else []
    names = names or [columns.column_name(name) for name in columns.key]
    return [event_table.columns[name] for name in names]
