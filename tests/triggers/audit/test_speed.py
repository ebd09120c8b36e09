"""A bulk update is as fast on a connection that was used."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import URL, Connection, NullPool, create_engine, text

import sa_history as history
from sa_history import Update, new, old

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
    """As in tests/db/test_plan_cliff.py."""
    fresh: list[float] = []
    warmed: list[float] = []
    for _ in range(2):
        for seconds in (fresh, warmed):
            with connect() as connection:
                connection.execute(text("TRUNCATE audit_log"))
                connection.execute(text("VACUUM ANALYZE account"))
            with connect() as connection:
                driver: Any = connection.connection.driver_connection
                for number in range(50 if seconds is warmed else 0):
                    driver.execute(
                        "UPDATE account SET balance = balance + 1 WHERE id = %s",
                        (number + 1,),
                        prepare=True,
                    )
                connection.execute(text("SET statement_timeout = '10s'"))
                start = time.perf_counter()
                connection.execute(text("UPDATE account SET balance = balance - 1"))
                seconds.append(time.perf_counter() - start)
    assert min(warmed) <= 3 * min(fresh)
