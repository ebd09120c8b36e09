"""Statements in transactions of their own, and the rows of tables, for tests."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Text, func, select, text
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


def settle(session: Session) -> None:
    """Wait for the transactions of other tests, which are in the same cluster.

    The feed gives an event once all transactions with a smaller number have ended.
    """
    number = session.scalar(text("SELECT pg_current_xact_id()::text::bigint"))
    session.commit()
    horizon = text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
    while session.scalar(horizon) <= number:
        session.rollback()
    session.rollback()
