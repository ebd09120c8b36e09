"""Each way to delete rows is recorded; each deletes the rows 1 and 2 of three."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import URL, delete, select, text
from sqlalchemy.exc import ProgrammingError
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


@pytest.mark.parametrize("forced", [True, False])
def test_truncate_of_rows_that_a_policy_may_hide_is_refused(
    forced: bool, accounts: Any, pg_session: Session, pg_url: URL
) -> None:
    owner = f'"owner of {pg_url.database}"'
    for statement in (
        f"CREATE ROLE {owner}",  # rolled back at the end: a role is of the cluster
        f"GRANT ALL ON account_event, pghistory_context TO {owner}",
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {owner}",
        f"ALTER FUNCTION account_event_record OWNER TO {owner}",
        f"ALTER TABLE account OWNER TO {owner}",
        "ALTER TABLE account ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY one ON account USING (id = 1)",
    ):
        pg_session.execute(text(statement))
    if forced:  # else the owner, as whom the trigger reads the rows, sees them all
        pg_session.execute(text("ALTER TABLE account FORCE ROW LEVEL SECURITY"))
        refused = "TRUNCATE of public.account is refused: row-level security may hide"
        with pytest.raises(ProgrammingError, match=refused), pg_session.begin_nested():
            pg_session.execute(text("TRUNCATE account"))
        pg_session.execute(text("DELETE FROM account"))
    else:
        pg_session.execute(text("TRUNCATE account"))
    events = accounts.events.table.c
    found = pg_session.execute(select(events.pgh_op, events.id).order_by(events.id))
    op = Op.DELETE if forced else Op.TRUNCATE
    assert found.all() == [(op, n) for n in (1, 2, 3)]
