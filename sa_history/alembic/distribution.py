"""What a revision has Citus distribute, between the tables and their triggers."""

from __future__ import annotations

from sqlalchemy import Connection, MetaData

from sa_history.alembic.operations import HistoryOp
from sa_history.ddl.citus import LOCAL, distribute, read_placements
from sa_history.ddl.execution import REFUSE_TRIGGERS, SEQUENTIAL, read_server
from sa_history.sql.compose import Qualified, SchemaNames
from sa_history.tracking.registry import trackings_in


def one_node_after_another(
    connection: Connection, metadatas: list[MetaData]
) -> list[HistoryOp]:
    """Return what has to come before operations on tables, such as a new column.

    Citus changes the shards of a table at once, and refuses to replace a function in a
    transaction after that. Operations on functions see to it by themselves, which comes
    first when a revision is taken back.

    :return: nothing, if the database has no Citus or none of the tables is distributed.
    """
    is_needed = any(tracking.is_distributed for tracking in trackings_in(*metadatas))
    if not is_needed or not read_server(connection).has_citus:
        return []
    what = "have Citus change one shard after another"
    return [HistoryOp(what, [SEQUENTIAL], (what, []))]


def distributions(
    connection: Connection, metadatas: list[MetaData], schemas: SchemaNames
) -> list[HistoryOp]:
    """Return the operations that distribute tables and their events.

    Nothing takes them back: the downgrade drops the tables, or they stay as they are.

    :param schemas: gives the name in the database of a schema of the models.
    :return: none if all are distributed, or the database has no Citus.
    """
    wanted = [
        (tracking, column)
        for tracking in trackings_in(*metadatas)
        for column in [tracking.distributed_by]
        if column is not None
    ]
    if not wanted or not read_server(connection).has_citus:
        return []
    tables = [table for t, _ in wanted for table in (t.table, t.event_table)]
    placements = read_placements(connection, [schemas(t.schema) for t in tables])
    operations = []
    for tracking, column in wanted:
        tracked, events = (
            (name, placements.get(name, LOCAL))
            for table in (tracking.table, tracking.event_table)
            for name in [Qualified.of(table, schemas)]
        )
        statements = distribute(tracked, events, column)
        if statements:
            what = f"{tracked[0].schema}.{tracked[0].name} and its events by {column}"
            made = [statement.render(schemas) for statement in statements]
            operations.append(
                HistoryOp(
                    f"distribute {what}",
                    [REFUSE_TRIGGERS, *made],
                    (f"leave {what} as they are", []),
                )
            )
    return operations
