"""What differs between versions of a row, and how it is shown."""

from __future__ import annotations

import asyncio
import datetime
import enum
import html
import ipaddress
import json
import re
import uuid
from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    Integer,
    Numeric,
    Table,
    Text,
    delete,
    insert,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import INTERVAL, JSONB, Range
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import (
    AfterDelete,
    AfterInsert,
    AfterUpdate,
    AggregateEvent,
    Diff,
    Snapshot,
    new,
    track,
)
from sa_history.exc import EventsError

from .transactions import run


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
    with pytest.raises(EventsError, match="'tea' and 'cup', of which neither is an"):
        history.diff("tea", "cup")  # type: ignore[arg-type]
    with pytest.raises(EventsError, match="Product is not the class of an event"):
        next(history.steps([pg_session.get_one(Product, 1)]))


def test_values_of_a_diff_have_the_types_of_their_columns(
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


def test_steps_and_diffs_agree_over_all_events_of_a_row(
    thing: Any, pg_session: Session
) -> None:
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


def test_diffs_in_sql_are_the_same_as_in_python_if_a_key_changes(
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
    run(
        pg_session,
        insert(seat).values(row="a", number=1, guest="x"),
        update(seat).values(number=2, guest="y"),
        update(seat).values(number=3),
        update(seat).values(row="b", guest="z"),
        update(seat).values(guest="x"),
    )
    events = pg_session.scalars(history.events(seat).select()).all()
    rows = pg_session.execute(AggregateEvent.select(seat)).all()
    assert [
        row.pgh_diff and {n: tuple(v) for n, v in row.pgh_diff.items()} for row in rows
    ] == [event.diff for event in events]
    assert [row.pgh_diff for row in rows][1] == {"number": [1, 2], "guest": ["x", "y"]}


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


def test_an_event_is_compared_with_the_baseline_before_it(
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


def test_a_diff_needs_the_session_of_its_event(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    (event,) = pg_session.scalars(shop.Product.events.of(1).last())
    pg_session.expunge(event)
    with pytest.raises(EventsError, match="is in no session, .* history.diff"):
        event.diff


def test_a_diff_of_an_async_session_is_made_in_run_sync(
    shop: SimpleNamespace, pg_async_engine: AsyncEngine
) -> None:
    async def main() -> Any:
        async with AsyncSession(pg_async_engine) as session:
            event = await session.scalar(shop.Product.events.of(1).last())
            return await session.run_sync(lambda _: event.diff["price"])

    assert asyncio.run(main()) == (5, 6)


def test_an_event_can_be_compared_with_the_row_as_it_is_now(
    shop: SimpleNamespace, in_session: Callable[[Callable[[Session], Any]], Any]
) -> None:
    def compared(session: Session) -> Any:
        tea = session.get_one(shop.Product, 1)
        first, *_, last = session.scalars(tea.events.select()).all()
        assert history.diff(last, tea) == history.diff(tea, last) == {}
        forth, back = history.diff(first, tea), history.diff(tea, first)
        assert back == {name: (now, was) for name, (was, now) in forth.items()}
        cup_event = session.scalars(shop.Product.events.of(2).first()).one()
        assert history.diff(cup_event, tea)["id"] == (2, 1), "of another row"
        return forth

    assert in_session(compared) == {
        "price": (5, 6),
        "note": ("n", "m"),
        "maker_id": (1, 2),
    }


@pytest.mark.usefixtures("read_committed")
def test_the_row_of_now_is_compared_after_a_flush_as_a_query_reads_it(
    shop: SimpleNamespace, pg_session: Session, pg_engine: Engine
) -> None:
    pot = pg_session.get_one(shop.Product, 3)
    last = pg_session.scalars(pot.events.last()).one()
    pot.price = 7
    with pg_session.no_autoflush:
        assert history.diff(last, pot) == {}, "the database does not have it yet"
    assert pot.price == 7
    assert history.diff(last, pot) == {"price": (20, 7)}
    pg_session.commit()
    assert pot.price == 7
    with Session(pg_engine) as other:
        run(other, update(shop.Product).where(shop.Product.id == 3).values(price=8))
    assert history.diff(last, pot) == {"price": (20, 8)}, "not by the object"
    pot.id = 9
    assert history.diff(last, pot) == {"id": (3, 9), "price": (20, 8)}


def test_the_row_of_now_is_compared_by_what_the_database_calls_a_change(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: Callable[[Callable[[Session], Any]], Any],
) -> None:
    @track()
    class Typed(base):  # type: ignore[misc, valid-type]
        __tablename__ = "typed"
        id: Mapped[int] = mapped_column(primary_key=True)
        sum: Mapped[Decimal] = mapped_column("Sum %'\"", Numeric)
        data: Mapped[Any] = mapped_column(JSONB, nullable=True)
        wait = mapped_column(INTERVAL)

    create_all()

    def compared(session: Session) -> Any:
        row = Typed(id=1, sum=Decimal("1.0"), data=1)
        row.wait = datetime.timedelta(days=30)
        session.add(row)
        session.commit()
        event = session.scalars(row.events.last()).one()
        unchanged = history.diff(event, row)
        table = Typed.__table__
        values = {table.c[1]: Decimal("1.00"), table.c.data: True}
        wait = {table.c.wait: text("interval '1 month'")}
        session.execute(update(table).values({**values, **wait}))
        return unchanged, history.diff(event, row)

    unchanged, changed = in_session(compared)
    assert unchanged == {}
    assert {name: (repr(a), repr(b)) for name, (a, b) in changed.items()} == {
        "sum": ("Decimal('1.0')", "Decimal('1.00')"),
        "data": ("1", "True"),
        "wait": ("datetime.timedelta(days=30)",) * 2,
    }


def test_an_event_with_some_columns_is_compared_with_these_of_the_row(
    thing: Any, pg_session: Session
) -> None:
    Thing = thing(AfterInsert, AfterUpdate(columns=["a"], label="a"))
    run(
        pg_session,
        insert(Thing).values(id=1, a=1, b=1),
        update(Thing).values(a=2, b=2),
    )
    first, second = pg_session.scalars(Thing.events.select()).all()
    row = pg_session.get_one(Thing, 1)
    assert history.diff(first, row) == {"a": (1, 2), "b": (1, 2)}
    assert history.diff(second, row) == {}


def test_each_table_of_joined_inheritance_is_compared_with_its_events(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    @track()
    class Person(base):  # type: ignore[misc, valid-type]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    @track()
    class Manager(Person):
        __tablename__ = "manager"
        person_id: Mapped[int] = mapped_column(
            ForeignKey("person.id"), primary_key=True
        )
        grade: Mapped[int]

    create_all()
    eve = Manager(id=7, name="Eve", grade=1)
    pg_session.add(eve)
    pg_session.commit()
    person = pg_session.scalars(Person.events.last()).one()
    manager = pg_session.scalars(Manager.events.last()).one()
    eve.name, eve.grade = "Eva", 2
    assert history.diff(person, eve) == {"name": ("Eve", "Eva")}
    assert history.diff(eve, manager) == {"grade": (2, 1)}
    with pytest.raises(EventsError, match="is not a Manager; give one that is"):
        history.diff(manager, Person(id=7))


def test_an_object_of_the_past_is_compared_as_its_session_sees_it(
    shop: SimpleNamespace, past: Session, pg_session: Session
) -> None:
    tea = past.get_one(shop.Product, 1)
    first, *_, last = pg_session.scalars(shop.Product.events.of(1).select()).all()
    assert history.diff(first, tea) == {}
    assert history.diff(tea, last)["price"] == (5, 6)


def test_rows_of_now_that_cannot_be_read_are_refused(
    shop: SimpleNamespace, pg_session: Session, pg_async_engine: AsyncEngine
) -> None:
    tea = pg_session.get_one(shop.Product, 1)
    maker = pg_session.get_one(shop.Maker, 1)
    event = pg_session.scalars(tea.events.last()).one()
    with pytest.raises(EventsError, match="of which neither is an event"):
        history.diff(tea, tea)
    for other in (maker, None, shop.Product):
        with pytest.raises(EventsError, match="is not a Product; give one that is"):
            history.diff(event, other)
    with pytest.raises(EventsError, match="is in no session"):
        history.diff(event, shop.Product(id=1))
    tagged = pg_session.scalars(history.events(shop.tagged).last()).one()
    with pytest.raises(EventsError, match="is not a tagged"):
        history.diff(tagged, tea)
    pot, table = pg_session.get_one(shop.Product, 3), shop.Product.__table__
    pg_session.execute(delete(table).where(table.c.id == 3))
    with pytest.raises(EventsError, match="this Product has no row in the database"):
        history.diff(event, pot)

    async def main() -> Any:
        async with AsyncSession(pg_async_engine) as session:
            pot = await session.get_one(shop.Product, 3)
            event = await session.scalar(pot.events.last())
            with pytest.raises(EventsError, match="write await session.run_sync"):
                history.diff(event, pot)

    asyncio.run(main())


def test_a_diff_is_shown_as_text_and_as_html() -> None:
    diff = Diff({"na&me": ("a", "<b>"), "price": (None, Decimal("1.5")), "x": ("", 1)})
    assert diff.text().splitlines() == [
        "na&me: a -> <b>",
        "price: — -> 1.5",
        "x:  -> 1",
    ]
    shown = diff.html()
    assert '<th scope="row">na&amp;me</th><td><del>a</del></td>' in shown
    assert "<td><ins>&lt;b&gt;</ins></td>" in shown
    assert "<td><del>—</del></td><td><ins>1.5</ins></td>" in shown
    assert Diff({}).text() == ""
    assert repr(Diff({"a": (1, 2)})) == "Diff({'a': (1, 2)})"
    assert (len(diff), "x" in diff, diff["x"]) == (3, True, ("", 1))


def test_whatever_is_in_a_value_is_escaped_in_html() -> None:
    odd = "<&>\"'"
    for value in (odd, [odd], {odd: odd}, Range(odd, odd)):
        shown = Diff({odd: (value, None)}).html(max_length=None)
        text_only = re.sub(
            r"</?(table|thead|tbody|tr|th|td|del|ins)( [^<>]*)?>", "", shown
        )
        assert not {*"<>\"'"} & {*text_only}
        assert "&lt;&amp;&gt;" in shown


class Size(enum.Enum):
    SMALL = "small"


class Color(str, enum.Enum):
    RED = "red"


class Rank(enum.IntEnum):
    FIRST = 1


NOON = datetime.datetime(2026, 1, 2, 12, 0, 0)
VALUES: dict[str, tuple[Any, str, Any]] = {
    "none": (None, "—", None),
    "text": ("a b", "a b", "a b"),
    "lines": ("a\nb\r\n", "a⏎b⏎", "a\nb\r\n"),
    "true": (True, "true", True),
    "false": (False, "false", False),
    "integer": (2**70, str(2**70), 2**70),
    "float": (0.1, "0.1", 0.1),
    "float_nan": (float("nan"), "NaN", "NaN"),
    "float_infinity": (-float("inf"), "-Infinity", "-Infinity"),
    "numeric": (Decimal("1.50"), "1.50", "1.50"),
    "numeric_exponent": (Decimal("1.5E+3"), "1500", "1500"),
    "numeric_small": (Decimal("1E-9"), "0.000000001", "0.000000001"),
    "numeric_nan": (Decimal("NaN"), "NaN", "NaN"),
    "date": (datetime.date(2026, 1, 2), "2026-01-02", "2026-01-02"),
    "time": (datetime.time(9, 5), "09:05:00", "09:05:00"),
    "timestamp": (NOON, "2026-01-02 12:00:00", "2026-01-02T12:00:00"),
    "timestamp_zone": (
        NOON.replace(tzinfo=datetime.timezone.utc),
        "2026-01-02 12:00:00+00:00",
        "2026-01-02T12:00:00+00:00",
    ),
    "interval": (
        datetime.timedelta(days=1, hours=2),
        "1 day, 2:00:00",
        "1 day, 2:00:00",
    ),
    "interval_negative": (datetime.timedelta(hours=-1), "-1:00:00", "-1:00:00"),
    "enum": (Size.SMALL, "small", "small"),
    "enum_of_text": (Color.RED, "red", "red"),
    "enum_of_numbers": (Rank.FIRST, "1", 1),
    "uuid": (uuid.UUID(int=7), str(uuid.UUID(int=7)), str(uuid.UUID(int=7))),
    "bytes": (b"\0\xff", r"\x00ff", r"\x00ff"),
    "address": (ipaddress.ip_address("10.0.0.1"), "10.0.0.1", "10.0.0.1"),
    "range": (Range(1, 3), "[1,3)", "[1,3)"),
    "json": ({"ä": [1, None, True]}, '{"ä": [1, null, true]}', {"ä": [1, None, True]}),
    "array": (
        [datetime.date(2026, 1, 2), None, Size.SMALL, Decimal("1.0"), b"a"],
        '["2026-01-02", null, "small", "1.0", "\\\\x61"]',
        ["2026-01-02", None, "small", "1.0", r"\x61"],
    ),
    "array_nan": ([float("nan")], "[NaN]", ["NaN"]),
    "tuple": ((1, (2,)), "[1, [2]]", [1, [2]]),
}
"""Values with how they are shown, and what they are as JSON."""


@pytest.mark.parametrize("name", VALUES)
def test_a_value_is_shown_as_a_person_reads_it_and_has_a_type_of_json(
    name: str,
) -> None:
    value, shown, as_json = VALUES[name]
    diff = Diff({"x": (value, "other")})
    assert diff.text() == f"x: {shown} -> other"
    assert f"<del>{html.escape(shown)}</del>" in diff.html()
    assert diff.as_json() == {"x": {"before": as_json, "after": "other"}}
    sent = json.dumps(diff.as_json(), allow_nan=False)
    assert json.loads(sent) == diff.as_json()
    assert type(diff.as_json()["x"]["before"]) is type(as_json)


def test_long_values_are_shortened_to_where_they_differ() -> None:
    same = "a" * 300
    diff = Diff(
        {"x": (f"{same}b{same}", f"{same}c"), "y": (same, None), "z": (b"a" * 99, b"")}
    )
    before, after = diff.text().splitlines()[0].removeprefix("x: ").split(" -> ")
    assert before == "…" + "a" * 25 + "b" + "a" * 74 + "…"
    assert after == "…" + "a" * 25 + "c"
    assert diff.text().splitlines()[1] == f"y: {'a' * 100}… -> —"
    assert diff.text().splitlines()[2] == rf"z: \x{'61' * 49}… -> \x"
    assert diff.text(max_length=4).splitlines()[0] == "x: …abaa… -> …ac"
    assert f"<del>{same}b{same}</del>" in diff.html(max_length=None)
    assert "<del>…abaa…</del>" in diff.html(max_length=4)
    assert diff.as_json()["x"]["before"] == f"{same}b{same}"


def test_a_diff_of_stored_values_can_be_sent_as_json(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    first, *_, last = pg_session.scalars(shop.Product.events.of(1).select())
    assert history.diff(first, last).as_json() == {
        "price": {"before": 5, "after": 6},
        "note": {"before": "n", "after": "m"},
        "maker_id": {"before": 1, "after": 2},
    }
