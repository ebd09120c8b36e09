"""Undo of rows whose keys changed, or that refer to each other: in which order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    ForeignKey,
    Integer,
    Table,
    Text,
    TypeDecorator,
    delete,
    insert,
    update,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
)

import sa_history as history
from sa_history import AfterDelete, AfterUpdate, Snapshot, new, track
from sa_history.exc import ConflictError, UndoError

from .transactions import commit, rows


@pytest.mark.usefixtures("undo_way")
def test_rows_that_refer_to_each_other_are_undone_in_order(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    node = Table(
        "node",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("parent_id", ForeignKey("node.id")),
        Column("friend_id", ForeignKey("node.id")),
    )
    track()(node)
    create_all()
    commit(pg_session, insert(node).values(id=1))
    made = commit(
        pg_session,
        insert(node).values(id=5, parent_id=1),
        insert(node).values(id=3, parent_id=5),
        insert(node).values(id=4, parent_id=3),
        update(node).where(node.c.id == 4).values(friend_id=4),
        update(node).where(node.c.id == 1).values(friend_id=3),
    )
    full = rows(pg_session, node)
    undone = history.undo(pg_session, node, transaction=made).transaction
    pg_session.commit()
    assert rows(pg_session, node) == [(1, None, None)]
    history.undo(pg_session, node, transaction=undone)
    pg_session.commit()
    assert rows(pg_session, node) == full
    circle = commit(pg_session, update(node).where(node.c.id == 5).values(friend_id=3))
    gone = commit(
        pg_session,
        update(node).values(parent_id=None, friend_id=None),
        delete(node).where(node.c.id > 1),
    )
    plan = str(history.undo(pg_session, node, transaction=circle, dry_run=True))
    assert "conflict: node (5,) is gone" in plan
    in_circle = [(1, None, 3), (3, 5, None), (4, 3, 4), (5, 1, 3)]
    undone = history.undo(pg_session, node, transaction=gone).transaction
    pg_session.commit()
    assert rows(pg_session, node) == in_circle
    history.undo(pg_session, node, transaction=undone)
    assert rows(pg_session, node) == [(1, None, None)]


class Code(TypeDecorator[str]):
    """A text in small letters, of which the program has capitals."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, _: Any) -> str | None:
        return None if value is None else value.lower()

    def process_result_value(self, value: str | None, _: Any) -> str | None:
        return None if value is None else value.upper()


@pytest.mark.usefixtures("undo_way")
def test_rows_whose_keys_have_a_type_of_the_application_refer_to_each_other_again(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    maker = Table(
        "maker",
        base.metadata,
        Column("id", Code, primary_key=True),
        Column("best_id", Code, ForeignKey("product.id")),
    )
    product = Table(
        "product",
        base.metadata,
        Column("id", Code, primary_key=True),
        Column("maker_id", Code, ForeignKey("maker.id"), nullable=False),
    )
    for table in (maker, product):
        track()(table)
    create_all()
    made = commit(
        pg_session,
        insert(maker).values(id="A"),
        insert(product).values(id="P", maker_id="A"),
        update(maker).values(best_id="P"),
    )
    undone = history.undo(pg_session, base, transaction=made).transaction
    pg_session.commit()
    assert rows(pg_session, maker, product) == []
    history.undo(pg_session, base, transaction=undone)
    assert rows(pg_session, maker, product) == [("A", "P"), ("P", "A")]


@pytest.mark.usefixtures("undo_way")
def test_a_pointer_back_is_set_after_its_row_is_there_and_cleared_before_it_goes(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    @track()
    class Maker(base):  # type: ignore[misc, valid-type]
        __tablename__ = "maker"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        best_id: Mapped[int | None] = mapped_column(ForeignKey("product.id"))
        best: Mapped[Any] = relationship(
            "Product", foreign_keys=[best_id], post_update=True
        )

    @track()
    class Product(base):  # type: ignore[misc, valid-type]
        __tablename__ = "product"
        id: Mapped[int] = mapped_column(primary_key=True)
        maker_id: Mapped[int] = mapped_column(ForeignKey("maker.id"))
        maker: Mapped[Any] = relationship("Maker", foreign_keys=[maker_id])

    create_all()
    ada = Maker(id=1, name="Ada")
    pg_session.add(ada)
    ada.best = Product(id=7, maker=ada)
    pg_session.commit()
    made = pg_session.scalars(Product.events.last()).one().pgh_xact_id
    plan = history.undo(pg_session, base, transaction=made, dry_run=True)
    assert sorted(map(str, plan.steps)) == [
        "delete maker (1)",
        "delete product (7)",
        "update maker (1): best_id = None",
    ]
    commit(pg_session, update(Maker).values(name="Eve"))
    with pytest.raises(ConflictError, match="name is 'Eve' and was 'Ada'"):
        history.undo(pg_session, base, transaction=made)
    commit(pg_session, update(Maker).values(name="Ada"))
    undone = history.undo(pg_session, base, transaction=made).transaction
    pg_session.commit()
    assert rows(pg_session, Maker.__table__, Product.__table__) == []
    history.undo(pg_session, base, transaction=undone)
    assert rows(pg_session, Maker.__table__, Product.__table__) == [
        (1, "Ada", 7),
        (7, 1),
    ]


def test_rows_that_have_to_refer_to_each_other_have_no_order(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    pair = Table(
        "pair",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column(
            "other_id",
            ForeignKey("pair.id", deferrable=True, initially="DEFERRED"),
            nullable=False,
        ),
    )
    track()(pair)
    create_all()
    made = commit(pg_session, insert(pair).values([(1, 2), (2, 1)]))
    gone = commit(pg_session, delete(pair))
    for transaction in (made, gone):
        with pytest.raises(
            UndoError, match="there is no order in which this can be undone"
        ):
            history.undo(pg_session, pair, transaction=transaction)


@pytest.mark.usefixtures("undo_way")
def test_rows_that_exchanged_or_passed_on_their_keys_get_them_back(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    level: str,
) -> None:
    item = Table(
        "item",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("name", Text),
    )
    track(Snapshot, AfterUpdate(new.name == "a", label="a"), AfterDelete, level=level)(
        item
    )
    create_all()
    commit(
        pg_session,
        *(insert(item).values(id=n, name=x) for n, x in [(1, "a"), (2, "b")]),
    )
    before = rows(pg_session, item)

    def rekey(old: int, now: int) -> Any:
        return update(item).where(item.c.id == old).values(id=now)

    exchanged = commit(pg_session, rekey(1, 9), rekey(2, 1), rekey(9, 2))
    done = history.undo(pg_session, item, transaction=exchanged)
    pg_session.commit()
    assert rows(pg_session, item) == before
    history.undo(pg_session, item, transaction=done.transaction)
    pg_session.commit()
    assert rows(pg_session, item) == [(1, "b"), (2, "a")]
    moved = commit(pg_session, rekey(1, 3), insert(item).values(id=1, name="c"))
    plan = history.undo(pg_session, item, transaction=moved, dry_run=True)
    assert str(plan) == "delete item (1)\nupdate item (3): id = 1"
    replaced = commit(pg_session, delete(item).where(item.c.id == 1), rekey(3, 1))
    history.undo(pg_session, item, transaction=replaced)
    pg_session.commit()
    assert rows(pg_session, item) == [(1, "c"), (2, "a"), (3, "b")]
    taken = commit(pg_session, rekey(3, 4))
    commit(pg_session, insert(item).values(id=3, name="d"))
    with pytest.raises(ConflictError, match=r"item \(4,\) cannot be item \(3,\)"):
        history.undo(pg_session, item, transaction=taken)


@pytest.mark.usefixtures("undo_way")
def test_an_exchange_of_keys_is_not_undone_while_other_rows_refer_to_them(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    """One of them would be deleted meanwhile, and its foreign keys might do more."""
    item = Table("item", base.metadata, Column("id", Integer, primary_key=True))
    track()(item)
    note = Table(
        "note",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("item_id", ForeignKey("item.id", ondelete="CASCADE")),
    )
    create_all()
    commit(pg_session, insert(item).values([(1,), (2,)]))

    def rekey(old_id: int, new_id: int) -> Any:
        return update(item).where(item.c.id == old_id).values(id=new_id)

    exchanged = commit(pg_session, rekey(1, 9), rekey(2, 1), rekey(9, 2))
    commit(pg_session, insert(note).values([(5, 1), (6, 2)]))
    with pytest.raises(
        ConflictError,
        match=r"rows exchange their keys, and others refer to them: item \(\d,\) is "
        r"referred to by note \(\d,\); change those first",
    ):
        history.undo(pg_session, item, transaction=exchanged, force=True)
    assert rows(pg_session, item, note) == [(1,), (2,), (5, 1), (6, 2)]


@pytest.fixture
def by_code(base: type[DeclarativeBase]) -> tuple[Table, Table]:
    """Makers, and items that refer to them by another key than the primary one."""
    maker = Table(
        "maker",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("code", Text, unique=True),
    )
    item = Table(
        "item",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("code", ForeignKey(maker.c.code, ondelete="CASCADE")),
    )
    return maker, item


@pytest.mark.usefixtures("undo_way")
def test_a_row_that_refers_to_an_untracked_column_is_a_conflict(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    by_code: tuple[Table, Table],
) -> None:
    maker, item = by_code
    track(exclude=["code"])(maker)
    track()(item)
    create_all()
    transaction = commit(pg_session, insert(maker).values(id=1, code="a"))
    commit(pg_session, insert(item).values(id=5, code="a"))
    with pytest.raises(ConflictError, match=r"is referred to by item \(5,\)"):
        history.undo(pg_session, base, transaction=transaction)
    assert rows(pg_session, maker, item) == [(1, "a"), (5, "a")]


@pytest.mark.usefixtures("undo_way")
def test_a_foreign_key_to_another_key_than_the_primary_one_sets_no_order(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    by_code: tuple[Table, Table],
) -> None:
    maker, item = by_code
    track()(item)
    track()(maker)
    create_all()
    commit(pg_session, insert(maker).values(id=1, code="a"))
    made = commit(pg_session, insert(item).values(id=5, code="a"))
    history.undo(pg_session, base, transaction=made)
    assert rows(pg_session, maker, item) == [(1, "a")]
