"""Keys of the context with columns of their own."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import Column, DateTime, Integer, Text, func, insert, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import AfterDelete, Manual, Snapshot, track
from sa_history.exc import ContextRequiredError
from tests.db.helpers import BY

Recorded = Callable[..., list[tuple[Any, ...]]]
CreateAll = Callable[[], None]


def test_context_columns_have_the_value_in_their_type(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    level: str,
    pg_session: Session,
) -> None:
    @track(
        Snapshot,
        Manual("seen"),
        level=level,
        context=None,
        context_columns=[
            Column("user", Integer),
            Column("at", DateTime(timezone=True)),
            Column("roles", JSONB),
            Column("missing", Text),
        ],
    )
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    noon = datetime.datetime(2020, 2, 29, 12, tzinfo=datetime.timezone.utc)
    with history.context(pg_session, user=7, at=noon, roles=["a", {"b": None}]):
        account = Account(id=1)
        pg_session.add(account)
        history.create_event(pg_session, account, label="seen")
        pg_session.commit()
    pg_session.add(Account(id=2))
    pg_session.commit()
    columns = Account.events.table.c
    stored = select(columns.user, columns.at, columns.roles, columns.missing)
    assert pg_session.execute(stored.order_by(columns.pgh_id)).all() == [
        (7, noon, ["a", {"b": None}], None),
        (7, noon, ["a", {"b": None}], None),
        (None, None, None, None),
    ]


@pytest.fixture
def guarded(base: type[DeclarativeBase], create_all: CreateAll, level: str) -> Any:
    """A model that is changed in a context with a user only."""

    @track(
        Snapshot,
        AfterDelete,
        Manual("seen"),
        level=level,
        context_columns=[Column("user", Integer, nullable=False)],
    )
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        balance: Mapped[int] = mapped_column(default=0)

    create_all()
    return Account


@pytest.mark.parametrize("keys", [{}, {"job": "x"}, {"user": None}], ids=repr)
def test_change_without_a_required_key_is_refused(
    guarded: Any, pg_session: Session, recorded: Recorded, keys: dict[str, Any]
) -> None:
    pg_session.add(guarded(id=1))
    with (
        history.context(pg_session, **keys),
        pytest.raises(
            ContextRequiredError, match='needs a context with the key "user"'
        ) as caught,
    ):
        pg_session.flush()
    pg_session.rollback()
    assert isinstance(caught.value, DBAPIError)
    original = caught.value.orig
    assert isinstance(original, psycopg.Error)
    assert original.sqlstate == ContextRequiredError.sqlstate
    assert original.diag.table_name == "account"
    assert original.diag.column_name == "user"
    assert "history.context" in (original.diag.message_hint or "")
    assert "INSERT INTO account" in str(caught.value)
    assert recorded(guarded) == []
    assert pg_session.scalar(select(func.count()).select_from(guarded)) == 0


def test_change_with_a_required_key_is_recorded(
    guarded: Any, pg_session: Session, recorded: Recorded
) -> None:
    with history.context(pg_session, **BY):
        account = guarded(id=1)
        pg_session.add(account)
        history.create_event(pg_session, account, label="seen")
        pg_session.delete(account)
        pg_session.commit()
    assert recorded(guarded, "id", "user") == [
        ("snapshot", "I", 1, 7, BY),
        ("seen", "M", 1, 7, BY),
        ("delete", "D", 1, 7, BY),
    ]


def test_statement_that_writes_no_event_needs_no_required_key(
    guarded: Any, pg_session: Session, recorded: Recorded
) -> None:
    with history.context(pg_session, **BY):
        pg_session.execute(insert(guarded).values(id=1))
        pg_session.commit()
    for statement in (
        "UPDATE account SET balance = 5 WHERE id = 99",
        "UPDATE account SET balance = balance",
        "DELETE FROM account WHERE id = 99",
        "INSERT INTO account VALUES (1, 1) ON CONFLICT DO NOTHING",
    ):
        pg_session.execute(text(statement))
    pg_session.commit()
    assert len(recorded(guarded)) == 1


@pytest.mark.parametrize(
    "statement",
    ["UPDATE account SET balance = 5", "DELETE FROM account", "TRUNCATE account"],
)
def test_each_kind_of_change_needs_a_required_key(
    guarded: Any, pg_session: Session, recorded: Recorded, statement: str
) -> None:
    with history.context(pg_session, **BY):
        pg_session.execute(insert(guarded).values(id=1))
        pg_session.commit()
    with pytest.raises(ContextRequiredError):
        pg_session.execute(text(statement))
    pg_session.rollback()
    assert len(recorded(guarded)) == 1


def test_manual_event_needs_a_required_key(guarded: Any, pg_session: Session) -> None:
    with history.context(pg_session, **BY):
        account = guarded(id=1)
        pg_session.add(account)
        pg_session.commit()
    with pytest.raises(ContextRequiredError):
        history.create_event(pg_session, account, label="seen")
    pg_session.rollback()
