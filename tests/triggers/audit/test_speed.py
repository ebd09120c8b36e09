"""A bulk update is as fast on a connection that was used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import URL, Connection, NullPool, create_engine, text

import sa_history as history
from sa_history import Update, new, old
from tests.bulk_updates import best_seconds

CreateAll = Callable[[], None]

ROWS = 20_000


@pytest.fixture
def connect(
    make: Callable[..., Any], create_all: CreateAll, pg_url: URL
) -> Callable[[], Connection]:
    """Open new connections to a database with an audited table of many rows."""
    account = make(operation=Update, condition=new.balance < old.balance)
    create_all()
    engine = create_engine(pg_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection, history.ignore(connection, account):
        numbers = f"SELECT n, 'x', n FROM generate_series(1, {ROWS}) n"
        connection.execute(text(f"INSERT INTO account {numbers}"))
    return engine.connect


def test_bulk_update_is_as_fast_after_single_rows_as_on_a_fresh_connection(
    connect: Callable[[], Connection],
) -> None:
    fresh, warmed = best_seconds(
        connect,
        "UPDATE account SET balance = balance + 1 WHERE id = %s",
        "UPDATE account SET balance = balance - 1",
        clean=["TRUNCATE audit_log", "VACUUM ANALYZE account"],
        singles=50,
        rounds=2,
    )
    assert warmed <= 3 * fresh
