"""Each way to update rows is recorded; the balances 10, 20, 30 become 11, -1, 30."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

import sa_history as history
from tests.db.ways_to_write.helpers import BY, driver_cursor

Contexts = Callable[[], list[object]]
Way = Callable[[Session, Any], object]


def update_by_flush(session: Session, account: Any) -> None:
    session.get(account, 1).balance = 11
    session.get(account, 2).balance = -1
    session.get(account, 3).balance = 30
    session.flush()


def update_by_core(session: Session, account: Any) -> None:
    for key, balance in ((1, 11), (2, -1), (3, 30)):
        table = account.__table__
        session.execute(update(table).where(table.c.id == key).values(balance=balance))


def update_by_orm(session: Session, account: Any) -> None:
    becomes = text("CASE id WHEN 1 THEN 11 WHEN 2 THEN -1 ELSE balance END")
    session.execute(update(account).values(balance=becomes))


def update_in_bulk(session: Session, account: Any) -> None:
    rows = [(1, 11), (2, -1), (3, 30)]
    session.execute(update(account), [{"id": i, "balance": b} for i, b in rows])


def update_by_text(session: Session, account: Any) -> None:
    rows = "(VALUES (1, 11), (2, :low), (3, 30)) AS v(id, b)"
    statement = f"UPDATE account a SET balance = v.b FROM {rows} WHERE a.id = v.id"
    session.execute(text(statement), {"low": -1})


def update_by_executemany(session: Session, account: Any) -> None:
    session.connection().exec_driver_sql(
        "UPDATE account SET balance = %s WHERE id = %s", [(11, 1), (-1, 2), (30, 3)]
    )


def update_by_driver_cursor(session: Session, account: Any) -> None:
    driver_cursor(session).execute(
        "WITH first AS (UPDATE account SET balance = 11 WHERE id = 1)"
        " UPDATE account SET balance = -1 WHERE id = 2"
    )


def update_on_conflict(session: Session, account: Any) -> None:
    statement = postgresql.insert(account).values(
        [{"id": i, "balance": b} for i, b in ((1, 11), (2, -1), (3, 30))]
    )
    becomes = {"balance": statement.excluded.balance}
    session.execute(
        statement.on_conflict_do_update(index_elements=["id"], set_=becomes)
    )


def update_by_merge(session: Session, account: Any) -> None:
    session.execute(
        text(
            "MERGE INTO account a USING (VALUES (1, 11), (2, -1), (3, 30)) AS v(id, b)"
            " ON a.id = v.id WHEN MATCHED THEN UPDATE SET balance = v.b"
        )
    )


@pytest.mark.parametrize(
    "way",
    [
        update_by_flush,
        update_by_core,
        update_by_orm,
        update_in_bulk,
        update_by_text,
        update_by_executemany,
        update_by_driver_cursor,
        update_on_conflict,
        update_by_merge,
    ],
)
def test_update_is_recorded_where_it_changes_the_row_and_meets_the_condition(
    way: Way,
    accounts: Any,
    pg_session: Session,
    events_by_row: Callable[[], list[Any]],
    contexts: Contexts,
) -> None:
    with history.context(pg_session, **BY):
        way(pg_session, accounts)
        pg_session.commit()
    assert events_by_row() == [
        ("snapshot", "U", 1, 11, BY),
        ("snapshot", "U", 2, -1, BY),
        ("low", "U", 2, -1, BY),
    ]
    assert contexts() == [BY]
