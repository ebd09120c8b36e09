"""Cards of the list: what was done together, in the words of the application."""

from __future__ import annotations

import datetime
import enum
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import flask
import pytest
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    Column,
    Date,
    Engine,
    Enum,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    Table,
    Uuid,
    event,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

import sa_history
from sa_history import track
from sa_history.exc import DefinitionError
from sa_history.timeline import pages
from sa_history.timeline.entries import Hidden, ShownTable
from sa_history.timeline.references import ReferringKey, referring_keys
from sa_history.tracking.registry import trackings_in
from tests.timeline.visitor import Looker, change, seen_by, words


def cards(page: str) -> list[str]:
    """Return what the heading of each card says."""
    return [words(found) for found in re.findall(r"<h2.*?</h2>", page, re.DOTALL)]


def test_a_request_is_a_card_and_so_is_a_transaction_without_one(
    app: flask.Flask, db: SQLAlchemy, note: Any, write: Callable[..., None]
) -> None:
    write(note(id=1, body="a"), note(id=2, body="a"), user="ada", command="import")
    with app.app_context():
        db.session.add(note(id=3, body="a"))
        db.session.flush()
        db.session.delete(db.session.get_one(note, 1))
        db.session.commit()
    change(app, db, note, 2, body="b")
    page = Looker(seen_by(app)).page("/")
    assert cards(page) == [
        "Somebody changed Note 2",
        "Somebody deleted Note, created Note",
        "ada created Note (2)",
    ]
    assert re.findall(r"<h3>(.*?)</h3>", page, re.DOTALL) == [
        f'{operation} <a href="/history/objects/note_event/{key}">Note {key}</a>'
        for operation, key in (
            ("deleted", 1), ("created", 3), ("created", 2), ("created", 1)
        )
    ]  # fmt: skip
    assert "import" in page


def test_events_that_came_between_those_of_a_request_are_cards_of_their_own(
    app: flask.Flask, db: SQLAlchemy, note: Any
) -> None:
    with app.app_context(), sa_history.context(user="ada"):
        db.session.add(note(id=1, body="a"))
        db.session.commit()
        with sa_history.context(user="ben"):
            db.session.add(note(id=2, body="a"))
            db.session.commit()
        db.session.add(note(id=3, body="a"))
        db.session.commit()
    look = Looker(seen_by(app))
    page = look.page("/")
    assert cards(page) == ["ada created Note (2)", "ben created Note 2"]
    assert [e["key"] for e in look.json("/")["events"]] == ["3", "2", "1"]
    assert len(set(re.findall(r">(transaction \d+)<", page))) == 3


def test_a_card_that_goes_on_says_so_and_each_event_is_shown_once(
    app: flask.Flask, note: Any, write: Callable[..., None]
) -> None:
    write(*(note(id=n, body="a") for n in range(1, 6)))
    write(note(id=6, body="a"))
    look = Looker(seen_by(app, page_size=3))
    path, found, told = "/history/", [], []
    while path:
        page = look.page(path.removeprefix("/history"))
        found += re.findall(r'data-event="(\d+)"', page)
        told.append(page.count("More of this is on the next page."))
        path = look.json(path)["next"]
    assert len(found) == len({*found}) == 6
    assert found == sorted(found, key=int, reverse=True)
    assert told == [1, 0]


@pytest.mark.parametrize(
    "undo",
    [7, {}, {"context": 5}, {"context": "x"}, {"transaction": True},
     {"transaction": "1"}, {"transaction": 2**70}],
)  # fmt: skip
def test_a_context_that_only_looks_like_an_undo_is_shown_as_any_other(
    undo: Any, app: flask.Flask, note: Any, write: Callable[..., None]
) -> None:
    write(note(id=1, body="a"), undo=undo, restored="x")
    assert cards(Looker(seen_by(app)).page("/")) == ["Somebody created Note 1"]


@pytest.fixture
def shop(app: flask.Flask, db: SQLAlchemy) -> Any:
    """Models whose rows refer to others, in several ways."""

    class Colour(enum.Enum):
        red = "r"

    @track()
    class Customer(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
        name: Mapped[str]
        phone: Mapped[str]
        settings: Mapped[Any] = mapped_column(JSONB)
        orders: Mapped[list[Any]] = relationship("Order")

        def __str__(self) -> str:
            return self.name

    @track()
    class Tag(db.Model):  # type: ignore[name-defined, misc]
        name: Mapped[str] = mapped_column(primary_key=True)
        colour: Mapped[Any] = mapped_column(Enum(Colour, native_enum=False))

    @track()
    class Day(db.Model):  # type: ignore[name-defined, misc]
        day: Mapped[datetime.date] = mapped_column(Date, primary_key=True)

    place = Table("place", db.metadata, Column("id", Uuid, primary_key=True))
    track()(place)
    Table("far", db.metadata, Column("id", Uuid, primary_key=True))

    @track()
    class Order(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        day: Mapped[datetime.date | None] = mapped_column(ForeignKey("day.day"))
        place: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("place.id"))
        far: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("far.id"))
        customer_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey(Customer.id))
        note: Mapped[str | None]

    order_tag = Table(
        "order_tag",
        db.metadata,
        Column("order_id", ForeignKey(Order.id), primary_key=True),
        Column("tag", ForeignKey(Tag.name), primary_key=True),
    )
    track()(order_tag)
    one, two = (uuid.UUID(int=n) for n in (1, 2))
    with app.app_context():
        db.create_all()
        db.session.execute(place.insert().values(id=one))
        values: dict[str, Any] = {"phone": "555-1234", "settings": {"a": 1}}
        db.session.add(Customer(id=one, name="Zoë", **values))
        db.session.add(Customer(id=two, name="Ida", **values))
        db.session.add_all([Tag(name="big", colour=Colour.red)])
        db.session.add(Day(day=datetime.date(2026, 1, 2)))
        db.session.flush()
        day = datetime.date(2026, 1, 2)
        db.session.add(Order(id=7, day=day, place=one, customer_id=one))
        db.session.flush()
        db.session.execute(order_tag.insert().values(order_id=7, tag="big"))
        db.session.commit()
    return Order, Customer


ONE, TWO = (str(uuid.UUID(int=n)) for n in (1, 2))


def test_what_foreign_keys_refer_to_is_a_link_with_a_name(
    shop: Any, app: flask.Flask, db: SQLAlchemy
) -> None:
    order, _ = shop
    change(app, db, order, 7, customer_id=uuid.UUID(int=2), note="now")

    def name_of(found: Any) -> str | None:
        return str(found) if type(found).__name__ == "Customer" else None

    look = Looker(seen_by(app, name_of=name_of))
    page = look.page("/")
    link = '<a href="/history/objects/customer_event/{}">Customer {}</a>'
    assert f"<del>{link.format(ONE, 'Zoë')}</del>" in page
    assert f"<ins>{link.format(TWO, 'Ida')}</ins>" in page
    assert "order_tag (Order 7, Tag big)" in words(page)
    assert '<a href="/history/objects/day_event/2026-01-02">Day 2026-01-02</a>' in page
    assert f'<a href="/history/objects/place_event/{ONE}">place {ONE}</a>' in page


def test_what_is_in_no_model_or_names_a_part_of_a_key_is_no_link() -> None:
    metadata = MetaData()
    pair = Table(
        "pair",
        metadata,
        Column("one", Integer, primary_key=True),
        Column("two", Integer, primary_key=True),
    )
    visit = Table(
        "visit",
        metadata,
        Column("id", ForeignKey("pair.one"), primary_key=True),
        Column("place", ForeignKey("elsewhere.id")),
        Column("visit_id", ForeignKey("visit.id")),
    )
    for table in (pair, visit):
        track()(table)
    trackings = trackings_in(metadata)
    tracking = next(t for t in trackings if t.table is visit)
    shown = ShownTable.of(tracking, Hidden(frozenset()))
    found = referring_keys(shown, {each.table: each for each in trackings})
    names = ("visit_id",)
    assert found == {"visit_id": ReferringKey(tracking, names, names)}


@pytest.fixture
def booking(app: flask.Flask, db: SQLAlchemy) -> Any:
    """A model that refers to rooms by two columns, and by two more to a visit.

    One of these is that of a tenant, which is a foreign key by itself as well.
    """

    @track()
    class Tenant(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    @track()
    class Room(db.Model):  # type: ignore[name-defined, misc]
        house: Mapped[str] = mapped_column(primary_key=True)
        floor: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    @track()
    class Visit(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        tenant_id: Mapped[int] = mapped_column(ForeignKey(Tenant.id), primary_key=True)
        name: Mapped[str]

    @track()
    class Booking(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        tenant_id: Mapped[int] = mapped_column(ForeignKey(Tenant.id))
        visit_id: Mapped[int | None]
        on_floor: Mapped[int | None] = mapped_column("floor")
        in_house: Mapped[str | None] = mapped_column("house")
        __table_args__ = (
            ForeignKeyConstraint(["house", "floor"], [Room.house, Room.floor]),
            ForeignKeyConstraint(
                ["tenant_id", "visit_id"], [Visit.tenant_id, Visit.id]
            ),
        )

    with app.app_context():
        db.create_all()
        db.session.add(Tenant(id=5))
        db.session.flush()
        db.session.add_all(
            [
                Room(house="é/1", floor=1, name="Blue"),
                Room(house="é/1", floor=2, name="Red"),
                Visit(tenant_id=5, id=3, name="Inspection"),
            ]
        )
        db.session.flush()
        keys = {"on_floor": 1, "in_house": "é/1", "visit_id": 3, "tenant_id": 5}
        db.session.add(Booking(id=1, **keys))
        db.session.commit()
    return Booking


def test_a_foreign_key_of_several_columns_is_one_link_with_a_name(
    booking: Any, app: flask.Flask, db: SQLAlchemy
) -> None:
    change(app, db, booking, 1, on_floor=2)
    change(app, db, booking, 1, on_floor=None)
    change(app, db, booking, 1, in_house=None, visit_id=None)
    look = Looker(
        seen_by(app, name_of=lambda found: getattr(found, "name", None), page_size=3)
    )
    page = look.page("/")
    blue = r'<a href="([^"]*)">Room Blue</a>'
    red = blue.replace("Blue", "Red")
    label = "in_house, on_floor</th>"
    moved = re.search(rf"{label}.*<del>{blue}</del>.*<ins>{red}</ins>", page)
    assert moved is not None
    look.page(moved[1].removeprefix("/history"))
    assert re.search(rf"{label}.*<del>{red}</del>.*<ins>é/1, —</ins>", page)
    # A room that is none has no name, and neither has what it was.
    assert re.search(r'">in_house</th>.*<del>é/1</del>.*<ins>—</ins>', page)
    assert re.search(r'">visit_id</th>.*Visit Inspection</a></del>.*<ins>—', page)
    first = words(look.page(look.json("/")["next"].removeprefix("/history")))
    shown = "Values id 1 tenant_id Tenant 5 visit_id Visit Inspection"
    assert f"{shown} in_house, on_floor Room Blue" in first
    assert "created Visit (" not in first


def test_a_foreign_key_with_a_masked_column_is_no_link(
    booking: Any, app: flask.Flask
) -> None:
    page = words(Looker(seen_by(app, mask=["Room.floor"])).page("/"))
    assert "on_floor ••• in_house é/1" in page


def test_without_names_the_keys_are_shown(shop: Any, app: flask.Flask) -> None:
    page = Looker(seen_by(app)).page("/")
    assert f'<a href="/history/objects/customer_event/{ONE}">Customer {ONE}</a>' in page


@pytest.mark.parametrize(
    "name_of",
    [
        lambda found: found.phone,
        lambda found: getattr(found, "settings", None),
        lambda found: getattr(found, "orders", None),
        lambda found: "",
    ],
    ids=["masked", "JSON", "a relationship", "empty"],
)
def test_a_name_has_nothing_that_is_masked_or_takes_another_statement(
    name_of: Callable[[Any], Any], shop: Any, app: flask.Flask
) -> None:
    def of_customers(found: Any) -> Any:
        return name_of(found) if type(found).__name__ == "Customer" else None

    look = Looker(seen_by(app, name_of=of_customers, mask=["Customer.phone"]))
    page = look.page("/")
    assert f">Customer {ONE}</a>" in page
    assert "555-1234" not in page


@pytest.mark.parametrize("mask", ["Order.customer_id", "Customer.id"])
def test_a_masked_foreign_key_is_no_link(
    mask: str, shop: Any, app: flask.Flask
) -> None:
    look = Looker(seen_by(app, mask=[mask], name_of=str))
    page = look.page("/?table=order_event")
    assert "customer_id •••" in words(page)
    assert "Customer" not in re.sub(r"<form.*?</form>", "", page, flags=re.DOTALL)


def test_a_row_that_python_cannot_read_has_no_name(
    shop: Any, app: flask.Flask, db: SQLAlchemy
) -> None:
    with app.app_context():
        db.session.execute(text("UPDATE tag SET colour = 'x'"))
        db.session.commit()
    page = words(Looker(seen_by(app, name_of=str)).page("/"))
    assert "order_tag (Order " in page
    assert "Tag big)" in page


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """The statements that are sent."""
    sent: list[str] = []

    def listen(*args: Any) -> None:
        sent.append(args[2])

    event.listen(Engine, "before_cursor_execute", listen)
    yield sent
    event.remove(Engine, "before_cursor_execute", listen)


def test_names_take_a_statement_for_each_table_however_many_events_there_are(
    statements: list[str],
    shop: Any,
    app: flask.Flask,
    db: SQLAlchemy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order, customer = shop
    with app.app_context():
        for n in range(10, 40):
            db.session.add(
                customer(id=uuid.UUID(int=n), name=f"{n}", phone="", settings={})
            )
            db.session.flush()
            db.session.add(order(id=n, customer_id=uuid.UUID(int=n)))
        db.session.commit()
    look = Looker(seen_by(app, name_of=str, page_size=200))
    statements.clear()
    assert ">Customer 39</a>" in look.page("/")
    # The list, then the customers, orders and tags; keys of days have no names.
    assert len(statements) == 2 + 3
    monkeypatch.setattr(pages, "MOST_TABLES", 1)
    statements.clear()
    look.page("/")
    assert len(statements) <= 2 + 1


def test_a_list_takes_two_statements_however_many_models_there_are(
    statements: list[str], app: flask.Flask, db: SQLAlchemy
) -> None:
    models = []
    for number in range(30):
        columns = {"id": mapped_column(primary_key=True), "__annotations__": {}}
        columns["__annotations__"] = {"id": Mapped[int]}
        name = f"model_{number}"
        names = {"__tablename__": name, "__module__": __name__}
        model: Any = type(name, (db.Model,), {**names, **columns})
        track()(model)
        models.append(model)
    with app.app_context():
        db.create_all()
        db.session.add_all([model(id=1) for model in models])
        db.session.commit()
    options: dict[str, Any] = {
        "authorize_restore": lambda event: True,
        "authorize_undo": lambda plan: True,
    }
    look = Looker(seen_by(app, **options))
    statements.clear()
    page = look.page("/")
    assert page.count("<h3>") == 30
    assert len(statements) == 2
    # Whether versions are current is not told by what is left out.
    statements.clear()
    page = look.page("/?label=snapshot")
    assert page.count("<h3>") == 30
    assert len(statements) == 2 + 1


@pytest.mark.parametrize("is_function", [False, True])
def test_models_and_attributes_have_the_words_of_the_application(
    is_function: bool,
    app: flask.Flask,
    db: SQLAlchemy,
    note: Any,
    write: Callable[..., None],
) -> None:
    write(note(id=1, body="a b"))
    change(app, db, note, 1, body="a c")
    labels = {"Note": "Memo", "Note.body": "Text", "id": "Number"}
    look = Looker(seen_by(app, labels=labels.get if is_function else labels))
    page = words(look.page("/"))
    assert "Somebody changed Memo 1" in page
    assert "Attribute Before After Text a b a c" in page
    assert "Values Number 1 Text a b" in page
    assert "<del>a <mark>b</mark></del>" in look.page("/")
    assert "<h1>Memo 1</h1>" in look.page("/objects/note_event/1")
    assert '<option value="note_event">Memo</option>' in look.page("/")
    assert "Memo: 2 changes" in words(look.page("/chart"))
    assert look.json("/")["events"][0]["model"] == "Note"


def test_labels_of_what_no_model_has_are_an_error(app: flask.Flask) -> None:
    labels = {
        "Note": "Memo",
        "id": "Number",
        "Noet": "?",
        "note.id": "?",
        "Note.x": "?",
    }
    client = seen_by(app, labels=labels)
    with pytest.raises(
        DefinitionError, match=r"labels names Noet, note\.id, Note\.x, wh"
    ):
        client.get("/history/")


def test_attributes_are_in_the_order_of_the_model(
    app: flask.Flask, db: SQLAlchemy
) -> None:
    @track()
    class Long(db.Model):  # type: ignore[name-defined, misc]
        identifier: Mapped[int] = mapped_column(primary_key=True)
        zone: Mapped[str]
        a: Mapped[str]

    with app.app_context():
        db.create_all()
        db.session.add(Long(identifier=1, zone="z", a="a"))
        db.session.commit()
    change(app, db, Long, 1, zone="y", a="b")
    newest, _ = Looker(seen_by(app)).json("/")["events"]
    assert [*newest["data"]] == ["identifier", "zone", "a"]
    assert [*newest["diff"]] == ["zone", "a"]


def test_keys_of_json_that_differ_are_rows_of_their_own(
    shop: Any, app: flask.Flask, db: SQLAlchemy
) -> None:
    _, customer = shop
    change(app, db, customer, uuid.UUID(int=1), settings={"a": 1, "b": {"c": "x"}})
    page = words(Looker(seen_by(app)).page("/"))
    assert 'settings.b — {"c": "x"}' in page


BERLIN = "Europe/Berlin"


@pytest.mark.parametrize(
    ("time_zone", "shown"),
    [
        (datetime.timezone.utc, "2020-07-03 04:05:06 UTC"),
        (BERLIN, "2020-07-03 06:05:06 CEST"),
        (lambda: BERLIN, "2020-07-03 06:05:06 CEST"),
    ],
    ids=["UTC", "a name", "a function"],
)
def test_times_are_those_of_a_time_zone(
    time_zone: Any,
    shown: str,
    app: flask.Flask,
    db: SQLAlchemy,
    note: Any,
    write: Callable[..., None],
) -> None:
    write(note(id=1, body="a"))
    with app.app_context():
        moment = "2020-07-03 04:05:06+00"
        db.session.execute(text(f"UPDATE note_event SET pgh_created_at = '{moment}'"))
        db.session.commit()
    page = Looker(seen_by(app, time_zone=time_zone)).page("/")
    assert f'<time datetime="2020-07-03T04:05:06+00:00">{shown}</time>' in page


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (20, "just now"),
        (61, "1 minute ago"),
        (7200, "2 hours ago"),
        (86_500, "1 day ago"),
        (86_400 * 8, "UTC"),
        (-600, "UTC"),
    ],
)
def test_lately_is_told_by_what_has_passed(
    seconds: int,
    told: str,
    app: flask.Flask,
    db: SQLAlchemy,
    note: Any,
    write: Callable[..., None],
) -> None:
    write(note(id=1, body="a"))
    with app.app_context():
        moment = f"clock_timestamp() - interval '{seconds} seconds'"
        db.session.execute(text(f"UPDATE note_event SET pgh_created_at = {moment}"))
        db.session.commit()
    page = Looker(seen_by(app)).page("/")
    (shown,) = re.findall("<time.*?>(.*?)</time>", page)
    assert shown.endswith(told)
    assert ("title=" in page) == (told != "UTC")


@pytest.mark.parametrize("zone", ["Nowhere/At_all", "../etc/passwd", "", 2, None])
def test_what_is_no_time_zone_is_refused(zone: Any, app: flask.Flask) -> None:
    with pytest.raises(DefinitionError, match="time_zone is a tzinfo or the name of"):
        seen_by(app, time_zone=zone)
