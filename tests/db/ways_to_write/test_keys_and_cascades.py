"""Keys that change, and changes that foreign keys make."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import ForeignKey, insert, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

import sa_history as history
from sa_history import (
    AfterDelete,
    AfterUpdate,
    Audit,
    Snapshot,
    attach,
    audit_table,
    track,
)
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


@pytest.fixture
def node(
    base: type[DeclarativeBase], create_all: Callable[[], None], level: str
) -> Any:
    """A tree, in which a node goes with its parent and loses its friend.

    The third node goes because the second does, and its friend is the first.
    """
    log = audit_table("audit_log", base.metadata)

    @track(level=level)
    @attach(Audit(into=log, level=level))
    class Node(base):  # type: ignore[misc, valid-type]
        __tablename__ = "node"
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int | None] = mapped_column(
            ForeignKey("node.id", ondelete="CASCADE")
        )
        friend_id: Mapped[int | None] = mapped_column(
            ForeignKey("node.id", ondelete="SET NULL")
        )

    create_all()
    return Node


NODES = "INSERT INTO node VALUES (1, NULL, NULL), (2, 1, NULL), (3, 2, 1)"


def test_row_that_one_statement_updates_and_deletes_is_recorded_in_this_order(
    node: Any, pg_session: Session, recorded: Recorded
) -> None:
    pg_session.execute(text(NODES))
    pg_session.execute(text("DELETE FROM node WHERE id = 1"))
    pg_session.commit()
    changes = ("id", "parent_id", "friend_id")
    assert [e[1:5] for e in recorded(node, *changes) if e[2] == 3] == [
        ("I", 3, 2, 1),
        ("U", 3, 2, None),
        ("D", 3, 2, None),
    ]
    log = node.metadata.tables["audit_log"].c
    of_third = log.key == {"id": 3}
    operations = select(log.operation).where(of_third).order_by(log.id)
    assert [*pg_session.scalars(operations)] == ["INSERT", "UPDATE", "DELETE"]


def test_rows_that_one_statement_updates_and_deletes_are_gone_and_come_back(
    node: Any, pg_session: Session
) -> None:
    pg_session.execute(text(NODES))
    pg_session.commit()
    pg_session.execute(text("DELETE FROM node WHERE id = 1"))
    pg_session.commit()
    now = datetime.datetime.now(datetime.timezone.utc)
    with history.as_of(pg_session, now) as past:
        assert past.scalars(select(node.id)).all() == []
    last = pg_session.scalars(node.events.of(3).last()).one()
    assert last.pgh_op == "D"
    history.undo(pg_session, node, transaction=last)
    pg_session.commit()
    rows = pg_session.execute(select(node.id, node.parent_id, node.friend_id))
    assert sorted(map(tuple, rows)) == [(1, None, None), (2, 1, None), (3, 2, 1)]


def test_insert_into_such_a_table_is_recorded_by_the_level(
    node: Any, level: str, pg_session: Session
) -> None:
    for_each_row = "NOT tgisinternal AND tgtype & 1 = 1"
    names = (
        "SELECT tgname FROM pg_trigger WHERE tgrelid = CAST('node' AS regclass) AND "
    )
    by_row = {"node_audit_delete", "node_audit_update", "node_event_update"}
    expected = {
        "statement": {"node_event_delete"},
        "row": {"node_event_insert_delete", "node_audit_insert"},
    }
    found = pg_session.scalars(text(names + for_each_row))
    assert {*found} == by_row | expected[level]
