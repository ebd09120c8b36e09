"""What changes nothing leaves no event and no context."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session

import sa_history as history
from tests.db.ways_to_write.helpers import BY, insert_by_flush

Contexts = Callable[[], list[object]]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE account SET balance = balance",
        "UPDATE account SET id = id, balance = balance + 0",
        "UPDATE account SET balance = -1 WHERE id = 99",
        "DELETE FROM account WHERE id = 99",
        "INSERT INTO account SELECT * FROM account WHERE false",
        "INSERT INTO account VALUES (1, 5) ON CONFLICT DO NOTHING",
        "INSERT INTO account VALUES (1, 5) ON CONFLICT (id) DO UPDATE"
        " SET balance = account.balance",
        "MERGE INTO account USING (VALUES (99)) AS v(key) ON id = key"
        " WHEN MATCHED THEN DELETE",
        "SELECT * FROM account FOR UPDATE",
    ],
)
def test_statement_that_changes_nothing_leaves_no_event_and_no_context(
    statement: str,
    accounts: Any,
    pg_session: Session,
    events_by_row: Callable[[], list[Any]],
    contexts: Contexts,
) -> None:
    with history.context(pg_session, **BY):
        pg_session.execute(text(statement))
        pg_session.commit()
    assert events_by_row() == []
    assert contexts() == []


def test_truncate_of_an_empty_table_leaves_no_event_and_no_context(
    account: Any,
    pg_session: Session,
    events_by_row: Callable[[], list[Any]],
    contexts: Contexts,
) -> None:
    with history.context(pg_session, **BY):
        pg_session.execute(text("TRUNCATE account"))
        pg_session.commit()
    assert events_by_row() == []
    assert contexts() == []


def test_rolled_back_transaction_leaves_no_event_and_no_context(
    account: Any,
    pg_session: Session,
    events_by_row: Callable[[], list[Any]],
    contexts: Contexts,
) -> None:
    with history.context(pg_session, **BY):
        insert_by_flush(pg_session, account)
        pg_session.rollback()
        pg_session.commit()
    assert events_by_row() == []
    assert contexts() == []


def test_rolled_back_savepoint_leaves_no_event_and_no_context(
    account: Any,
    pg_session: Session,
    events_by_row: Callable[[], list[Any]],
    contexts: Contexts,
) -> None:
    with history.context(pg_session, **BY):
        savepoint = pg_session.begin_nested()
        insert_by_flush(pg_session, account)
        savepoint.rollback()
        pg_session.commit()
    assert events_by_row() == []
    assert contexts() == []


def test_context_is_kept_after_a_rolled_back_savepoint(
    account: Any,
    pg_session: Session,
    events_by_row: Callable[[], list[Any]],
    contexts: Contexts,
) -> None:
    with history.context(pg_session, **BY):
        savepoint = pg_session.begin_nested()
        insert_by_flush(pg_session, account)
        savepoint.rollback()
        pg_session.add(account(id=3, balance=30))
        pg_session.commit()
    assert events_by_row() == [
        ("snapshot", "I", 3, 30, BY),
        ("create", "I", 3, 30, BY),
    ]
    assert contexts() == [BY]


def test_failed_statement_leaves_no_event_and_no_context(
    accounts: Any,
    pg_session: Session,
    events_by_row: Callable[[], list[Any]],
    contexts: Contexts,
) -> None:
    with history.context(pg_session, **BY):
        with pytest.raises(DataError):
            pg_session.execute(text("UPDATE account SET balance = 1 / (id - 3)"))
        pg_session.commit()
    assert events_by_row() == []
    assert contexts() == []
