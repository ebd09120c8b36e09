"""A session that plays a replica: its writes leave no event, and how that is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import AfterDelete, Snapshot, track
from sa_history.install import check
from sa_history.writing.baseline import baseline

BEFORE = [("snapshot", "I", n, n, None) for n in (1, 2)]


@pytest.fixture
def account(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    level: str,
    pg_session: Session,
) -> Any:
    """A tracked model with two rows."""

    @track(Snapshot, AfterDelete, level=level)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        balance: Mapped[int]

    create_all()
    pg_session.add_all([Account(id=n, balance=n) for n in (1, 2)])
    pg_session.commit()
    return Account


def write_as_a_replica(session: Session) -> None:
    session.execute(text("SET LOCAL session_replication_role = replica"))
    session.execute(text("INSERT INTO account VALUES (3, 3)"))
    session.execute(text("UPDATE account SET balance = 11 WHERE id = 1"))
    session.execute(text("DELETE FROM account WHERE id = 2"))
    session.commit()


def test_what_it_writes_is_not_recorded_and_shows_in_a_comparison(
    account: Any, pg_engine: Engine, pg_session: Session, recorded: Any
) -> None:
    write_as_a_replica(pg_session)

    assert recorded(account, "id", "balance") == BEFORE
    assert check(pg_engine, account) == []
    # A baseline finds what has no event at all.
    assert baseline(pg_engine, account) == 1
    assert recorded(account, "id", "balance") == [
        *BEFORE,
        ("baseline", "B", 3, 3, None),
    ]
    rows = select(account.id, account.balance)
    now = pg_session.scalar(select(func.clock_timestamp()))
    with history.as_of(pg_session, now) as past:
        in_history = set(past.execute(rows).all())
    assert in_history ^ set(pg_session.execute(rows).all()) == {(1, 1), (1, 11), (2, 2)}


def test_what_it_writes_is_recorded_where_triggers_fire_always(
    account: Any, pg_session: Session, recorded: Any
) -> None:
    names = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'account'::regclass"
    for name in pg_session.scalars(text(names)).all():
        always = f"ALTER TABLE account ENABLE ALWAYS TRIGGER {name}"
        pg_session.execute(text(always))
    pg_session.commit()

    with history.context(pg_session, user=7):
        write_as_a_replica(pg_session)

    assert recorded(account, "id", "balance") == [
        *BEFORE,
        ("snapshot", "I", 3, 3, {"user": 7}),
        ("snapshot", "U", 1, 11, {"user": 7}),
        ("delete", "D", 2, 2, {"user": 7}),
    ]
