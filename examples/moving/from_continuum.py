"""Make the versions of SQLAlchemy-Continuum events of sa_history.

``DATABASE_URL=... python from_continuum.py app.models:Base``, where the models are
tracked and their event tables are there and empty.
"""

from __future__ import annotations

from moved_events import (
    Versions,
    context_columns,
    main,
    tracked_tables,
    write_contexts,
    write_events,
)
from sqlalchemy import (
    Connection,
    FromClause,
    MetaData,
    Table,
    case,
    cast,
    func,
    inspect,
    literal_column,
    null,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB

# Options of make_versioned(), if they are not those that it has by default.
VERSION_TABLE = "%s_version"
TRANSACTION_ID = "transaction_id"
OPERATION_TYPE = "operation_type"

KEYS = {"user_id": "user", "remote_addr": "remote"}
"""Names of columns of transactions, and the keys that contexts have for them."""


def move(connection: Connection, metadata: MetaData) -> int:
    """Move contexts and versions, and return the number of versions."""
    reflected = MetaData()
    names = set(inspect(connection).get_table_names())
    transactions = Table("transaction", reflected, autoload_with=connection)
    meta = None
    if "transaction_meta" in names:  # of the plugin TransactionMetaPlugin
        meta = Table("transaction_meta", reflected, autoload_with=connection)
    contexts = contexts_of(transactions, meta)
    versions = []
    for table in tracked_tables(metadata):
        name = VERSION_TABLE % table.name
        if inspect(connection).has_table(name, schema=table.schema):
            of_table = Table(
                name, reflected, schema=table.schema, autoload_with=connection
            )
            versions.append(versions_of(table, of_table, contexts))
    count = write_events(connection, versions)
    write_contexts(connection, metadata, contexts)
    return count


def contexts_of(transactions: Table, meta: Table | None) -> FromClause:
    """Return a SELECT of the transactions, each with the context to store of it."""
    known = func.to_jsonb(literal_column('"transaction"'))
    if meta is not None:
        pairs = select(func.jsonb_object_agg(meta.c.key, meta.c.value))
        its = pairs.where(meta.c.transaction_id == transactions.c.id)
        empty = func.jsonb_build_object()
        known = known.op("||")(func.coalesce(its.scalar_subquery(), empty))
    internal = ["id", "issued_at"]
    columns = context_columns(
        "sqlalchemy-continuum", transactions, known, internal, KEYS
    )
    return select(transactions.c.id.label("pgh_xact_id"), *columns).subquery()


def versions_of(table: Table, versions: Table, contexts: FromClause) -> Versions:
    """Return the versions of a table's rows."""
    op = case({0: "I", 1: "U", 2: "D"}, value=versions.c[OPERATION_TYPE])
    transaction = versions.c[TRANSACTION_ID]
    key = [versions.c[column.name] for column in table.primary_key]
    values = []
    for column in table.c:
        if column.name in versions.c:
            value = versions.c[column.name]
            # The event of a deletion is the row that was there. NullDeletePlugin leaves
            # nothing of it.
            before = func.lag(value).over(partition_by=key, order_by=transaction)
            deleted = case((op == "D", func.coalesce(before, value)), else_=value)
            values.append(deleted.label(column.name))
    rows = select(
        transaction.label("pgh_position"),
        op.label("pgh_op"),
        contexts.c.pgh_created_at,
        contexts.c.pgh_xact_id,
        contexts.c.pgh_context_id,
        contexts.c.pgh_context,
        cast(null(), JSONB).label("pgh_old_key"),
        *values,
    ).join_from(versions, contexts, contexts.c.pgh_xact_id == transaction)
    return Versions(table, rows)


if __name__ == "__main__":
    main(move)
