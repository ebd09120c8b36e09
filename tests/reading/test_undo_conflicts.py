"""Undo of what has been changed again since: conflicts, and force."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Computed,
    Integer,
    Table,
    delete,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Session

import sa_history as history
from sa_history import track
from sa_history.exc import ConflictError

from .transactions import commit, rows

pytestmark = pytest.mark.usefixtures("undo_way")

CONFLICTS: dict[str, tuple[Any, str]] = {
    "a column changed": (
        "UPDATE product SET price = 7 WHERE id = 1",
        "product (1,) has changed: price is 7 and was 6",
    ),
    "a changed row is gone": (
        "DELETE FROM tagged; DELETE FROM product WHERE id = 1",
        "product (1,) is gone",
    ),
    "an inserted row changed": (
        "UPDATE product SET name = 'Can' WHERE id = 4",
        "product (4,) has changed: name is 'Can' and was 'Jug'",
    ),
    "an inserted row is gone": (
        "DELETE FROM product WHERE id = 4",
        "product (4,) is gone",
    ),
    "a deleted row is there again": (
        "INSERT INTO product VALUES (2, 'Cap', 1, NULL, NULL)",
        "product (2,) is there again",
    ),
    "an inserted row is referred to": (
        "INSERT INTO tagged VALUES (4, 1)",
        "product (4,) is referred to by tagged (4, 1)",
    ),
    "a row that is needed is gone": (
        "DELETE FROM tag WHERE id = 2",
        "tagged (1, 2) needs tag (2,), which is gone",
    ),
}


@pytest.mark.parametrize("conflict", CONFLICTS)
def test_what_has_been_changed_again_is_a_conflict(
    shop: SimpleNamespace, pg_session: Session, conflict: str
) -> None:
    statements, words = CONFLICTS[conflict]
    Product, base = shop.Product, shop.Product.metadata
    tables = [t.__table__ for t in (shop.Maker, Product, shop.Tag)] + [shop.tagged]
    transaction = pg_session.scalars(Product.events.of(4).last()).one().pgh_xact_id
    commit(pg_session, *map(text, statements.split("; ")))
    before = rows(pg_session, *tables)
    plan = history.undo(pg_session, base, transaction=transaction, dry_run=True)
    assert words in [str(c) for c in plan.conflicts]
    assert f"conflict: {words}" in str(plan).splitlines()
    with pytest.raises(ConflictError, match="nothing is undone") as refusal:
        history.undo(pg_session, base, transaction=transaction)
    assert words in str(refusal.value)
    assert rows(pg_session, *tables) == before


def test_a_change_of_another_column_is_no_conflict(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    Product = shop.Product
    transaction = pg_session.scalars(Product.events.of(4).last()).one().pgh_xact_id
    commit(pg_session, update(Product).where(Product.id == 1).values(name="Chai"))
    history.undo(pg_session, shop.Product.metadata, transaction=transaction)
    tea = pg_session.get_one(Product, 1)
    assert (tea.name, tea.price) == ("Chai", 5)


def test_force_overwrites_what_has_been_changed_again(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    Product, base = shop.Product, shop.Product.metadata
    transaction = pg_session.scalars(Product.events.of(4).last()).one().pgh_xact_id
    commit(
        pg_session,
        text("UPDATE product SET price = 7, name = 'Chai' WHERE id = 1"),
        text("DELETE FROM product WHERE id = 4"),
        text("INSERT INTO product VALUES (2, 'Cap', 1, NULL, NULL)"),
    )
    done = history.undo(pg_session, base, transaction=transaction, force=True)
    assert len(done.conflicts) == 3
    assert pg_session.execute(
        select(Product.id, Product.name, Product.price).order_by(Product.id)
    ).all() == [(1, "Chai", 5), (2, "Cup", 9), (3, "Pot", 20)]
    pg_session.rollback()
    commit(pg_session, text("INSERT INTO tagged VALUES (1, 2)"))
    commit(pg_session, text("DELETE FROM tagged"), text("DELETE FROM tag"))
    with pytest.raises(IntegrityError), pg_session.begin_nested():
        history.undo(pg_session, base, transaction=transaction, force=True)


def test_force_leaves_alone_an_update_of_a_row_that_is_gone(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    columns = Column("id", Integer, primary_key=True), Column("n", Integer)
    double = Column("double", Integer, Computed("n * 2", persisted=True))
    item = track()(Table("item", base.metadata, *columns, double))
    create_all()
    commit(pg_session, insert(item).values([{"id": 1, "n": 1}, {"id": 2, "n": 2}]))
    changed = commit(pg_session, update(item).values(n=5))
    commit(pg_session, delete(item).where(item.c.id == 1))
    history.undo(pg_session, item, transaction=changed, force=True)
    assert rows(pg_session, item) == [(2, 2, 4)]


def test_a_key_that_another_row_has_by_now_is_named(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    Maker = shop.Maker
    commit(pg_session, text("INSERT INTO maker VALUES (50, 'Zoe')"))
    commit(pg_session, text("UPDATE maker SET id = 51 WHERE id = 50"))
    event = pg_session.scalars(Maker.events.of(51).last()).one()
    commit(pg_session, text("INSERT INTO maker VALUES (50, 'Yan')"))
    plan = history.undo(pg_session, Maker, transaction=event, dry_run=True)
    assert [str(conflict) for conflict in plan.conflicts] == [
        "maker (51,) cannot be maker (50,), which is there again"
    ]
