"""psql, statements of many rows, and many statements of one transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import func, insert, select, text
from sqlalchemy.orm import Session

import sa_history as history
from tests.db.ways_to_write.helpers import BY, insert_by_flush

Contexts = Callable[[], list[object]]


def test_bulk_insert_of_10_000_rows_is_recorded_row_by_row(
    account: Any, pg_session: Session, contexts: Contexts
) -> None:
    with history.context(pg_session, **BY):
        pg_session.execute(
            insert(account), [{"id": n, "balance": 2 * n} for n in range(10_000)]
        )
        pg_session.commit()
    event = account.events.model
    stored = select(
        event.pgh_label,
        func.count(),
        func.count(event.id.distinct()),
        func.count().filter(event.balance == 2 * event.id),
        func.count().filter(event.pgh_obj_id == event.id),
        func.count(event.pgh_context_id.distinct()),
    )
    assert pg_session.execute(
        stored.group_by(event.pgh_label).order_by(event.pgh_label)
    ).all() == [
        ("create", 10_000, 10_000, 10_000, 10_000, 1),
        ("snapshot", 10_000, 10_000, 10_000, 10_000, 1),
    ]
    last = pg_session.get(account, 9_999)
    events = pg_session.scalars(last.events.select()).all()
    assert [e.pgh_label for e in events] == ["snapshot", "create"]
    assert contexts() == [BY]


def test_psql_is_recorded_without_a_context(
    account: Any, psql: Callable[[str], str], events_by_row: Callable[[], list[Any]]
) -> None:
    psql(
        "INSERT INTO account VALUES (1, 10);"
        "UPDATE account SET balance = -10;"
        "DELETE FROM account;"
    )
    assert events_by_row() == [
        ("snapshot", "I", 1, 10, None),
        ("create", "I", 1, 10, None),
        ("snapshot", "U", 1, -10, None),
        ("low", "U", 1, -10, None),
        ("delete", "D", 1, -10, None),
    ]


def test_psql_is_recorded_in_the_context_that_it_sets(
    account: Any,
    psql: Callable[[str], str],
    events_by_row: Callable[[], list[Any]],
    contexts: Contexts,
) -> None:
    psql(
        "BEGIN;\n"
        "SELECT set_config('pghistory.context_id', gen_random_uuid()::text, true),"
        """ set_config('pghistory.context_metadata', '{"user": 7}', true);\n"""
        "\\copy account FROM STDIN\n"
        "1\t10\n"
        "2\t-20\n"
        "\\.\n"
        "UPDATE account SET balance = balance + 1 WHERE id = 2;\n"
        "COMMIT;\n"
        "DELETE FROM account WHERE id = 1;\n"
    )
    assert events_by_row() == [
        ("snapshot", "I", 1, 10, BY),
        ("create", "I", 1, 10, BY),
        ("delete", "D", 1, 10, None),  # the settings ended with the transaction
        ("snapshot", "I", 2, -20, BY),
        ("create", "I", 2, -20, BY),
        ("snapshot", "U", 2, -19, BY),
        ("low", "U", 2, -19, BY),
    ]
    assert contexts() == [BY]


def test_statements_of_one_transaction_share_its_number(
    account: Any, psql: Callable[[str], str], pg_session: Session
) -> None:
    insert_by_flush(pg_session, account)
    pg_session.execute(text("DELETE FROM account WHERE id = 1"))
    pg_session.commit()
    psql("DELETE FROM account")
    event = account.events.model
    numbers = select(event.pgh_label, event.pgh_xact_id).order_by(event.pgh_id)
    found = pg_session.execute(numbers).all()
    assert [number == found[0][1] for _, number in found] == [True] * 5 + [False]
