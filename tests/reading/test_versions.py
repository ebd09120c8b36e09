"""Versions of a row: finding one by its key and a time."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Integer,
    PrimaryKeyConstraint,
    Table,
    insert,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

import sa_history as history
from sa_history import (
    AfterInsert,
    AfterUpdate,
    AggregateEvent,
    Manual,
    Snapshot,
    track,
)
from sa_history.exc import EventsError

from .transactions import run


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
        with pytest.raises(EventsError, match="write Model.events.at") as refusal:
            wrong()
        assert "UNSET" not in str(refusal.value)
    with pytest.raises(
        EventsError, match=r"the key of Product is \(id\), got \(1, 2\)"
    ):
        pg_session.scalars(Product.events.of((1, 2)).select())


def test_an_event_with_the_whole_row_is_the_version(
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


def test_without_whole_rows_the_last_event_is_the_version(
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


def test_steps_of_other_rows_or_in_another_order_are_refused(
    thing: Any, pg_session: Session
) -> None:
    Thing = thing()
    run(
        pg_session,
        insert(Thing).values([{"id": 1, "a": 1}, {"id": 2, "a": 2}]),
        update(Thing).values(a=3),
        update(Thing).where(Thing.id == 1).values(id=4),
    )
    mixed = pg_session.scalars(Thing.events.select()).all()
    with pytest.raises(EventsError, match="^steps takes the events of one row, got <T"):
        list(history.steps(mixed))
    first = pg_session.scalars(Thing.events.of(1).select()).all()
    with pytest.raises(EventsError, match="^steps takes events oldest first, got <T"):
        list(history.steps(reversed(first)))
    moved = pg_session.scalars(Thing.events.of(4).select()).all()
    found = [changed for _, changed in history.steps([*first, *moved])]
    assert found == [None, {"a": (1, 3)}, {"id": (1, 4)}], "of a row with its new key"
