"""Each way to delete rows is recorded; each deletes the rows 1 and 2 of three."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, text
from sqlalchemy.orm import Session

import sa_history as history
from sa_history import Op
from tests.db.ways_to_write.helpers import BY

Contexts = Callable[[], list[object]]
Way = Callable[[Session, Any], object]


def delete_by_flush(session: Session, account: Any) -> None:
    for key in (1, 2):
        session.delete(session.get(account, key))
    session.flush()


def delete_by_core(session: Session, account: Any) -> None:
    session.execute(delete(account.__table__).where(account.__table__.c.id < 3))


def delete_by_orm(session: Session, account: Any) -> None:
    session.execute(delete(account).where(account.balance < 30))


def delete_by_text(session: Session, account: Any) -> None:
    session.execute(text("DELETE FROM account WHERE id < :id"), {"id": 3})


def delete_by_driver_sql(session: Session, account: Any) -> None:
    session.connection().exec_driver_sql("DELETE FROM account WHERE id < 3")


def delete_by_executemany(session: Session, account: Any) -> None:
    connection = session.connection()
    connection.exec_driver_sql("DELETE FROM account WHERE id = %s", [(1,), (2,)])


def delete_by_merge(session: Session, account: Any) -> None:
    session.execute(
        text(
            "MERGE INTO account USING (VALUES (1), (2)) AS v(key) ON id = key"
            " WHEN MATCHED THEN DELETE"
        )
    )


@pytest.mark.parametrize(
    "way",
    [
        delete_by_flush,
        delete_by_core,
        delete_by_orm,
        delete_by_text,
        delete_by_driver_sql,
        delete_by_executemany,
        delete_by_merge,
    ],
)
def test_delete_is_recorded_with_the_row_that_was(
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
        ("delete", "D", 1, 10, BY),
        ("delete", "D", 2, 20, BY),
    ]
    assert contexts() == [BY]


def test_truncate_is_recorded_for_each_row(
    accounts: Any, pg_session: Session, events_by_row: Callable[[], list[Any]]
) -> None:
    with history.context(pg_session, **BY):
        pg_session.execute(text("TRUNCATE account"))
        pg_session.commit()
    assert events_by_row() == [
        ("delete", Op.TRUNCATE, 1, 10, BY),
        ("delete", Op.TRUNCATE, 2, 20, BY),
        ("delete", Op.TRUNCATE, 3, 30, BY),
    ]
