"""One row made what it was, and all that was changed together undone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Computed,
    ForeignKey,
    Identity,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import AfterDelete, AfterUpdate, Snapshot, new, old, track
from sa_history.exc import ConflictError, EventsError, UndoError


def rows(session: Session, *tables: Any) -> list[Any]:
    return [
        tuple(row)
        for table in tables
        for row in session.execute(select(table).order_by(*table.c))
    ]


def commit(session: Session, *statements: Any) -> int:
    """Execute statements in a transaction, and return its number."""
    for statement in statements:
        session.execute(statement)
    number = session.scalar(select(func.pg_current_xact_id().cast(Text)))
    session.commit()
    return int(number)


def test_a_row_is_made_what_it_was(shop: SimpleNamespace, pg_session: Session) -> None:
    Product = shop.Product
    tea = pg_session.get_one(Product, 1)
    (event,) = pg_session.scalars(tea.events.first())
    tea.name = "Coffee"  # flushed, and then overwritten
    assert event.revert(pg_session, columns=["price"]) is tea
    assert (tea.name, tea.price, tea.maker_id) == ("Coffee", 5, 2)
    assert event.revert(pg_session) is tea
    assert (tea.name, tea.price, tea.maker_id) == ("Tea", 5, 1)
    pg_session.commit()
    (last,) = pg_session.scalars(tea.events.last())
    assert (last.pgh_op, last.price) == ("U", 5), "recorded as a change"
    with pytest.raises(EventsError, match="does not store prize; give columns="):
        event.revert(pg_session, columns=["prize"])
    with pytest.raises(EventsError, match="columns is a list of names, got 'price'"):
        event.revert(pg_session, columns="price")


def test_a_row_goes_back_to_each_of_its_versions(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    """Also where what it referred to is gone, for the other columns."""

    @track()
    class Maker(base):  # type: ignore[misc, valid-type]
        __tablename__ = "maker"
        id: Mapped[int] = mapped_column(primary_key=True)

    @track()
    class Product(base):  # type: ignore[misc, valid-type]
        __tablename__ = "product"
        id: Mapped[int] = mapped_column(primary_key=True)
        price: Mapped[int]
        maker_id: Mapped[int | None] = mapped_column(ForeignKey("maker.id"))

    create_all()
    product = Product(id=1, price=1, maker_id=5)
    pg_session.add_all([Maker(id=5), Maker(id=6)])
    pg_session.flush()
    pg_session.add(product)
    for price, maker in ((1, 5), (2, None), (3, 6)):
        product.price, product.maker_id = price, maker
        pg_session.commit()
    pg_session.execute(delete(Maker).where(Maker.id == 5))
    pg_session.delete(product)
    pg_session.commit()

    first, *others = pg_session.scalars(Product.events.of(1).select()).all()
    versions = []
    for event in reversed(others):
        found = event.revert(pg_session)
        pg_session.commit()
        versions.append((found.price, found.maker_id))
    assert versions == [(3, 6), (3, 6), (2, None)]
    with pytest.raises(IntegrityError, match="not present in table"):
        first.revert(pg_session)
    pg_session.rollback()
    found = first.revert(pg_session, columns=["price"])
    pg_session.commit()
    assert (found.price, found.maker_id) == (1, None)


def test_a_deleted_row_comes_back_with_its_key(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    Product = shop.Product
    (event,) = pg_session.scalars(Product.events.of(2).last())
    cup = event.revert(pg_session)
    assert (cup.id, cup.name, cup.price) == (2, "Cup", 9)
    assert pg_session.get(Product, 2) is cup
    pg_session.commit()
    (last,) = pg_session.scalars(cup.events.last())
    assert last.pgh_op == "I"


def test_rows_of_all_kinds_are_made_what_they_were(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    table = Table(
        "odd %'\"",
        base.metadata,
        Column("Key %'\"", Integer, Identity(always=True), primary_key=True, key="id"),
        Column("part", Text, primary_key=True),
        Column("a", Integer, key="alpha"),
        Column("double", Integer, Computed("a * 2", persisted=True)),
        Column("day", type_=JSONB(none_as_null=True)),
        Column("number", Integer, Identity(always=True)),
    )
    track(event_name="OddEvent")(table)
    create_all()
    commit(pg_session, insert(table).values(part="x", alpha=1, day={"a": [None, "'%"]}))
    before = rows(pg_session, table)
    number = commit(pg_session, update(table).values(alpha=5, day=None))
    (first,) = pg_session.scalars(history.events(table).first())
    assert first.revert(pg_session) is None
    assert rows(pg_session, table) == before
    pg_session.rollback()
    gone = commit(pg_session, delete(table))
    first.revert(pg_session)
    assert rows(pg_session, table) == before
    pg_session.rollback()
    history.undo(pg_session, table, transaction=gone)
    history.undo(pg_session, table, transaction=number)
    assert rows(pg_session, table) == before


def test_an_event_restores_what_it_stores(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    @track(Snapshot, AfterUpdate(columns=["a"], label="a"), exclude=["c"])
    class Thing(base):  # type: ignore[misc, valid-type]
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        a: Mapped[int]
        b: Mapped[int]
        c: Mapped[int] = mapped_column(server_default="7")

    create_all()
    commit(pg_session, insert(Thing).values(id=1, a=1, b=1, c=1))
    commit(pg_session, update(Thing).values(a=2))
    commit(pg_session, update(Thing).values(a=3, b=3, c=3))
    events = pg_session.scalars(Thing.events.where(Thing.events.pgh_label == "a")).all()
    with pytest.raises(
        EventsError, match=r"does not store b; give columns=\[...\] of id"
    ):
        events[0].revert(pg_session)
    thing = events[0].revert(pg_session, columns=["a"])
    assert (thing.a, thing.b, thing.c) == (2, 3, 3)
    pg_session.delete(thing)
    (first,) = pg_session.scalars(Thing.events.first())
    again = first.revert(pg_session)
    assert (again.a, again.b, again.c) == (1, 1, 7), "what is not tracked: its default"


def test_joined_rows_are_made_what_they_were_one_by_one(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    @track()
    class Animal(base):  # type: ignore[misc, valid-type]
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        name: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    @track()
    class Dog(Animal):
        __tablename__ = "dog"
        id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
        tricks: Mapped[int]
        __mapper_args__ = {"polymorphic_identity": "dog"}

    create_all()
    rex = Dog(id=1, name="Rex", tricks=1)
    pg_session.add(rex)
    pg_session.commit()
    rex.name, rex.tricks = "Max", 2
    pg_session.commit()
    animal = pg_session.scalars(Animal.events.first()).one()
    dog = pg_session.scalars(Dog.events.first()).one()
    assert animal.revert(pg_session) is rex
    assert (rex.name, rex.tricks) == ("Rex", 2)
    assert dog.revert(pg_session) is rex
    assert (rex.name, rex.tricks) == ("Rex", 1)
    pg_session.delete(rex)
    pg_session.commit()
    (event,) = pg_session.scalars(Dog.events.last())
    gone = event.pgh_xact_id
    animal.revert(pg_session)
    again = dog.revert(pg_session)
    assert (type(again), again.name, again.tricks) == (Dog, "Rex", 1)
    pg_session.rollback()
    done = history.undo(pg_session, base, transaction=gone)
    assert [str(step) for step in done.steps] == ["insert animal (1)", "insert dog (1)"]
    again = pg_session.get_one(Animal, 1)
    assert (again.name, again.tricks) == ("Max", 2), "before the reverts as well"


def test_a_transaction_is_undone_and_the_undo_as_well(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    Product, base = shop.Product, shop.Product.metadata
    tables = [t.__table__ for t in (shop.Maker, Product, shop.Tag)] + [shop.tagged]
    after = rows(pg_session, *tables)
    (event,) = pg_session.scalars(Product.events.of(4).last())
    transaction = event.pgh_xact_id
    count = len(pg_session.execute(history.AggregateEvent.select(base)).all())
    plan = history.undo(pg_session, base, transaction=transaction, dry_run=True)
    assert sorted(str(plan).splitlines()) == [
        "delete product (4)",
        "insert product (2)",
        "insert tagged (1, 2)",
        "insert tagged (2, 2)",
        "update maker (1): name = 'Ada'",
        "update product (1): price = 5, note = 'n', maker_id = 1",
    ]
    assert (plan.transaction, plan.conflicts) == (None, ())
    assert rows(pg_session, *tables) == after, "a dry run changes nothing"
    assert len(pg_session.execute(history.AggregateEvent.select(base)).all()) == count
    tea = pg_session.get_one(Product, 1)
    done = history.undo(pg_session, base, transaction=event)
    assert tea.price == 5, "objects are loaded again"
    pg_session.commit()
    with history.as_of(pg_session, **shop.then) as past:
        assert rows(pg_session, *tables) == rows(past, *tables)
    recorded = pg_session.execute(
        history.AggregateEvent.select(base, transaction=done.transaction)
    ).all()
    assert {tuple(row.pgh_context["undo"].items()) for row in recorded} == {
        (("transaction", transaction),)
    }
    assert len(recorded) == 6
    history.undo(pg_session, base, transaction=done.transaction)
    pg_session.commit()
    assert rows(pg_session, *tables) == after


def test_all_that_was_changed_in_a_context_is_undone(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    Maker, Product = shop.Maker, shop.Product
    tables = [Maker.__table__, Product.__table__]
    before = rows(pg_session, *tables)
    with history.context(pg_session, user="ada") as context:
        commit(pg_session, update(Product).values(price=0))
        with history.context(pg_session, step="inner"):
            commit(pg_session, insert(Maker).values(id=9, name="x"))
        commit(pg_session, update(Product).values(price=1, maker_id=9))
    (event,) = pg_session.scalars(Product.events.last())
    for what in (context, context.id, event, event.pgh_context):
        done = history.undo(pg_session, Product, Maker, context=what)
        assert rows(pg_session, *tables) == before
        pg_session.flush()
        (row,) = pg_session.execute(
            history.AggregateEvent.select(Maker, newest_first=True, limit=1)
        )
        assert row.pgh_context == {"undo": {"context": str(context.id)}}
        assert row.pgh_xact_id == done.transaction
        pg_session.rollback()


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
        "product (2,) cannot be product (2,), which is there again",
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
    with pytest.raises(
        UndoError, match="there is no order in which this can be undone"
    ):
        history.undo(pg_session, node, transaction=gone)


def test_keys_that_went_round_go_back(
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


def test_keys_that_one_statement_exchanged_are_not_guessed(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    item = Table(
        "item",
        base.metadata,
        Column("id", Integer),
        Column("name", Text),
        PrimaryKeyConstraint("id", deferrable=True, initially="DEFERRED"),
    )
    track()(item)
    create_all()
    commit(pg_session, insert(item).values([(1, "a"), (2, "b")]))
    before = rows(pg_session, item)
    exchanged = commit(pg_session, update(item).values(id=3 - item.c.id))
    with pytest.raises(UndoError, match="a deferrable primary key lets several have"):
        history.undo(pg_session, item, transaction=exchanged)
    moved = commit(pg_session, update(item).values(id=item.c.id + 10))
    history.undo(pg_session, item, transaction=moved)
    assert [name for _, name in rows(pg_session, item)] == [n for _, n in before][::-1]


def test_what_the_events_do_not_tell_is_not_undone(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    def make(name: str, *trackers: Any) -> Table:
        columns = Column("id", Integer, primary_key=True), Column("a", Integer)
        return track(*trackers)(Table(name, base.metadata, *columns))

    whole, part = make("whole"), make("part", Snapshot)
    create_all()
    with history.ignore(pg_session, whole):
        commit(pg_session, insert(whole).values(id=1, a=1))
    both = commit(pg_session, insert(whole).values(id=2), insert(part).values(id=1))
    with pytest.raises(UndoError, match="'part' was changed as well, .* every DELETE"):
        history.undo(pg_session, base, transaction=both)
    history.undo(pg_session, whole, transaction=both)
    assert rows(pg_session, whole) == [(1, 1)]
    pg_session.commit()
    unknown = commit(pg_session, update(whole).values(a=2))
    with pytest.raises(UndoError, match=r"no event tells what whole \(1,\) was before"):
        history.undo(pg_session, base, transaction=unknown)
    nothing = history.undo(pg_session, whole, transaction=1)
    assert (str(nothing), nothing.steps) == ("nothing to undo", ())
    for arguments, words in [
        ({}, "transaction=... or context=..., one of them"),
        ({"transaction": 1, "context": 2}, "one of them"),
    ]:
        with pytest.raises(UndoError, match=words):
            history.undo(pg_session, whole, **arguments)
    with pytest.raises(UndoError, match="needs to know whose rows to undo"):
        history.undo(pg_session, transaction=1)


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


def test_a_foreign_key_may_name_a_column_that_is_not_tracked(
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


@pytest.mark.parametrize(
    "trackers",
    [
        (Snapshot, AfterUpdate, AfterDelete, AfterDelete(label="gone")),
        (Snapshot, AfterDelete(columns=["id"], label="key"), AfterDelete),
        (Snapshot, AfterDelete(old.line == "a", label="a"), AfterDelete),
    ],
    ids=["twice", "a part first", "some first"],
)
def test_a_change_that_several_trackers_record_is_undone_once(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    level: str,
    trackers: tuple[Any, ...],
) -> None:
    columns = Column("id", Integer, primary_key=True), Column("line", Text)
    log = track(*trackers, level=level)(Table("log", base.metadata, *columns))
    create_all()
    commit(pg_session, insert(log).values([(1, "a"), (2, "b")]))
    before = rows(pg_session, log)
    rekeyed = update(log).values(id=log.c.id + 10)
    changed_line = update(log).values(line="c")
    for change in (rekeyed, changed_line, delete(log), text("TRUNCATE log")):
        changed = commit(pg_session, change)
        done = history.undo(pg_session, log, transaction=changed)
        assert len(done.steps) == 2
        pg_session.commit()
        assert rows(pg_session, log) == before


def test_rows_that_came_and_went_in_a_transaction_stay_away(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    Tag = shop.Tag
    before = rows(pg_session, Tag.__table__)
    both = commit(
        pg_session,
        insert(Tag).values(id=3, word="new"),
        delete(Tag).where(Tag.id == 3),
    )
    plan = history.undo(pg_session, Tag, transaction=both)
    assert (str(plan), plan.steps) == ("nothing to undo", ())
    assert rows(pg_session, Tag.__table__) == before


def test_rows_that_others_refer_to_do_not_exchange_their_keys(
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


def test_a_change_of_a_row_that_is_gone_is_not_undone_by_force(
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


def test_a_context_leaves_alone_what_does_not_know_its_context(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    def make(name: str, *trackers: Any, **options: Any) -> Table:
        table = Table(name, base.metadata, Column("id", Integer, primary_key=True))
        return track(*trackers, **options)(table)

    known, unknown = make("known"), make("unknown", context=None)
    inline, part = make("inline", context="inline"), make("part", Snapshot)
    create_all()
    commit(pg_session, insert(part).values(id=1))
    with history.context(pg_session, user=7) as context:
        tables = (known, unknown, inline)
        commit(pg_session, *(insert(table).values(id=1) for table in tables))
    done = history.undo(pg_session, base, context=context)
    steps = sorted(str(step) for step in done.steps)
    assert steps == ["delete inline (1)", "delete known (1)"]
    assert rows(pg_session, known, inline, unknown, part) == [(1,), (1,)]


def test_a_key_that_others_refer_to_need_not_be_the_primary_one(
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


def test_a_row_of_nothing_but_its_key_is_there_or_comes_back(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    before = rows(pg_session, shop.tagged)
    there = history.events(shop.tagged).of((1, 1))
    assert pg_session.scalars(there.first()).one().revert(pg_session) is None
    assert rows(pg_session, shop.tagged) == before
    gone = history.events(shop.tagged).of((1, 2))
    assert pg_session.scalars(gone.first()).one().revert(pg_session) is None
    assert rows(pg_session, shop.tagged) == sorted([*before, (1, 2)])


def test_a_row_without_a_key_is_not_made_what_it_was(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    log = track()(Table("log", base.metadata, Column("line", Text)))
    create_all()
    commit(pg_session, insert(log).values(line="a"))
    event = pg_session.scalars(history.events(log).select()).one()
    with pytest.raises(EventsError, match="log has no primary key, so the row of <Log"):
        event.revert(pg_session)


def test_a_truncation_is_undone(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    columns = Column("id", Integer, primary_key=True), Column("line", Text)
    log = track()(Table("log", base.metadata, *columns))
    create_all()
    commit(pg_session, insert(log).values([(1, "a"), (2, "b")]))
    before = rows(pg_session, log)
    gone = commit(pg_session, text("TRUNCATE log"))
    history.undo(pg_session, log, transaction=gone)
    assert rows(pg_session, log) == before


def test_async_sessions_revert_and_undo(
    shop: SimpleNamespace, pg_async_engine: AsyncEngine
) -> None:
    Product = shop.Product

    async def main() -> list[Any]:
        async with AsyncSession(pg_async_engine) as session:
            first = (await session.scalars(Product.events.of(1).first())).one()
            tea = await first.revert(session, columns=["price"])
            found = [tea.price]
            await session.rollback()
            last = (await session.scalars(Product.events.of(4).last())).one()
            base = Product.metadata
            await history.undo(session, base, transaction=last)
            found += list(
                await session.scalars(select(Product.name).order_by(Product.id))
            )
            return found

    assert asyncio.run(main()) == [5, "Tea", "Cup", "Pot"]


def test_a_transaction_is_found_by_its_index(
    shop: SimpleNamespace, pg_session: Session, statements: list[tuple[str, Any]]
) -> None:
    Product = shop.Product
    commit(
        pg_session,
        *(
            insert(Product).values(
                [{"id": n * 100 + m, "name": "x", "price": 1} for m in range(100)]
            )
            for n in range(1, 11)
        ),
    )
    number = commit(pg_session, update(Product).where(Product.id == 1).values(price=2))
    commit(pg_session, text("ANALYZE product_event"))
    statements.clear()
    history.undo(pg_session, Product, transaction=number, dry_run=True)
    (statement, parameters) = next(s for s in statements if "LATERAL" in s[0])
    cursor: Any = pg_session.connection().connection.cursor()
    cursor.execute("EXPLAIN " + statement, parameters)
    plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "ix_product_event_pgh_xact_id" in plan, plan
    assert "ix_product_event_pgh_obj_id" in plan
    assert "Seq Scan" not in plan
