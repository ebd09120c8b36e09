"""Statements that insert some rows and update others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import text
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

import sa_history as history
from tests.db.ways_to_write.helpers import BY


def test_upsert_is_recorded_as_what_it_did_to_each_row(
    accounts: Any, pg_session: Session, events_by_row: Callable[[], list[Any]]
) -> None:
    statement = postgresql.insert(accounts).values(
        [{"id": 3, "balance": -3}, {"id": 4, "balance": -4}]
    )
    becomes = {"balance": statement.excluded.balance}
    with history.context(pg_session, **BY):
        pg_session.execute(
            statement.on_conflict_do_update(index_elements=["id"], set_=becomes)
        )
        pg_session.commit()
    assert events_by_row() == [
        ("snapshot", "U", 3, -3, BY),
        ("low", "U", 3, -3, BY),
        ("snapshot", "I", 4, -4, BY),
        ("create", "I", 4, -4, BY),
    ]


def test_merge_is_recorded_as_what_it_did_to_each_row(
    accounts: Any, pg_session: Session, events_by_row: Callable[[], list[Any]]
) -> None:
    with history.context(pg_session, **BY):
        pg_session.execute(
            text(
                "MERGE INTO account a USING (VALUES (1, 0), (2, -2), (4, 4)) v(id, b)"
                " ON a.id = v.id"
                " WHEN MATCHED AND v.b = 0 THEN DELETE"
                " WHEN MATCHED THEN UPDATE SET balance = v.b"
                " WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.b)"
            )
        )
        pg_session.commit()
    assert events_by_row() == [
        ("delete", "D", 1, 10, BY),
        ("snapshot", "U", 2, -2, BY),
        ("low", "U", 2, -2, BY),
        ("snapshot", "I", 4, 4, BY),
        ("create", "I", 4, 4, BY),
    ]
