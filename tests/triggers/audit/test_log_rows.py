"""Whatever changes a row leaves a row in the log, with the operation and the key.

Each way to write changes the balance of the row 2, and adds the row 3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Column, ForeignKey, Integer, Table, delete, insert, text, update
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.orm import DeclarativeBase, Session

from sa_history import Audit, Delete, Update, attach
from tests.triggers.audit.helpers import row

Logged = Callable[..., list[Any]]
CreateAll = Callable[[], None]
Way = Callable[[Session, Any], object]


def test_each_change_has_its_operation_key_and_rows(
    account: Any, pg_session: Session, logged: Logged
) -> None:
    ann = account(id=1, owner="ann", balance=10)
    pg_session.add(ann)
    pg_session.flush()
    ann.balance = 5
    pg_session.flush()
    pg_session.delete(ann)
    pg_session.commit()
    assert logged() == [
        ("INSERT", {"id": 1}, None, row(1, 10)),
        ("UPDATE", {"id": 1}, row(1, 10), row(1, 5)),
        ("DELETE", {"id": 1}, row(1, 5), None),
    ]
    assert set(logged("table_schema", "table_name")) == {("public", "account")}


def test_rows_tell_when_and_in_which_transaction(
    account: Any, pg_session: Session, logged: Logged
) -> None:
    pg_session.add(account(id=1, owner="ann", balance=10))
    pg_session.flush()
    begun, number = pg_session.execute(
        text("SELECT now(), pg_current_xact_id()::text::bigint")
    ).one()
    pg_session.commit()
    assert logged("created_at", "xact_id", "id") == [(begun, number, 1)]


def test_what_is_rolled_back_is_not_logged(
    accounts: Any, pg_session: Session, logged: Logged
) -> None:
    point = pg_session.begin_nested()
    pg_session.execute(delete(accounts))
    point.rollback()
    pg_session.execute(update(accounts).where(accounts.id == 2).values(balance=3))
    pg_session.commit()
    pg_session.execute(delete(accounts))
    pg_session.rollback()
    assert logged() == [("UPDATE", {"id": 2}, row(2, 2), row(2, 3))]


def by_flush(session: Session, account: Any) -> None:
    session.get(account, 2).balance = 20
    session.flush()
    session.add(account(id=3, owner="bob", balance=30))
    session.flush()


def by_upsert(session: Session, account: Any) -> None:
    rows = [row(2, 20), row(3, 30, "bob")]
    statement = pg.insert(account).values(rows)
    changes = {"balance": statement.excluded.balance}
    session.execute(
        statement.on_conflict_do_update(index_elements=["id"], set_=changes)
    )


def by_merge(session: Session, account: Any) -> None:
    session.execute(
        text(
            "MERGE INTO account a USING (VALUES (1, 1), (2, 20), (3, 30)) v (id, b)"
            " ON a.id = v.id WHEN MATCHED AND a.balance <> v.b THEN"
            " UPDATE SET balance = v.b"
            " WHEN NOT MATCHED THEN INSERT VALUES (v.id, 'bob', v.b)"
        )
    )


def by_executemany(session: Session, account: Any) -> None:
    connection = session.connection()
    statement = "UPDATE account SET balance = %s WHERE id = %s"
    connection.exec_driver_sql(statement, [(20, 2), (1, 1)])
    statement = "INSERT INTO account VALUES (%s, %s, %s)"
    connection.exec_driver_sql(statement, [(3, "bob", 30)])


def by_copy(session: Session, account: Any) -> None:
    driver: Any = session.connection().connection.driver_connection
    driver.execute("UPDATE account SET balance = id * 10 WHERE id = 2")
    with driver.cursor().copy("COPY account FROM STDIN") as copy:
        copy.write_row((3, "bob", 30))


def by_one_statement(session: Session, account: Any) -> None:
    session.execute(
        text(
            "WITH changed AS (UPDATE account SET balance = 20 WHERE id = 2)"
            " INSERT INTO account VALUES (3, 'bob', 30)"
        )
    )


@pytest.mark.parametrize(
    "way", [by_flush, by_upsert, by_merge, by_executemany, by_copy, by_one_statement]
)
def test_whatever_writes_is_logged(
    way: Way, accounts: Any, pg_session: Session, logged: Logged
) -> None:
    way(pg_session, accounts)
    pg_session.commit()
    # A statement that does both tells of them in an order of PostgreSQL's own.
    assert sorted(logged(), key=str) == [
        ("INSERT", {"id": 3}, None, row(3, 30, "bob")),
        ("UPDATE", {"id": 2}, row(2, 2), row(2, 20)),
    ]


def test_rows_of_a_statement_are_logged_in_their_order(
    account: Any, pg_session: Session, logged: Logged
) -> None:
    numbers = "SELECT n, 'ann', n FROM generate_series(1, 500) AS n ORDER BY n"
    pg_session.execute(text(f"INSERT INTO account {numbers}"))
    pg_session.commit()
    assert [key["id"] for key in logged("key")] == [*range(1, 501)]


def test_update_that_changes_nothing_leaves_no_row(
    accounts: Any, pg_session: Session, logged: Logged
) -> None:
    pg_session.execute(update(accounts).values(balance=accounts.balance))
    pg_session.execute(update(accounts).where(accounts.id == 0).values(balance=0))
    pg_session.execute(delete(accounts).where(accounts.id == 0))
    pg_session.execute(update(accounts).values(balance=2))
    pg_session.commit()
    assert logged() == [("UPDATE", {"id": 1}, row(1, 1), row(1, 2))]


def test_changed_keys_keep_the_old_and_the_new_row_together(
    accounts: Any, pg_session: Session, logged: Logged
) -> None:
    pg_session.execute(text("UPDATE account SET id = 30 - id * 10"))
    pg_session.commit()
    assert logged() == [
        ("UPDATE", {"id": 20}, row(1, 1), row(20, 1)),
        ("UPDATE", {"id": 10}, row(2, 2), row(10, 2)),
    ]


def test_truncate_leaves_a_row_for_each(
    accounts: Any, pg_session: Session, logged: Logged
) -> None:
    pg_session.execute(text("TRUNCATE account"))
    pg_session.commit()
    assert logged() == [
        ("TRUNCATE", {"id": 1}, row(1, 1), None),
        ("TRUNCATE", {"id": 2}, row(2, 2), None),
    ]


def test_cascades_are_logged(
    base: type[DeclarativeBase],
    log: Table,
    level: str,
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
) -> None:
    parent = Table("parent", base.metadata, Column("id", Integer, primary_key=True))
    reference = ForeignKey("parent.id", ondelete="CASCADE", onupdate="CASCADE")
    child = Table(
        "child",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("parent_id", reference),
    )
    attach(Audit(into=log, level=level, operation=Update | Delete))(child)
    create_all()
    pg_session.execute(insert(parent).values(id=1))
    pg_session.execute(insert(child).values(id=1, parent_id=1))
    pg_session.execute(update(parent).values(id=2))
    pg_session.execute(delete(parent))
    pg_session.commit()
    first, second = {"id": 1, "parent_id": 1}, {"id": 1, "parent_id": 2}
    assert logged() == [
        ("UPDATE", {"id": 1}, first, second),
        ("DELETE", {"id": 1}, second, None),
    ]
