"""A connection that has changed single rows goes on to change many at full speed.

PL/pgSQL keeps the plan of a statement that it made first. One that was made while a
transition table held one row, and that joins by a nested loop, takes minutes for
20,000 rows: hence a test of time, the only one. One that was made while there was no
context reads all of them for each that is stored later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import URL, Connection, NullPool, create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import sa_history as history
from sa_history import AfterDelete, AfterUpdate, Snapshot, new, old, track
from tests.bulk_updates import best_seconds

ROWS = 20_000
WARMING = 50


@pytest.fixture
def connect(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    level: str,
    pg_url: URL,
) -> Callable[[], Connection]:
    """Open new connections to a database with a tracked table of many rows."""

    @track(
        Snapshot,
        AfterUpdate(new.balance < old.balance - 1, label="dropped"),  # compares only
        AfterDelete,
        level=level,
    )
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        balance: Mapped[int]

    create_all()
    engine = create_engine(pg_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        rows = f"SELECT n, 'x', n FROM generate_series(1, {ROWS}) n"
        connection.execute(text(f"INSERT INTO account {rows}"))
    return engine.connect


CLEAN = ("TRUNCATE account_event", "VACUUM ANALYZE account")


def test_bulk_update_is_as_fast_after_single_rows_as_on_a_fresh_connection(
    connect: Callable[[], Connection],
) -> None:
    fresh, warmed = best_seconds(
        connect,
        "UPDATE account SET balance = balance + 1 WHERE id = %s",
        "UPDATE account SET balance = balance - 1",
        clean=CLEAN,
        singles=WARMING,
        rounds=3,
    )
    assert warmed <= 3 * fresh


def test_a_context_is_looked_for_by_its_index_also_if_there_was_none_at_first(
    connect: Callable[[], Connection],
) -> None:
    with connect() as connection:
        for statement in (*CLEAN, "VACUUM ANALYZE pghistory_context"):
            connection.execute(text(statement))
    with connect() as connection:
        driver: Any = connection.connection.driver_connection
        with driver.transaction():
            for number in range(WARMING):
                with history.context(connection, number=number):
                    driver.execute(
                        "UPDATE account SET balance = balance + 1 WHERE id = 1"
                    )
            reads = driver.execute(
                "SELECT seq_scan, idx_scan > 0 FROM pg_stat_xact_user_tables"
                " WHERE relname = 'pghistory_context'"
            ).fetchone()
    assert reads == (0, True)
