"""Keys that change, and changes that foreign keys make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import ForeignKey, insert, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

import sa_history as history
from sa_history import AfterDelete, AfterUpdate, Snapshot, track
from tests.db.ways_to_write.helpers import BY

Recorded = Callable[..., list[tuple[Any, ...]]]


def test_changed_key_is_recorded_with_the_row_it_belongs_to(
    accounts: Any, pg_session: Session, events_by_row: Callable[[], list[Any]]
) -> None:
    with history.context(pg_session, **BY):
        # Down, so that the new keys are among the old ones.
        pg_session.execute(text("UPDATE account SET id = id - 1"))
        pg_session.commit()
    assert events_by_row() == [
        ("snapshot", "U", 0, 10, BY),
        ("snapshot", "U", 1, 20, BY),
        ("snapshot", "U", 2, 30, BY),
    ]


def test_changed_key_is_compared_with_the_row_it_was(
    accounts: Any, pg_session: Session, events_by_row: Callable[[], list[Any]]
) -> None:
    with history.context(pg_session, **BY):
        pg_session.execute(
            text("UPDATE account SET id = 7, balance = -balance WHERE id = 2")
        )
        pg_session.commit()
    assert events_by_row() == [("snapshot", "U", 7, -20, BY), ("low", "U", 7, -20, BY)]


def test_cascade_is_recorded_where_it_arrives(
    account: Any,
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    level: str,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    @track(AfterDelete, AfterUpdate, level=level)
    class Card(base):  # type: ignore[misc, valid-type]
        __tablename__ = "card"
        id: Mapped[int] = mapped_column(primary_key=True)
        account_id: Mapped[int] = mapped_column(
            ForeignKey(account.id, ondelete="CASCADE", onupdate="CASCADE")
        )

    create_all()
    pg_session.execute(insert(account), [{"id": n, "balance": n} for n in (1, 2, 3)])
    pg_session.execute(
        insert(Card), [{"id": n, "account_id": n % 3 + 1} for n in range(6)]
    )
    with history.context(pg_session, **BY):
        pg_session.execute(text("UPDATE account SET id = 10 WHERE id = 3"))
        pg_session.execute(text("DELETE FROM account WHERE id < 3"))
        pg_session.commit()
    found = recorded(Card, "id", "account_id")
    assert found[:2] == [("update", "U", 2, 10, BY), ("update", "U", 5, 10, BY)]
    assert sorted(found[2:]) == [
        ("delete", "D", 0, 1, BY),
        ("delete", "D", 1, 2, BY),
        ("delete", "D", 3, 1, BY),
        ("delete", "D", 4, 2, BY),
    ]


@pytest.mark.parametrize("by", ["the database", "the session"])
def test_reference_that_is_set_null_is_recorded_and_the_old_one_is_kept(
    by: str,
    account: Any,
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    level: str,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    @track(Snapshot, level=level)
    class Card(base):  # type: ignore[misc, valid-type]
        __tablename__ = "card"
        id: Mapped[int] = mapped_column(primary_key=True)
        account_id: Mapped[int | None] = mapped_column(
            ForeignKey(account.id, ondelete="SET NULL")
        )
        owner: Mapped[Any] = relationship(account, backref="cards")

    create_all()
    ann = account(id=1, balance=1)
    pg_session.add_all([ann, Card(id=5, owner=ann), Card(id=6, owner=ann)])
    pg_session.commit()
    with history.context(pg_session, **BY):
        if by == "the session":
            pg_session.delete(ann)
        else:
            pg_session.execute(text("DELETE FROM account"))
        pg_session.commit()
    assert sorted(recorded(Card, "id", "account_id"), key=lambda e: (e[1], e[2])) == [
        ("snapshot", "I", 5, 1, None),
        ("snapshot", "I", 6, 1, None),
        ("snapshot", "U", 5, None, BY),
        ("snapshot", "U", 6, None, BY),
    ]
