"""The event table of a tracked table: its columns, and its indexes.

A column of the tracked table gives its event column a name and a type. What else it
has, and what its type brings along, stays with the tracked table: an event stores a
value that was, and no rule about values may keep a change from being recorded.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ARRAY,
    CHAR,
    BigInteger,
    Column,
    DateTime,
    PrimaryKeyConstraint,
    Table,
    Text,
    TypeDecorator,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import NullType, SchemaType, TypeEngine

from sa_history.capture.context_storage import ContextStorage
from sa_history.capture.context_table import SharedObjects
from sa_history.capture.options import TrackingOptions
from sa_history.capture.partitioning import EVENT_COLUMNS, partition_options
from sa_history.capture.seal_tables import erased_column
from sa_history.ddl.batched_indexes import BatchedIndex
from sa_history.definition.columns import TrackedColumns
from sa_history.exc import DefinitionError
from sa_history.sql.column_types import refuses_null
from sa_history.sql.expressions import NextValue
from sa_history.sql.naming import generated_name
from sa_history.sql.nullable_types import nullable_type
from sa_history.util.messages import suggestion

PREFIX = "pgh_"
"""How the names of those columns begin that do not come from the tracked table."""

OLD_KEY = "pgh_old_key"
"""The column of the key that the row had before a change that gave it another."""


def make_event_table(
    table: Table,
    columns: TrackedColumns,
    options: TrackingOptions,
    shared: SharedObjects,
    context: ContextStorage,
) -> Table:
    """Add the event table of a tracked table to its MetaData.

    :param context: has the columns that store the context.
    :raises DefinitionError: the name of the table or of a column is taken, or ``index``
        names an attribute that is not tracked; nothing is added then.
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
    _check_names(columns, options)
    distributed_by = _distribution_column(columns, options)
    object_id: dict[Column[Any], Column[Any]] = {}
    if columns.object_id is not None:
        key_column = columns.by_attribute[columns.key[0]]
        object_id[_untyped_copy(key_column, True, columns.object_id)] = key_column
    of_context = {
        Column[Any](column.name, nullable=column.nullable, key=column.key): column
        for column in options.context_columns
    }
    of_row = {
        _untyped_copy(
            columns.by_attribute[n], is_key=n in columns.key
        ): columns.by_attribute[n]
        for n in columns.stored
    }
    event_table = Table(
        name,
        metadata,
        # Those of a fixed length first, which wastes no bytes on alignment.
        *(
            _columns_of_every_event(options, shared)
            if options.distribute is None
            else _columns_of_distributed_events(distributed_by is None)
        ),
        *context.id_columns(),
        *object_id,
        Column("pgh_op", CHAR(1), nullable=False),
        Column("pgh_label", Text, nullable=False),
        *([Column(OLD_KEY, JSONB)] if columns.key else []),
        *([erased_column()] if options.is_erasable else []),
        *context.metadata_columns(),
        *of_context,
        *of_row,
        # Citus requires the column that it distributes a table by in each key.
        *(
            PrimaryKeyConstraint(event_column, "pgh_id")
            for event_column, column in of_row.items()
            if column is distributed_by
        ),
        schema=schema,
        comment=f"Events of {table.fullname}",
        **partition_options(options.partition_by),
    )
    for event_column, column in {**object_id, **of_context, **of_row}.items():
        _give_type(event_column, column)
    lookup = key_columns(columns, event_table)
    if lookup:
        _index(event_table, *lookup, event_table.c.pgh_id)
    # In the order of the feed, so that a page of it does not sort whole transactions.
    _index(event_table, event_table.c.pgh_xact_id, event_table.c.pgh_id)
    for name in options.index:
        column = event_table.columns[columns.column_name(name)]
        _index(event_table, column, event_table.c.pgh_id)
    sparse = [OLD_KEY] if columns.key else []
    sparse += [column.name for column in context.id_columns()]
    for name in sparse:
        is_set = text(f"{name} IS NOT NULL")
        _index(event_table, event_table.columns[name], postgresql_where=is_set)
    event_table.add_is_dependent_on(shared.context_table)
    return event_table


def _check_names(columns: TrackedColumns, options: TrackingOptions) -> None:
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
    taken = {*columns.by_attribute, *map(columns.column_name, columns.by_attribute)}
    for column in options.context_columns:
        if column.name in taken or column.name.startswith(PREFIX):
            raise DefinitionError(
                f"{columns.subject}: context column {column.name!r} has the name of a "
                "column of the event table; rename the key"
            )
    for option, names in (("index", options.index), ("erasable", options.erasable)):
        for name in names:
            if name not in columns.stored:
                known = dict.fromkeys(columns.stored)
                raise DefinitionError(
                    f"{columns.subject}: {option} names {name!r}, which is not tracked"
                    f"{suggestion(name, known)}"
                )
    if options.is_erasable and not columns.key:
        raise DefinitionError(
            f"{columns.subject} has no primary key, by which the events to erase would "
            "be found; leave out erasable and erasable_context"
        )
    for name in options.erasable:
        if name in columns.key:
            raise DefinitionError(
                f"{columns.subject}: erasable names {name!r}, a part of the key, by "
                "which events are found; give the table a key that tells nothing of a "
                "person, such as a number"
            )
        if refuses_null(columns.by_attribute[name].type):
            raise DefinitionError(
                f"{columns.subject}: erasable names {name!r}, whose DOMAIN is NOT NULL,"
                " and what is erased is NULL; make the column NOT NULL in place of the"
                " DOMAIN"
            )


def _index(event_table: Table, *columns: Column[Any], **options: Any) -> BatchedIndex:
    name = generated_name(
        event_table.metadata,
        "history_index",
        event_table_name=event_table.name,
        column_name=columns[0].name,
    )
    return BatchedIndex(name, *columns, **options)


def _columns_of_every_event(
    options: TrackingOptions, shared: SharedObjects
) -> list[Column[Any]]:
    return [
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


def _columns_of_distributed_events(has_key: bool) -> list[Column[Any]]:
    """Return the same columns for events that Citus distributes.

    Triggers give all values. A default would be that of whichever node writes.

    :param has_key: whether the number alone is the primary key.
    """
    return [
        Column(
            "pgh_id",
            BigInteger,
            primary_key=has_key,
            autoincrement=False,
            nullable=False,
        ),
        Column("pgh_created_at", DateTime(timezone=True), nullable=False),
        Column("pgh_xact_id", BigInteger, nullable=False),
    ]


def _distribution_column(
    columns: TrackedColumns, options: TrackingOptions
) -> Column[Any] | None:
    """Return the column by which Citus distributes a tracked table.

    :return: None, if it does not distribute the rows of the table.
    :raises DefinitionError: the option names no attribute of the key.
    """
    name = options.distribute
    if not isinstance(name, str):
        return None
    if name not in columns.key:
        known = dict.fromkeys(columns.key)
        raise DefinitionError(
            f"{columns.subject}: distribute names {name!r}, which is not an attribute "
            "of the primary key, as Citus requires of the column that it distributes a "
            f"table by{suggestion(name, known)}"
        )
    return columns.by_attribute[name]


def add_event_column(event_table: Table, column: Column[Any]) -> Column[Any]:
    """Add the column of a tracked one to an event table that is made already.

    :return: the event table's column.
    """
    event_column = _untyped_copy(column, is_key=False)
    event_table.append_column(event_column)
    _give_type(event_column, column)
    return event_column


def _untyped_copy(
    column: Column[Any], is_key: bool, name: str | None = None
) -> Column[Any]:
    if isinstance(column.type, NullType) and column.foreign_keys:
        return _Following(name or column.name, column, nullable=not is_key)
    return Column(name or column.name, nullable=not is_key)


def _give_type(event_column: Column[Any], column: Column[Any]) -> None:
    """Give a column of an event table the type of another, and nothing else.

    It is the same object, since a type with a name (ENUM, DOMAIN) is one object in the
    database; or a type around it, which reads NULL where the other column has none.
    The column is in its table before it has the type: a listener that looks
    for columns of a type, as GeoAlchemy2's does to make them NOT NULL and to index
    them, does not find it.
    """
    if isinstance(event_column, _Following):
        return
    type_ = column.type
    if event_column.nullable and not column.nullable:
        type_ = nullable_type(type_)
    if not _has_ddl(type_):
        event_column.type = type_
        return
    table, nullable = event_column.table, event_column.nullable
    constraints, indexes = set(table.constraints), set(table.indexes)
    # The event table is created first, so it creates the ENUM or the DOMAIN.
    event_column._set_type(type_)
    event_column.nullable = nullable
    table.constraints.intersection_update(constraints)
    table.indexes.intersection_update(indexes)


def _has_ddl(type_: TypeEngine[Any]) -> bool:
    """Return whether a type, or one inside of it, is created with its table."""
    if isinstance(type_, TypeDecorator):
        return _has_ddl(type_.impl_instance)
    if isinstance(type_, ARRAY):
        return _has_ddl(type_.item_type)
    variants = type_._variant_mapping.values()
    return isinstance(type_, SchemaType) or any(map(_has_ddl, variants))


class _Following(Column[Any]):
    """A column that always has the type that another column has now.

    A column without a type gets that of the column that its foreign key refers to, once
    that one's table is defined.
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
    return {*EVENT_COLUMNS} <= {*table.columns.keys()}


def key_columns(columns: TrackedColumns, event_table: Table) -> list[Column[Any]]:
    """Return the columns that hold the key of an event's row.

    :return: in the order of the key; none, if the tracked table has no primary key.
    """
    names = [columns.object_id] if columns.object_id else []
    names = names or [columns.column_name(name) for name in columns.key]
    return [event_table.columns[name] for name in names]
