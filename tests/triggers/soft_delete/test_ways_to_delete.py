"""Whatever deletes rows marks them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from sqlalchemy import (
    URL,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    delete,
    func,
    insert,
    text,
)

from sa_history import SoftDelete, attach

Stored = Callable[..., list[tuple[Any, ...]]]


def delete_in_bulk(connection: Connection, account: Any) -> Any:
    return connection.execute(delete(account.__table__).where(account.id < 3)).rowcount


def delete_by_text(connection: Connection, account: Any) -> Any:
    return connection.execute(text("DELETE FROM account WHERE id IN (1, 2)")).rowcount


def delete_returning(connection: Connection, account: Any) -> Any:
    statement = delete(account.__table__).where(account.id < 3).returning(account.id)
    return len(connection.execute(statement).all())


def delete_using(connection: Connection, account: Any) -> Any:
    statement = "DELETE FROM account USING generate_series(1, 2) AS n WHERE id = n"
    return connection.execute(text(statement)).rowcount


def delete_by_merge(connection: Connection, account: Any) -> Any:
    statement = (
        "MERGE INTO account USING generate_series(1, 2) AS n ON id = n"
        " WHEN MATCHED THEN DELETE"
    )
    return connection.execute(text(statement)).rowcount


def delete_in_a_common_table_expression(connection: Connection, account: Any) -> Any:
    statement = (
        "WITH gone AS (DELETE FROM account WHERE id < 3 RETURNING id)"
        " SELECT count(*) FROM gone"
    )
    return connection.scalar(text(statement))


def delete_many(connection: Connection, account: Any) -> Any:
    statement = text("DELETE FROM account WHERE id = :id")
    return connection.execute(statement, [{"id": 1}, {"id": 2}]).rowcount


def delete_by_a_cursor(connection: Connection, account: Any) -> Any:
    connection.execute(text("DECLARE c CURSOR FOR SELECT FROM account FOR UPDATE"))
    deleted = 0
    for _ in range(2):
        connection.execute(text("FETCH c"))
        statement = text("DELETE FROM account WHERE CURRENT OF c")
        deleted += connection.execute(statement).rowcount
    return deleted


@pytest.mark.parametrize(
    "way",
    [
        delete_in_bulk,
        delete_by_text,
        delete_returning,
        delete_using,
        delete_by_merge,
        delete_in_a_common_table_expression,
        delete_many,
        delete_by_a_cursor,
    ],
)
def test_whatever_deletes_rows_marks_them_and_finds_none(
    accounts: Any, pg_engine: Engine, stored: Stored, way: Callable[..., Any]
) -> None:
    with pg_engine.begin() as connection:
        assert way(connection, accounts) == 0
    assert stored(accounts, "id", "is_active") == [(1, False), (2, False), (3, True)]


def test_merge_that_deletes_updates_and_inserts_does_all_three(
    accounts: Any, pg_engine: Engine, stored: Stored
) -> None:
    with pg_engine.begin() as connection:
        connection.execute(
            text(
                "MERGE INTO account USING generate_series(1, 4) AS n ON id = n"
                " WHEN MATCHED AND n = 1 THEN DELETE"
                " WHEN MATCHED THEN UPDATE SET name = 'm'"
                " WHEN NOT MATCHED THEN INSERT VALUES (n, 'i', true)"
            )
        )
    assert stored(accounts) == [
        (1, "a", False),
        (2, "m", True),
        (3, "m", True),
        (4, "i", True),
    ]


def test_an_update_in_the_same_statement_does_not_get_in_the_way(
    accounts: Any, pg_engine: Engine, stored: Stored
) -> None:
    with pg_engine.begin() as connection:
        connection.execute(
            text(
                "WITH renamed AS (UPDATE account SET name = 'b' WHERE id = 1)"
                " DELETE FROM account WHERE id = 2"
            )
        )
    assert stored(accounts) == [(1, "b", True), (2, "a", False), (3, "a", True)]


def test_truncate_deletes_for_good(
    accounts: Any, pg_engine: Engine, stored: Stored
) -> None:
    with pg_engine.begin() as connection:
        connection.execute(text("TRUNCATE account"))
    assert stored(accounts) == []


def test_a_rollback_takes_the_mark_away(
    accounts: Any, pg_engine: Engine, stored: Stored
) -> None:
    with pg_engine.connect() as connection:
        connection.execute(text("DELETE FROM account WHERE id = 1"))
        with connection.begin_nested() as savepoint:
            connection.execute(text("DELETE FROM account WHERE id = 2"))
            savepoint.rollback()
        connection.commit()
        connection.execute(text("DELETE FROM account WHERE id = 3"))
        connection.rollback()
    assert stored(accounts, "id", "is_active") == [(1, False), (2, True), (3, True)]


def test_the_driver_alone_marks_as_well(
    accounts: Any, pg_url: URL, stored: Stored
) -> None:
    url = pg_url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM account")
    assert stored(accounts, "is_active") == [(False,), (False,), (False,)]


def test_who_waits_for_another_deletion_leaves_its_mark(
    pg_engine: Engine, stored: Stored
) -> None:
    thing = Table(
        "thing",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("deleted_by", Text),
    )
    attach(SoftDelete("deleted_by", value=func.current_setting("app.who")))(thing)
    thing.metadata.create_all(pg_engine)
    waits = text("SELECT cardinality(pg_blocking_pids(:pid)) > 0")
    with (
        pg_engine.connect() as one,
        pg_engine.connect() as two,
        pg_engine.connect() as observer,
        ThreadPoolExecutor(1) as other,
    ):
        two.execution_options(isolation_level="READ COMMITTED")
        one.execute(insert(thing).values(id=1))
        one.commit()
        for who, connection in (("one", one), ("two", two)):
            connection.execute(text(f"SET app.who = '{who}'"))
        pid = two.scalar(text("SELECT pg_backend_pid()"))
        one.execute(delete(thing))
        waiting = other.submit(two.execute, delete(thing))
        while not observer.scalar(waits, {"pid": pid}):
            pass
        one.commit()
        assert waiting.result().rowcount == 0
        two.commit()
    assert stored(thing) == [(1, "one")]
