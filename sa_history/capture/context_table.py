"""The context table, and what else all event tables of a MetaData share.

A sequence and the shared functions are created and dropped with the context table, so
``create_all``, ``drop_all`` and ``Table.create`` do that by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Index,
    MetaData,
    Sequence,
    Table,
    Uuid,
    event,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from sa_history.capture.partitioning import ContextPartitioning
from sa_history.ddl import elements as ddl
from sa_history.ddl.elements import PGFunction
from sa_history.ddl.execution import (
    create_objects,
    drop_objects,
    execute_statements,
    run_memo,
)
from sa_history.exc import AppendOnlyError, ContextRequiredError
from sa_history.sql import functions as bodies
from sa_history.sql.compose import Qualified
from sa_history.sql.naming import generated_name, require_new_table
from sa_history.util.postgresql import require_postgresql

CONTEXT_COMMENT = "Who made changes, and why: one row per context that made one"
"""The comment of every context table, by which a reflected one is known."""


@dataclass(frozen=True, eq=False)
class SharedObjects:
    """The objects that every event table of a MetaData uses.

    :param context_table: the table with one row for each context that made an event.
    :param sequence: the sequence that numbers the events of all tables.
    """

    context_table: Table
    sequence: Sequence

    @property
    def partitioning(self) -> ContextPartitioning | None:
        """How the context table is partitioned; None if it is not."""
        options = self.context_table.dialect_options["postgresql"]
        if options["partition_by"] is None:
            return None
        return ContextPartitioning(self.context_table)

    def partition_contexts(self) -> None:
        """Partition the context table, as an event table is whose contexts it has."""
        by = ContextPartitioning(self.context_table).partitioned.partition_by
        self.context_table.kwargs["postgresql_partition_by"] = by

    def function_name(self, function: str) -> Qualified:
        """Return the name of one of the shared functions, such as ``"attach"``."""
        table = self.context_table
        name = generated_name(
            table.metadata,
            "history_shared_function",
            context_table_name=table.name,
            function=function,
        )
        return Qualified(table.schema, name)

    @property
    def attach_context(self) -> Qualified:
        """The function that stores the current context and returns its id."""
        return self.function_name("attach")

    @property
    def context_value(self) -> Qualified:
        """The function that returns the value of a key of the current context."""
        return self.function_name("value")

    @property
    def append_only(self) -> Qualified:
        """The trigger function of append-only event tables."""
        return self.function_name("append_only")

    def pg_sequence(self) -> ddl.PGSequence:
        """Return the sequence as an object of the database."""
        return ddl.PGSequence(Qualified(self.sequence.schema, self.sequence.name))

    def functions(self) -> tuple[PGFunction, ...]:
        """Return the shared functions as objects of the database."""
        table = Qualified(self.context_table.schema, self.context_table.name)
        return (
            PGFunction(
                self.attach_context,
                bodies.attach_context(table),
                returns="uuid",
                by_index=True,
            ),
            PGFunction(
                self.context_value,
                bodies.context_value(ContextRequiredError.sqlstate),
                arguments="key text, required boolean, as_json boolean,"
                " in_schema name, in_table name",
                returns="text",
            ),
            PGFunction(self.append_only, bodies.append_only(AppendOnlyError.sqlstate)),
        )


def is_context_table(table: Table) -> bool:
    """Return whether a table, maybe a reflected one, is a context table."""
    return table.comment == CONTEXT_COMMENT


def create_shared_objects(metadata: MetaData) -> SharedObjects:
    """Add the context table to a MetaData.

    :return: the table, with the sequence that is created with it.
    :raises DefinitionError: the MetaData has a table of its name.
    """
    name = generated_name(metadata, "history_context_table")
    require_new_table(
        metadata,
        name,
        "is to be the context table; leave it and the event tables out",
    )
    timestamp = DateTime(timezone=True)
    table = Table(
        name,
        metadata,
        Column("id", Uuid, primary_key=True),
        Column("created_at", timestamp, nullable=False, server_default=func.now()),
        Column("updated_at", timestamp, nullable=False, server_default=func.now()),
        Column("metadata", JSONB, nullable=False),
        Column("parent_id", Uuid),
        comment=CONTEXT_COMMENT,
    )
    # To find what a user did. Its statistics matter: from them PostgreSQL knows whether
    # to begin with the user's contexts or with the newest events.
    Index(
        generated_name(
            metadata,
            "history_index",
            event_table_name=name,
            column_name="user",
        ),
        table.c.metadata["user"].astext,
    )
    # To find what was done within a context; most have none around them.
    Index(
        generated_name(
            metadata,
            "history_index",
            event_table_name=name,
            column_name="parent_id",
        ),
        table.c.parent_id,
        postgresql_where=text("parent_id IS NOT NULL"),
    )
    sequence = Sequence(
        generated_name(metadata, "history_sequence", context_table_name=name),
        # Without the MetaData: drop_all(tables=[...]) drops every sequence of a
        # MetaData, also one that tables use that stay.
        schema=metadata.schema,
        data_type=BigInteger,
    )
    shared = SharedObjects(table, sequence)

    @event.listens_for(table, "before_create")
    def create_sequence(_: Table, connection: Connection, **options: Any) -> None:
        require_postgresql(connection)
        create_objects(connection, shared.pg_sequence(), memo=run_memo(options))

    @event.listens_for(table, "after_create")
    def create_functions(_: Table, connection: Connection, **options: Any) -> None:
        memo = run_memo(options)
        if shared.partitioning is not None:
            execute_statements(connection, shared.partitioning.first(), memo)
        create_objects(connection, *shared.functions(), memo=memo)

    @event.listens_for(table, "before_drop")
    def drop_sequence(_: Table, connection: Connection, **options: Any) -> None:
        # Before all else: while an event table of another MetaData uses the sequence,
        # PostgreSQL refuses to drop it, and nothing is lost.
        drop_objects(connection, shared.pg_sequence(), memo=run_memo(options))

    @event.listens_for(table, "after_drop")
    def drop_functions(_: Table, connection: Connection, **options: Any) -> None:
        drop_objects(connection, *shared.functions(), memo=run_memo(options))

    return shared
