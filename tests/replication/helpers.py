"""What is in a database with history, to be compared with another."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, select

from sa_history import AggregateEvent


def everything(engine: Engine, account: Any) -> list[tuple[Any, ...]]:
    """Return all that a database has, row by row, and the diffs."""
    statements = [
        select(table).order_by(*table.primary_key)
        for table in account.metadata.sorted_tables
    ]
    with engine.connect() as connection:
        return [
            tuple(row)
            for statement in (*statements, AggregateEvent.select(account))
            for row in connection.execute(statement)
        ]
