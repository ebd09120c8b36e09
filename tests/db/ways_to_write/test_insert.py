"""Each way to insert rows is recorded; each inserts (1, 10) and (2, -20)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

import sa_history as history
from tests.db.ways_to_write.helpers import BY, driver_cursor, insert_by_flush

Contexts = Callable[[], list[object]]
Way = Callable[[Session, Any], object]


def insert_by_core(session: Session, account: Any) -> None:
    rows = [{"id": 1, "balance": 10}, {"id": 2, "balance": -20}]
    session.execute(insert(account.__table__).values(rows))


def insert_in_bulk(session: Session, account: Any) -> None:
    rows = [{"id": 1, "balance": 10}, {"id": 2, "balance": -20}]
    session.execute(insert(account), rows)


def insert_from_select(session: Session, account: Any) -> None:
    number = func.generate_series(1, 2).column_valued("number")
    rows = select(number, 10 + (1 - number) * 30)
    session.execute(insert(account).from_select(["id", "balance"], rows))


def insert_by_text(session: Session, account: Any) -> None:
    session.execute(text("INSERT INTO account VALUES (1, 10), (2, :b)"), {"b": -20})


def insert_by_driver_sql(session: Session, account: Any) -> None:
    connection = session.connection()
    connection.exec_driver_sql("INSERT INTO account VALUES (1, 10), (2, -20)")


def insert_by_executemany(session: Session, account: Any) -> None:
    session.connection().exec_driver_sql(
        "INSERT INTO account VALUES (%s, %s)", [(1, 10), (2, -20)]
    )


def insert_by_driver_cursor(session: Session, account: Any) -> None:
    driver_cursor(session).execute("INSERT INTO account VALUES (1, 10), (2, -20)")


def insert_by_copy(session: Session, account: Any) -> None:
    with driver_cursor(session).copy("COPY account FROM STDIN") as copy:
        copy.write_row((1, 10))
        copy.write_row((2, -20))


def insert_on_conflict(session: Session, account: Any) -> None:
    statement = postgresql.insert(account).values(
        [{"id": 1, "balance": 10}, {"id": 2, "balance": -20}]
    )
    session.execute(statement.on_conflict_do_nothing())


def insert_in_function(session: Session, account: Any) -> None:
    body = "INSERT INTO account VALUES (1, 10), (2, -20) RETURNING id"
    session.execute(
        text(f"CREATE FUNCTION fill() RETURNS SETOF int LANGUAGE sql AS '{body}'")
    )
    session.execute(select(func.fill()))


@pytest.mark.parametrize(
    "way",
    [
        insert_by_flush,
        insert_by_core,
        insert_in_bulk,
        insert_from_select,
        insert_by_text,
        insert_by_driver_sql,
        insert_by_executemany,
        insert_by_driver_cursor,
        insert_by_copy,
        insert_on_conflict,
        insert_in_function,
    ],
)
def test_insert_is_recorded_by_each_of_its_trackers(
    way: Way,
    account: Any,
    pg_session: Session,
    events_by_row: Callable[[], list[Any]],
    contexts: Contexts,
) -> None:
    with history.context(pg_session, **BY):
        way(pg_session, account)
        pg_session.commit()
    assert events_by_row() == [
        ("snapshot", "I", 1, 10, BY),
        ("create", "I", 1, 10, BY),
        ("snapshot", "I", 2, -20, BY),
        ("create", "I", 2, -20, BY),
    ]
    assert contexts() == [BY]
