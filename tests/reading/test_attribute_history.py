"""The changes of one attribute."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    ARRAY,
    Column,
    Enum,
    Integer,
    Interval,
    Numeric,
    PickleType,
    Table,
    Text,
    TypeDecorator,
    delete,
    insert,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.types import TypeEngine

import sa_history as history
from sa_history import (
    AfterDelete,
    AfterInsert,
    AfterUpdate,
    Manual,
    Snapshot,
    new,
    track,
)
from sa_history.exc import EventsError

from .transactions import run


def test_changes_are_the_values_before_and_after_with_their_context(
    thing: Any, pg_session: Session
) -> None:
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
    with pytest.raises(EventsError, match="the name of an attribute.*got 7"):
        history.changes(row, 7)  # type: ignore[arg-type]
    with pytest.raises(EventsError, match="'thing' is not a mapped class"):
        history.changes("thing", "a")  # type: ignore[arg-type]
    with pytest.raises(EventsError, match="one row, got the class Thing; give an"):
        history.changes(Thing, "a")


@pytest.mark.parametrize("context", ["reference", "inline", None])
def test_changes_have_the_metadata_of_the_context_however_it_is_stored(
    thing: Any, pg_session: Session, context: Any
) -> None:
    Thing = thing(context=context)
    with history.context(pg_session, user="ada"):
        run(pg_session, insert(Thing).values(id=1, a=1, b=1))
    (found,) = pg_session.execute(history.changes((Thing, 1), "a"))
    assert found.pgh_context == (None if context is None else {"user": "ada"})


def test_changes_begin_with_the_value_under_the_old_key(
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
    guest = AfterUpdate(columns=["guest"], label="guest")
    track(Snapshot, guest, AfterDelete, level=level)(seat)
    create_all()

    def found(*key: Any) -> list[Any]:
        rows = pg_session.execute(history.changes((seat, key), "guest"))
        return [(row.pgh_op, row.before, row.after) for row in rows]

    run(
        pg_session,
        insert(seat).values(row="a", number=1, guest="x"),
        update(seat).values(number=2, guest="y"),
        update(seat).values(guest="z"),
    )
    assert found("a", 1) == [("I", None, "x")]
    assert found("a", 2) == [("U", "x", "y"), ("U", "y", "z")]
    run(
        pg_session,
        delete(seat),
        insert(seat).values(row="b", number=1, guest="w"),
        update(seat).values(row="a", number=2),
    )
    assert found("a", 2)[2:] == [("D", "z", None), ("U", "w", "w")]


def test_changes_of_rows_that_take_one_key_after_the_other_in_a_transaction(
    thing: Any, pg_session: Session
) -> None:
    Thing = thing(Snapshot, AfterDelete)
    run(pg_session, insert(Thing).values([{"id": 1, "a": 1}, {"id": 2, "a": 2}]))
    for before, after in ((1, 9), (9, 8), (2, 9)):
        pg_session.execute(
            update(Thing).where(Thing.id == before).values(id=after, a=Thing.a + 10)
        )
    found = pg_session.execute(history.changes((Thing, 9), "a"))
    assert [(row.before, row.after) for row in found] == [(1, 11), (2, 12)]


class Grade(enum.Enum):
    GOOD = "g"
    FAIR = "f"


class Cents(TypeDecorator[Decimal]):
    """An amount of money, stored as a number of cents."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Any) -> int | None:
        return None if value is None else int(value * 100)

    def process_result_value(self, value: Any, dialect: Any) -> Decimal | None:
        return None if value is None else Decimal(value) / 100


@pytest.mark.parametrize(
    ("type_", "before", "after"),
    [
        (Enum(Grade), Grade.GOOD, Grade.FAIR),
        (Cents(), Decimal("1.25"), Decimal("2.50")),
        (Interval(), datetime.timedelta(days=1), datetime.timedelta(hours=5)),
        (Numeric(asdecimal=False), 1.5, 2.5),
        (PickleType(), {"a": {1}}, {"a": {2}}),
        (JSONB(), {"a": 1}, {"a": 2}),
        (ARRAY(Enum(Grade)), [Grade.GOOD], [Grade.FAIR]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, TypeEngine) else "",
)
def test_changes_are_values_of_the_attribute_before_and_after(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    type_: Any,
    before: Any,
    after: Any,
) -> None:
    @track()
    class Lot(base):  # type: ignore[misc, valid-type]
        __tablename__ = "lot"
        id: Mapped[int] = mapped_column(primary_key=True)
        value = mapped_column(type_)

    create_all()
    run(
        pg_session,
        insert(Lot).values(id=1, value=before),
        update(Lot).values(value=after),
        update(Lot).values(id=2, value=before),
    )
    for key, expected in [
        (1, [(None, before), (before, after)]),
        (2, [(after, before)]),
    ]:
        found = pg_session.execute(history.changes((Lot, key), "value")).all()
        assert [(row.before, row.after) for row in found] == expected
        assert {type(row.after) for row in found} == {type(before)}
