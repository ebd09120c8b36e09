"""Versions of a row: finding one, what differs between two, and how it is shown."""

from __future__ import annotations

import asyncio
import copy
import datetime
from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    delete,
    insert,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import (
    AfterDelete,
    AfterInsert,
    AfterUpdate,
    AggregateEvent,
    Diff,
    Manual,
    Snapshot,
    new,
    track,
)
from sa_history.exc import EventsError


@pytest.fixture
def thing(base: type[DeclarativeBase], create_all: Callable[[], None]) -> Any:
    """Make a model with these trackers, and its table."""

    def make(*trackers: Any, **options: Any) -> Any:
        @track(*trackers, **options)
        class Thing(base):  # type: ignore[misc, valid-type]
            __tablename__ = "thing"
            id: Mapped[int] = mapped_column(primary_key=True)
            a: Mapped[int | None]
            b: Mapped[int | None]

        create_all()
        return Thing

    return make


def run(session: Session, *statements: Any) -> None:
    """Execute each statement in a transaction of its own."""
    for statement in statements:
        session.execute(statement)
        session.commit()


def test_the_previous_version_is_found_by_labels_that_are_in_the_statement(
    thing: Any, pg_session: Session, statements: list[tuple[str, Any]]
) -> None:
    """The plan of a statement with parameters would not know how many events match."""
    Thing = thing(Snapshot, AfterUpdate(columns=["a"], label="brief"))
    run(
        pg_session,
        insert(Thing).values(id=1, a=1, b=1),
        update(Thing).values(a=2, b=2),
    )
    last = pg_session.scalars(Thing.events.where(Thing.events.pgh_op == "U")).first()
    statements.clear()
    assert last is not None
    assert dict(last.diff) == {"a": (1, 2), "b": (1, 2)}
    ((statement, parameters),) = statements
    assert "pgh_label IN ('snapshot')" in statement
    assert "snapshot" not in parameters.values()


def test_versions_are_found_by_time(
    shop: SimpleNamespace, pg_session: Session, clock: Callable[[], Any]
) -> None:
    Product, then = shop.Product, shop.then["when"]
    now = clock()
    tea = pg_session.get_one(Product, 1)

    def price(statement: Any) -> Any:
        return [event.price for event in pg_session.scalars(statement)]

    assert price(Product.events.at(1, then)) == price(tea.events.at(then)) == [5]
    assert price(Product.events.of(1).at(now)) == [6]
    assert price(tea.events.first()) == [5]
    assert price(tea.events.last()) == [6]
    assert price(tea.events.between(then, now)) == [6]
    (event,) = pg_session.scalars(tea.events.first())
    exact = event.pgh_created_at
    assert price(tea.events.between(exact, then)) == [5], "from a time on"
    assert price(tea.events.between(then - datetime.timedelta(days=1), exact)) == []
    assert price(tea.events.at(exact)) == [5]
    assert price(tea.events.at(exact - datetime.timedelta(microseconds=1))) == []
    gone = pg_session.scalars(Product.events.at(2, now)).one()
    assert (gone.pgh_op, gone.name) == ("D", "Cup")
    assert [e.name for e in pg_session.scalars(Product.events.last())] == ["Cup"]
    for wrong in (lambda: Product.events.at(now), lambda: tea.events.at(1)):
        with pytest.raises(EventsError, match="write Model.events.at"):
            wrong()
    with pytest.raises(
        EventsError, match=r"the key of Product is \(id\), got \(1, 2\)"
    ):
        pg_session.scalars(Product.events.of((1, 2)).select())


def test_a_version_has_the_whole_row_where_one_is_stored(
    thing: Any, pg_session: Session, clock: Callable[[], Any]
) -> None:
    Thing = thing(
        Snapshot, AfterUpdate(columns=["a"], label="a"), Manual("seen", columns=["b"])
    )
    run(pg_session, insert(Thing).values(id=1, a=1, b=1), update(Thing).values(a=2))
    history.create_event(pg_session, pg_session.get_one(Thing, 1), label="seen")
    pg_session.commit()
    event = pg_session.scalars(Thing.events.at(1, clock())).one()
    assert (event.pgh_label, event.a, event.b) == ("snapshot", 2, 1)


def test_a_version_is_what_was_told_last_where_not_all_is_told(
    thing: Any, pg_session: Session, clock: Callable[[], Any]
) -> None:
    """To pass over an event with less would hide the change that it tells."""
    Thing = thing(AfterInsert(label="made"), AfterUpdate(columns=["a"], label="a"))
    run(pg_session, insert(Thing).values(id=1, a=1, b=1), update(Thing).values(a=2))
    event = pg_session.scalars(Thing.events.at(1, clock())).one()
    assert (event.pgh_label, event.a) == ("a", 2)


def test_events_can_be_copied(thing: Any, pg_session: Session) -> None:
    Thing = thing(Snapshot)
    run(pg_session, insert(Thing).values(id=1, a=1))
    assert repr(copy.copy(Thing.events.of(1))) == "<Events ThingEvent of 1>"
    assert pg_session.scalars(copy.copy(Thing.events.of(1)).select()).one().a == 1
    with pytest.raises(AttributeError, match="__html__"):
        Thing.events.__html__


def test_an_object_of_a_table_that_was_tracked_without_a_class_has_no_events(
    base: type[DeclarativeBase],
) -> None:
    table = Table("leaf", base.metadata, Column("id", Integer, primary_key=True))
    track(Snapshot)(table)

    class Leaf(base):  # type: ignore[misc, valid-type]
        __table__ = table

    with pytest.raises(EventsError, match=r"Leaf object.* is not a leaf; give one"):
        history.events(Leaf(id=1)).select()


def test_any_two_versions_can_be_compared(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    Product = shop.Product
    events = pg_session.scalars(Product.events.select()).all()
    tea, cup = events[0], events[1]
    assert dict(history.diff(tea, cup)) == {
        "id": (1, 2),
        "name": ("Tea", "Cup"),
        "price": (5, 9),
        "note": ("n", None),
    }
    assert history.diff(tea, tea) == {}
    last = pg_session.scalars(Product.events.of(1).last()).one()
    changed = history.diff(tea, last)
    assert list(changed) == ["price", "note", "maker_id"], "in the order of columns"
    assert history.diff(last, tea)["price"] == (6, 5)
    assert last.diff == changed
    maker = pg_session.scalars(shop.Maker.events.first()).one()
    with pytest.raises(EventsError, match="are events of different tables"):
        history.diff(tea, maker)


def test_values_have_their_types(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    @track()
    class Typed(base):  # type: ignore[misc, valid-type]
        __tablename__ = "typed"
        id: Mapped[int] = mapped_column(primary_key=True)
        day: Mapped[datetime.date | None]
        sum_: Mapped[Decimal | None] = mapped_column("Sum %'\"")
        raw: Mapped[bytes | None]
        data: Mapped[Any] = mapped_column(JSONB, nullable=True)

    create_all()
    row = Typed(id=1, data={"a": [1]})
    pg_session.add(row)
    pg_session.commit()
    row.day, row.sum_, row.raw = datetime.date(2026, 1, 2), Decimal("1.50"), b"\0"
    row.data = {"a": [2]}
    pg_session.commit()
    (event,) = pg_session.scalars(row.events.last())
    assert dict(event.diff) == {
        "day": (None, datetime.date(2026, 1, 2)),
        "sum_": (None, Decimal("1.50")),
        "raw": (None, b"\0"),
        "data": ({"a": [1]}, {"a": [2]}),
    }


def test_a_life_is_told_step_by_step(thing: Any, pg_session: Session) -> None:
    Thing = thing(
        Snapshot,
        AfterInsert(label="new"),
        AfterUpdate(new.a < 0, label="low"),
        AfterUpdate(columns=["a"], label="a"),
        AfterDelete,
    )
    run(
        pg_session,
        insert(Thing).values(id=1, a=1, b=1),
        update(Thing).values(a=-1),
        update(Thing).values(b=2),
        delete(Thing),
        insert(Thing).values(id=1, a=5, b=5),
    )
    events = pg_session.scalars(Thing.events.of(1).select()).all()
    expected = [
        ("snapshot", None),
        ("new", None),
        ("snapshot", {"a": (1, -1)}),
        ("low", {"a": (1, -1)}),
        ("a", {"a": (1, -1)}),
        ("snapshot", {"b": (1, 2)}),
        ("low", {"b": (1, 2)}),
        ("delete", {}),
        ("snapshot", None),
        ("new", None),
    ]
    assert [(e.pgh_label, d) for e, d in history.steps(events)] == expected
    assert [(e.pgh_label, e.diff) for e in events] == expected
    rows = pg_session.execute(AggregateEvent.select((Thing, 1))).all()
    in_sql = [
        (row.pgh_label, row.pgh_diff and {k: tuple(v) for k, v in row.pgh_diff.items()})
        for row in rows
    ]
    expected[7] = ("delete", {})
    assert in_sql == [(label, diff or diff) for label, diff in expected]


def test_an_event_with_some_columns_is_compared_by_these(
    thing: Any, pg_session: Session
) -> None:
    Thing = thing(AfterInsert, AfterUpdate(columns=["a"], label="a"))
    run(
        pg_session,
        insert(Thing).values(id=1, a=1, b=1),
        update(Thing).values(a=2, b=2),
        update(Thing).values(a=3),
    )
    events = pg_session.scalars(Thing.events.select()).all()
    assert [event.diff for event in events] == [None, {"a": (1, 2)}, {"a": (2, 3)}]


def test_a_changed_key_is_a_difference(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    level: str,
) -> None:
    seat = Table(
        "seat",
        base.metadata,
        Column("row", Text, primary_key=True),
        Column("number", Integer, primary_key=True),
        Column("guest", Text),
    )
    track(level=level)(seat)
    create_all()
    run(
        pg_session,
        insert(seat).values(row="a", number=1, guest="x"),
        update(seat).values(number=2),
        update(seat).values(guest="y"),
    )
    events = pg_session.scalars(history.events(seat).select()).all()
    assert [event.diff for event in events] == [
        None,
        {"number": (1, 2)},
        {"guest": ("x", "y")},
    ]
    assert [event.pgh_old_key for event in events] == [None, ["a", 1], None]


def test_a_key_is_given_in_the_order_of_the_primary_key(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    @track()
    class Seat(base):  # type: ignore[misc, valid-type]
        __tablename__ = "seat"
        number: Mapped[int]
        row: Mapped[int]
        guest: Mapped[str]
        __table_args__ = (PrimaryKeyConstraint("row", "number"),)

    create_all()
    run(
        pg_session,
        insert(Seat).values(row=1, number=2, guest="x"),
        update(Seat).values(number=3),
    )
    key = (1, 3)
    assert pg_session.get_one(Seat, key).guest == "x"
    (event,) = pg_session.scalars(Seat.events.of(key).select())
    assert (event.pgh_old_key, event.diff) == ([1, 2], {"number": (2, 3)})
    (row,) = pg_session.execute(AggregateEvent.select((Seat, key)))
    assert row.pgh_obj_id == "[1, 3]"
    (changed,) = pg_session.execute(history.changes((Seat, key), "guest"))
    assert changed.after == "x"
    with history.as_of(pg_session, event) as past:
        assert past.get_one(Seat, key).guest == "x"
        assert past.get(Seat, (1, 2)) is None
    history.undo(pg_session, Seat, transaction=event)
    assert pg_session.get_one(Seat, (1, 2)).guest == "x"


def test_columns_that_subclasses_add_are_compared(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    @track()
    class Animal(base):  # type: ignore[misc, valid-type]
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    class Cat(Animal):
        lives: Mapped[int | None]
        __mapper_args__ = {"polymorphic_identity": "cat"}

    create_all()
    tom = Cat(id=1, lives=9)
    pg_session.add(tom)
    pg_session.commit()
    tom.lives = 8
    pg_session.commit()
    (event,) = pg_session.scalars(Animal.events.last())
    assert event.diff == {"lives": (9, 8)}
    (first,) = pg_session.scalars(Animal.events.first())
    assert first.revert(pg_session) is tom
    assert tom.lives == 9


def test_a_first_event_is_compared_with_what_came_after_tracking(
    thing: Any, pg_session: Session
) -> None:
    model = thing(Snapshot(exclude=["b"]), AfterDelete)
    with history.ignore(pg_session, model):
        run(pg_session, insert(model).values(id=1, a=1, b=1))
    history.baseline(pg_session.get_bind(), model)
    run(pg_session, update(model).values(a=2, b=2))
    first, second = pg_session.scalars(model.events.select()).all()
    assert (first.pgh_op, first.diff) == ("B", None)
    assert dict(second.diff) == {"a": (1, 2)}
    found = first.revert(pg_session)
    assert (found.a, found.b) == (1, 1), "it has the whole row"


def test_an_event_asks_its_session(shop: SimpleNamespace, pg_session: Session) -> None:
    (event,) = pg_session.scalars(shop.Product.events.of(1).last())
    pg_session.expunge(event)
    with pytest.raises(EventsError, match="is in no session, .* history.diff"):
        event.diff


def test_async_code_asks_through_run_sync(
    shop: SimpleNamespace, pg_async_engine: AsyncEngine
) -> None:
    async def main() -> Any:
        async with AsyncSession(pg_async_engine) as session:
            event = await session.scalar(shop.Product.events.of(1).last())
            return await session.run_sync(lambda _: event.diff["price"])

    assert asyncio.run(main()) == (5, 6)


def test_a_diff_is_shown_as_text_and_as_html() -> None:
    diff = Diff({"na&me": ("a", "<b>"), "price": (None, Decimal("1.5")), "x": ("", 1)})
    assert diff.text().splitlines() == [
        "na&me: a -> <b>",
        "price: None -> Decimal('1.5')",
        "x:  -> 1",
    ]
    shown = diff.html()
    assert '<th scope="row">na&amp;me</th><td><del>a</del></td>' in shown
    assert "<td><ins>&lt;b&gt;</ins></td>" in shown
    assert "Decimal(&#x27;1.5&#x27;)" in shown
    assert Diff({}).text() == ""
    assert repr(Diff({"a": (1, 2)})) == "Diff({'a': (1, 2)})"
    assert (len(diff), "x" in diff, diff["x"]) == (3, True, ("", 1))


def test_the_changes_of_an_attribute(thing: Any, pg_session: Session) -> None:
    Thing = thing(
        Snapshot,
        AfterInsert(label="new"),
        AfterUpdate(new.a < 0, label="low"),
        AfterUpdate(columns=["b"], label="b"),
        Manual("seen"),
        AfterDelete,
        AfterDelete(columns=["id"], label="gone"),
    )
    with history.context(pg_session, user="ada"):
        run(pg_session, insert(Thing).values(id=1, a=1, b=1))
    with history.context(pg_session, user="ben"):
        run(pg_session, update(Thing).values(a=-1), update(Thing).values(b=2))
    history.create_event(pg_session, pg_session.get_one(Thing, 1), label="seen")
    run(
        pg_session,
        update(Thing).values(a=None),
        delete(Thing),
        insert(Thing).values(id=1, a=None, b=1),
        update(Thing).values(a=7),
    )
    row = pg_session.get_one(Thing, 1)
    expected = [
        ("I", None, 1, {"user": "ada"}),
        ("U", 1, -1, {"user": "ben"}),
        ("U", -1, None, None),
        ("D", None, None, None),
        ("I", None, None, None),
        ("U", None, 7, None),
    ]
    for target, attribute in [(row, "a"), ((Thing, 1), Thing.a)]:
        found = pg_session.execute(history.changes(target, attribute)).all()
        assert [(r.pgh_op, r.before, r.after, r.pgh_context) for r in found] == expected
        assert found[0].pgh_created_at.tzinfo is not None
        assert found[0].pgh_id < found[-1].pgh_id
    found = pg_session.execute(history.changes((Thing, 1), "b")).all()
    assert [(r.before, r.after) for r in found] == [
        (None, 1),
        (1, 2),
        (2, None),
        (None, 1),
    ]
    with pytest.raises(EventsError, match="Thing tracks no attribute 'c'"):
        history.changes(row, "c")


@pytest.mark.parametrize("context", ["reference", "inline", None])
def test_changes_are_told_wherever_the_context_is(
    thing: Any, pg_session: Session, context: Any
) -> None:
    Thing = thing(context=context)
    with history.context(pg_session, user="ada"):
        run(pg_session, insert(Thing).values(id=1, a=1, b=1))
    (found,) = pg_session.execute(history.changes((Thing, 1), "a"))
    assert found.pgh_context == (None if context is None else {"user": "ada"})
