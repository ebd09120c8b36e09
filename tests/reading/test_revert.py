"""One row made what it was in an event."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Column,
    Computed,
    Date,
    DateTime,
    ForeignKey,
    Identity,
    Integer,
    Table,
    Text,
    TypeDecorator,
    cast,
    delete,
    insert,
    null,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import AfterUpdate, Snapshot, track
from sa_history.exc import EventsError

from .transactions import commit, rows


def test_revert_restores_the_columns_that_are_named(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    tea = pg_session.get_one(shop.Product, 1)
    (event,) = pg_session.scalars(tea.events.first())
    tea.name = "Coffee"  # flushed, and kept
    assert event.revert(pg_session, columns=["price"]) is tea
    assert (tea.name, tea.price, tea.maker_id) == ("Coffee", 5, 2)


def test_revert_restores_all_columns_and_is_recorded_as_an_update(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    tea = pg_session.get_one(shop.Product, 1)
    (event,) = pg_session.scalars(tea.events.first())
    tea.name = "Coffee"  # flushed, and then overwritten
    assert event.revert(pg_session) is tea
    assert (tea.name, tea.price, tea.maker_id) == ("Tea", 5, 1)
    pg_session.commit()
    (last,) = pg_session.scalars(tea.events.last())
    assert (last.pgh_op, last.price) == ("U", 5)


def test_revert_refuses_a_column_that_the_event_does_not_store(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    (event,) = pg_session.scalars(shop.Product.events.of(1).first())
    with pytest.raises(EventsError, match="does not store prize; give columns="):
        event.revert(pg_session, columns=["prize"])


def test_revert_refuses_a_name_in_place_of_a_list_of_columns(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    (event,) = pg_session.scalars(shop.Product.events.of(1).first())
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
    with pytest.raises(IntegrityError, match="ForeignKeyViolation"):
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


def test_each_table_of_a_joined_class_is_reverted_by_its_own_event(
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


def test_identity_computed_and_json_columns_are_restored(
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


@pytest.mark.parametrize("rows_of_transaction", [1, 120])
def test_a_row_whose_key_is_computed_comes_back(
    rows_of_transaction: int,
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
) -> None:
    """Be it restored, undone by itself, or undone with many others."""
    table = Table(
        "link",
        base.metadata,
        Column("project", Integer, primary_key=True),
        Column("name", Text),
        Column(
            "lower_name",
            Text,
            Computed("lower(name)", persisted=True),
            primary_key=True,
        ),
    )
    track()(table)
    create_all()
    values = [{"project": n, "name": "A"} for n in range(rows_of_transaction)]
    commit(pg_session, insert(table).values(values))
    before = rows(pg_session, table)
    moved = commit(pg_session, update(table).values(name="B"))
    gone = commit(pg_session, delete(table))
    (first,) = pg_session.scalars(history.events(table).of((0, "a")).first())
    first.revert(pg_session)
    assert rows(pg_session, table) == before[:1]
    pg_session.rollback()
    history.undo(pg_session, table, transaction=gone)
    assert {name for *_, name in rows(pg_session, table)} == {"b"}
    history.undo(pg_session, table, transaction=moved)
    assert rows(pg_session, table) == before


def test_revert_of_a_row_of_nothing_but_its_key_inserts_it_if_it_is_gone(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    before = rows(pg_session, shop.tagged)
    there = history.events(shop.tagged).of((1, 1))
    assert pg_session.scalars(there.first()).one().revert(pg_session) is None
    assert rows(pg_session, shop.tagged) == before
    gone = history.events(shop.tagged).of((1, 2))
    assert pg_session.scalars(gone.first()).one().revert(pg_session) is None
    assert rows(pg_session, shop.tagged) == sorted([*before, (1, 2)])


def test_revert_refuses_an_event_of_a_table_without_a_primary_key(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    log = track()(Table("log", base.metadata, Column("line", Text)))
    create_all()
    commit(pg_session, insert(log).values(line="a"))
    event = pg_session.scalars(history.events(log).select()).one()
    with pytest.raises(EventsError, match="log has no primary key, so the row of <Log"):
        event.revert(pg_session)


class EmptyIsNone(TypeDecorator[str]):
    """Text, of which Python has None for the empty one."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str:
        return value or ""

    def process_result_value(self, value: str | None, dialect: Any) -> str | None:
        return value or None


class Answers(TypeDecorator[dict[str, Any]]):
    """JSON of which an application has a type of its own."""

    impl = JSONB
    cache_ok = True


@pytest.mark.parametrize("identity", [False, True], ids=["by default", "always"])
@pytest.mark.parametrize(
    ("type_", "stored", "other"),
    [
        (JSONB(), "null", '{"q": 1}'),
        (JSON(), "null", '{"q": 1}'),
        (JSONB(none_as_null=True), "null", '{"q": 1}'),
        (Answers(), "null", '{"q": 1}'),
        (EmptyIsNone(), "", "x"),
    ],
    ids=["jsonb", "json", "none as null", "json by a decorator", "empty text"],
)
def test_null_and_what_python_has_none_for_are_restored_as_they_were(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    type_: Any,
    stored: str,
    other: str,
    identity: bool,
) -> None:
    form = Table(
        "form",
        base.metadata,
        Column("id", Integer, Identity(always=identity), primary_key=True),
        Column("answers", type_, nullable=True),
    )
    track()(form)
    create_all()
    name = type_.compile(dialect=pg_session.get_bind().dialect)

    def now() -> list[str | None]:
        return list(pg_session.scalars(text("SELECT answers::text FROM form")))

    def write(value: str | None) -> int:
        change = text(f"UPDATE form SET answers = CAST(:x AS {name})")
        return commit(pg_session, change.bindparams(x=value))

    commit(pg_session, text("INSERT INTO form (answers) VALUES (NULL)"))
    for before, after in [
        (None, other),
        (stored, other),
        (None, stored),
        (stored, None),
    ]:
        write(before)
        event = pg_session.scalars(history.events(form).last()).one()
        changed = write(after)
        event.revert(pg_session)
        assert now() == [before]
        pg_session.rollback()
        history.undo(pg_session, form, transaction=changed)
        assert now() == [before]
        pg_session.rollback()
        deleted = commit(pg_session, delete(form))
        event.revert(pg_session)
        assert now() == [before]
        pg_session.rollback()
        history.undo(pg_session, form, transaction=deleted)
        assert now() == [after]
        pg_session.commit()


@pytest.mark.parametrize(
    "stored", ["infinity", "-infinity", "9999-12-31", "0001-01-01"]
)
def test_infinity_is_told_from_the_last_time_of_python_by_other_drivers(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    in_other_session: Callable[[Callable[[Session], Any]], Any],
    stored: str,
) -> None:
    offer = Table(
        "offer",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("day", Date),
        Column("at", DateTime),
        Column("instant", DateTime(timezone=True)),
    )
    track()(offer)
    create_all()
    values = {"day": stored, "at": stored, "instant": stored}
    if stored.startswith("9999"):
        values |= dict.fromkeys(("at", "instant"), f"{stored} 23:59:59.999999Z")
    elif stored.startswith("0001"):
        values |= {"instant": f"{stored} 00:00:00Z"}
    made = "INSERT INTO offer VALUES (1, CAST(:day AS date), CAST(:at AS timestamp), "
    made += "CAST(:instant AS timestamptz))"
    written = select(*(cast(column, Text) for column in offer.c))

    def now(session: Session) -> Any:
        return tuple(session.execute(written).one())

    pg_session.execute(text("SET TimeZone = 'UTC'"))
    commit(pg_session, text(made).bindparams(**values))
    expected = now(pg_session)
    changed = commit(pg_session, update(offer).values(day=None, at=None, instant=None))

    def go_back(session: Session) -> list[Any]:
        session.execute(text("SET TimeZone = 'UTC'"))
        session.scalars(history.events(offer).first()).one().revert(session)
        found = [now(session)]
        session.rollback()
        session.execute(text("SET TimeZone = 'UTC'"))
        history.undo(session, offer, transaction=changed)
        return [*found, now(session)]

    assert in_other_session(go_back) == [expected, expected]


def test_a_change_from_null_to_null_of_json_is_a_conflict(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    columns = Column("id", Integer, primary_key=True), Column("answers", JSONB)
    form = track()(Table("form", base.metadata, *columns))
    create_all()
    commit(pg_session, insert(form).values(id=1, answers={"q": 1}))
    emptied = commit(pg_session, update(form).values(answers=null()))
    commit(pg_session, update(form).values(answers=JSON.NULL))
    plan = history.undo(pg_session, form, transaction=emptied, dry_run=True)
    assert "answers is None (not NULL) and was None" in str(plan)
