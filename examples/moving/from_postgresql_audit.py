"""Make the activities of postgresql-audit events of sa_history.

``DATABASE_URL=... python from_postgresql_audit.py app.models:Base``, where the models
are tracked and their event tables are there and empty.
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
    ARRAY,
    BigInteger,
    Connection,
    DateTime,
    FromClause,
    MetaData,
    Table,
    Text,
    and_,
    case,
    cast,
    column,
    func,
    literal_column,
    null,
    select,
    table,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB

SCHEMA = None
"""The argument ``schema_name`` of ``VersioningManager``."""

KEYS = {"actor_id": "user", "client_addr": "remote"}
"""Names of columns of transactions, and the keys that contexts have for them."""

# They are not reflected, since SQLAlchemy does not know the type xid8.
TRANSACTION = table(
    "transaction",
    column("id", BigInteger),
    column("issued_at", DateTime),
    schema=SCHEMA,
)
ACTIVITY = table(
    "activity",
    column("id", BigInteger),
    column("schema_name", Text),
    column("table_name", Text),
    column("issued_at", DateTime),
    column("native_transaction_id"),
    column("verb", Text),
    column("old_data", JSONB),
    column("changed_data", JSONB),
    column("transaction_id", BigInteger),
    schema=SCHEMA,
)


def move(connection: Connection, metadata: MetaData) -> int:
    """Move contexts and activities, and return the number of activities."""
    known = func.to_jsonb(literal_column('"transaction"'))
    internal = ["id", "issued_at", "native_transaction_id"]
    columns = context_columns("postgresql-audit", TRANSACTION, known, internal, KEYS)
    contexts = select(TRANSACTION.c.id.label("number"), *columns).subquery()
    versions = [
        versions_of(connection, tracked, contexts)
        for tracked in tracked_tables(metadata)
    ]
    count = write_events(connection, versions)
    write_contexts(connection, metadata, contexts)
    return count


def versions_of(
    connection: Connection, tracked: Table, contexts: FromClause
) -> Versions:
    """Return the activities of a table's rows."""
    op = case({"insert": "I", "update": "U", "delete": "D"}, value=ACTIVITY.c.verb)
    old, new = ACTIVITY.c.old_data, ACTIVITY.c.changed_data
    # Values come from JSON as PostgreSQL reads it into a row of the table.
    row_type = connection.dialect.identifier_preparer.format_table(tracked)
    stored = func.jsonb_populate_record(
        literal_column(f"CAST(NULL AS {row_type})"), old.op("||")(new)
    ).table_valued(*(column(c.name, c.type) for c in tracked.c), name="stored")
    key = [c.name for c in tracked.primary_key]
    moved = and_(op == "U", new.op("?|")(cast(key, ARRAY(Text))))
    rows = (
        select(
            ACTIVITY.c.id.label("pgh_position"),
            op.label("pgh_op"),
            # It is in UTC, without saying so.
            func.timezone("UTC", ACTIVITY.c.issued_at).label("pgh_created_at"),
            cast(cast(ACTIVITY.c.native_transaction_id, Text), BigInteger).label(
                "pgh_xact_id"
            ),
            contexts.c.pgh_context_id,
            contexts.c.pgh_context,
            case(
                (moved, func.jsonb_build_array(*(old[name] for name in key))),
                else_=cast(null(), JSONB),
            ).label("pgh_old_key"),
            *stored.c,
        )
        .select_from(ACTIVITY)
        .outerjoin(contexts, contexts.c.number == ACTIVITY.c.transaction_id)
        .join(stored, true())
        .where(
            ACTIVITY.c.table_name == tracked.name,
            ACTIVITY.c.schema_name == (tracked.schema or func.current_schema()),
        )
    )
    return Versions(tracked, rows)


if __name__ == "__main__":
    main(move)
