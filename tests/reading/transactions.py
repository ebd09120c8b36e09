"""Statements in transactions of their own, and the rows of tables, for tests."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Text, func, select
from sqlalchemy.orm import Session


def rows(session: Session, *tables: Any) -> list[Any]:
    return [
        tuple(row)
        for table in tables
        for row in session.execute(select(table).order_by(*table.c))
    ]


def commit(session: Session, *statements: Any) -> int:
    """Execute statements in a transaction, and return its number."""
    for statement in statements:
        session.execute(statement)
    number = session.scalar(select(func.pg_current_xact_id().cast(Text)))
    session.commit()
    return int(number)


def run(session: Session, *statements: Any) -> None:
    """Execute each statement in a transaction of its own."""
    for statement in statements:
        session.execute(statement)
        session.commit()
