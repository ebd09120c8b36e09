"""The list of events: what it tells of each, filters, and pages."""

from __future__ import annotations

import datetime
import decimal
import re
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import flask
import pytest
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    ARRAY,
    Boolean,
    Date,
    DateTime,
    Engine,
    Enum,
    Float,
    Index,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    String,
    Text,
    Uuid,
    event,
    text,
)
from sqlalchemy.dialects.postgresql import INET, JSONB
from sqlalchemy.orm import Mapped, mapped_column

import sa_history
from sa_history import AfterUpdate, Snapshot, track
from sa_history.flask import History
from tests.timeline.visitor import Looker, seen_by, words


# The engine of the application of FastAPI has a new connection for each page here.
@pytest.mark.parametrize("framework", ["flask", "starlette"], indirect=True)
def test_psycopg_prepares_what_pages_and_exports_read_again_and_again(
    app: flask.Flask,
    db: SQLAlchemy,
    note: Any,
    write: Callable[..., None],
    look: Looker,
) -> None:
    write(note(id=1, body="a"))
    query = text("SELECT statement FROM pg_prepared_statements")
    for path, part in (
        ("/", " AS pgh_data"),
        ("/?user=ada", "metadata"),
        ("/export.csv", " AS pgh_data"),
        ("/chart", " AS day"),
    ):
        with app.app_context():
            db.engine.dispose()
        for _ in range(7):
            answer = look.client.get(f"/history{path}")
            assert (answer.status_code, len(answer.text) > 0) == (200, True)
        with app.app_context(), db.engine.connect() as connection:
            prepared = "".join(connection.scalars(query))
        assert part in prepared, path


def test_an_event_tells_who_when_what_and_in_which_request(
    app: flask.Flask, db: SQLAlchemy, note: Any, look: Looker
) -> None:
    def view() -> str:
        found = db.session.get(note, 1) or note(id=1)
        found.body = flask.request.args["body"]
        db.session.add(found)
        app.extensions["sa_history"].extension.annotate(user="ada")
        db.session.commit()
        return ""

    app.add_url_rule("/view", "view", view)
    for body in ("a", "b"):
        app.test_client().get("/view", query_string={"body": body})
    newest, first = look.json("/")["events"]
    assert first["diff"] is None
    context = {"endpoint": "view", "method": "GET", "path": "/view", "user": "ada"}
    assert newest == {
        "id": newest["id"],
        "model": "Note",
        "key": "1",
        "label": "snapshot",
        "operation": "changed",
        "time": newest["time"],
        "user": "ada",
        "transaction": newest["transaction"],
        "context_id": newest["context_id"],
        "context": {**context, "remote": "127.0.0.1"},
        "data": {"id": 1, "body": "b"},
        "diff": {"body": ["a", "b"]},
    }
    page = words(look.page("/"))
    assert "ada changed Note 1" in page
    assert "GET /view" in page
    assert "What changed Attribute Before After body a b" in page


@pytest.fixture
def filled(app: flask.Flask, db: SQLAlchemy, note: Any) -> Any:
    """Two models, with events of two users, and a note about one of them."""

    @track(Snapshot, AfterUpdate(sa_history.new.body == "paid", label="paid"))
    class Bill(db.Model):  # type: ignore[name-defined, misc]
        name: Mapped[str] = mapped_column(primary_key=True)
        body: Mapped[str]

    with app.app_context():
        db.create_all()
        for number, (user, model, key) in enumerate(
            [
                ("ada", note, {"id": 1}),
                ("ben", note, {"id": 2}),
                ("ada", Bill, {"name": "1"}),
                ("ben", Bill, {"name": "x"}),
            ]
        ):
            with sa_history.context(user=user, ip=f"10.0.0.{number}", n=number):
                db.session.add(model(**key, body=f"{user} {number}"))
                db.session.commit()
        with sa_history.context(user="ada", n=4):
            db.session.get_one(Bill, "x").body = "paid"
            db.session.commit()
        db.session.execute(
            text("UPDATE note_event SET pgh_created_at = '2020-02-03 04:05:06+00'")
        )
        db.session.commit()
    return Bill


ALL = ["paid", "paid", "ben 3", "ada 2", "ben 1", "ada 0"]


FILTERS: list[tuple[str, list[str]]] = [
    ("table=note_event", ["ben 1", "ada 0"]),
    ("key=1", ["ada 2", "ada 0"]),
    ("key=x", ["paid", "paid", "ben 3"]),
    ("key=99999999999999999999", []),
    ("label=paid", ["paid"]),
    ("user=ben", ["ben 3", "ben 1"]),
    ("user=nobody", []),
    ("user=' OR 1=1 --", []),
    ("since=2020-02-03T04:05:07", ["paid", "paid", "ben 3", "ada 2"]),
    ("until=2020-02-03T04:05:07", ["ben 1", "ada 0"]),
    ("until=2020-02-03T04:05:06Z", []),
    ("since=2020-02-03T05:05:06%2B01:00&table=note_event", ["ben 1", "ada 0"]),
    ("context=ip=10.0.0.1", ["ben 1"]),
    ("context= n = 2 ", ["ada 2"]),
    ("table=bill_event&label=snapshot&user=ben&key=x&context=n=3", ["ben 3"]),
    ("table=&key=&label=&user=&since=&until=&context=", ALL),
]


def test_each_filter_narrows_the_list_and_so_do_several_at_once(
    filled: Any, look: Looker
) -> None:
    """Each, and several at once."""
    for query, bodies in FILTERS:
        assert (query, look.bodies(f"/?{query}")) == (query, bodies)
        page = look.page(f"/?{query}")
        assert ("There are no such events." in page) == (not bodies)


def test_an_index_of_times_and_numbers_tells_where_the_events_before_a_time_begin(
    app: flask.Flask, db: SQLAlchemy, filled: Any, look: Looker
) -> None:
    statements: list[str] = []
    for name in ("note_event", "bill_event"):
        events = db.metadata.tables[name].c
        columns = events.pgh_created_at, events.pgh_id
        Index(f"{name}_time", *columns, postgresql_using="brin")

    def keep(*arguments: Any) -> None:
        statements.append(arguments[2])

    event.listen(Engine, "before_cursor_execute", keep)
    for query, bodies in FILTERS:
        assert (query, look.bodies(f"/?{query}")) == (query, bodies)
        searched = [sql for sql in statements if "RECURSIVE" in sql]
        assert bool(searched) == ("until=2" in query)
        statements.clear()
    event.remove(Engine, "before_cursor_execute", keep)
    until = "until=2020-02-03T04:05:07"
    assert look.bodies(f"/?{until}&text=BEN") == ["ben 1"]
    assert look.bodies("/?until=2020-02-03T04:05:06&text=ben") == []
    assert look.bodies(f"/?{until}&text=ada") == ["ada 0"]
    assert "2020-02-03: 2 changes" in words(look.page(f"/chart?{until}"))


def test_users_are_found_wherever_the_context_is(
    app: flask.Flask, db: SQLAlchemy, note: Any, write: Callable[..., None]
) -> None:
    @track(context="inline")
    class Inline(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]

    @track(context=None)
    class Bare(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]

    with app.app_context():
        db.create_all()
    for user in ("ada", "ben"):
        write(*(model(body=user) for model in (note, Inline, Bare)), user=user)
    look = Looker(seen_by(app))
    assert look.bodies("/") == ["ben"] * 3 + ["ada"] * 3
    found = look.json("/?user=ada")["events"]
    assert sorted(e["model"] for e in found) == ["Inline", "Note"]
    assert {e["data"]["body"] for e in found} == {"ada"}
    assert look.json("/?user=ada&table=bare_event")["events"] == []


REFUSED = [
    ("table=nothing", 404),
    ("since=yesterday", 400),
    ("context=ip", 400),
    ("user=%00", 404),
    ("key=%00", 404),
    ("before=1", 400),
    ("before=", 400),
    ("_scheme=javascript&_external=1&endpoint=x&table=", 200),
]


def test_what_cannot_be_read_is_refused(filled: Any, look: Looker) -> None:
    for query, status in REFUSED:
        look.page(f"/?{query}", status)
        look.json(f"/?{query}", status)


@pytest.mark.parametrize("size", [1, 4, 7])
def test_pages_have_each_event_once(
    size: int, app: flask.Flask, db: SQLAlchemy, note: Any
) -> None:
    """Also while others write."""
    looker = Looker(seen_by(app, page_size=size))
    with app.app_context():
        db.session.add_all([note(body=f"{n}") for n in range(1, 15)])
        db.session.commit()
    path, found = "/?user=&label=snapshot&_scheme=javascript&endpoint=x", []
    while path:
        answer = looker.json(path)
        assert len(answer["events"]) <= size
        found += [e["key"] for e in answer["events"]]
        path = answer["next"]
        assert path is None or path.startswith("/history/?before=")
        assert not {"_scheme", "endpoint"} & {*re.split("[?&=]", path or "")}
        with app.app_context():
            db.session.add(note(body="new"))
            db.session.commit()
    assert found == [str(n) for n in range(14, 0, -1)]


def test_events_of_models_of_the_same_name_lead_to_their_own_tables(
    app: flask.Flask, look: Looker, db: SQLAlchemy
) -> None:
    """Each event leads to its own table."""
    for table in ("one", "two"):
        columns = {
            "id": mapped_column(Integer, primary_key=True),
            "body": mapped_column(Text),
        }
        names = {"__module__": table, "__tablename__": table}
        model: Any = type("Entry", (db.Model,), {**names, **columns})
        track()(model)
        with app.app_context():
            db.create_all()
            db.session.add(model(id=1, body=table))
            db.session.commit()
    page = look.page("/")
    assert re.findall(r"objects/(\w+)/1", page) == ["two_event", "one_event"]
    assert look.bodies("/objects/two_event/1") == ["two"]


def test_it_is_of_the_first_database_with_something_tracked(
    db: SQLAlchemy, history: History, new_app: Callable[..., flask.Flask], pg_url: Any
) -> None:
    @track()
    class Visit(db.Model):  # type: ignore[name-defined, misc]
        __bind_key__ = "other"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Plain(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    app = new_app(db, history, SQLALCHEMY_BINDS={"other": pg_url})
    with app.app_context():
        db.create_all()
        db.session.add_all([Visit(id=1), Plain(id=2)])
        db.session.commit()
    events = Looker(seen_by(app)).json("/")["events"]
    assert [(e["model"], e["key"]) for e in events] == [("Visit", "1")]


def test_long_values_are_folded(
    note: Any, write: Callable[..., None], look: Looker
) -> None:
    write(note(body="x" * 5000), note(body="short"))
    page = look.page("/")
    assert f"<summary>{'x' * 60}…</summary>" in page
    assert f'<span class="whole">{"x" * 5000}</span>' in page
    assert "<td>short</td>" in page


def test_who_somebody_is_can_be_told(
    app: flask.Flask, note: Any, write: Callable[..., None]
) -> None:
    look = Looker(seen_by(app, who=lambda context: f"Dr. {context['user']}"))
    write(note(body="a"), user=7)
    assert look.json("/")["events"][0]["user"] == "Dr. 7"


@pytest.mark.parametrize(
    ("options", "name"),
    [({}, "Ada"), ({"who": lambda context: f"Dr. {context['user']}"}, "Dr. 7")],
)
def test_headings_have_the_names_of_users(
    options: dict[str, Any],
    name: str,
    app: flask.Flask,
    note: Any,
    write: Callable[..., None],
) -> None:
    look = Looker(seen_by(app, users=lambda: {7: "Ada"}, **options))
    write(note(id=1, body="a"), user=7)
    write(note(id=2, body="b"), user=8)  # who is not among them
    events = look.json("/")["events"]
    for path in ("/", "/objects/note_event/1", f"/contexts/{events[1]['context_id']}"):
        assert f'<span class="who">{name}</span>' in look.page(path)
    assert f'<span class="who">{name.replace("Ada", "8").replace("7", "8")}' in (
        look.page("/")
    )
    # Programs get what the context has.
    assert events[1]["user"] == ("7" if name == "Ada" else name)


def test_a_page_takes_few_statements(
    request: pytest.FixtureRequest, filled: Any, look: Looker
) -> None:
    sent: list[str] = []

    def listen(*args: Any) -> None:
        sent.append(args[2])

    event.listen(Engine, "before_cursor_execute", listen)
    request.addfinalizer(lambda: event.remove(Engine, "before_cursor_execute", listen))
    numbers = [e["id"] for e in look.json("/objects/bill_event/x")["events"]]
    versions = f"version={numbers[0]}&version={numbers[-1]}"
    for path, statements in (
        ("/", 2),
        ("/?user=ada&table=bill_event&label=paid", 3),  # one finds the contexts
        ("/objects/bill_event/x", 2),
        (f"/objects/bill_event/x?at=2999-01-01&{versions}", 6),
    ):
        sent.clear()
        look.page(path)
        assert len(sent) == statements


def test_a_key_is_looked_for_in_models_whose_keys_are_of_any_type(
    app: flask.Flask, db: SQLAlchemy
) -> None:
    """A text that is no key of a type finds nothing there, and is no error."""
    types: dict[str, tuple[Any, Any, str]] = {
        "integer": (Integer, 1, "1"),
        "numeric": (Numeric, decimal.Decimal("1.50"), "1.50"),
        "money": (Numeric(4, 2), decimal.Decimal("1.5"), "1.5"),
        "float": (Float, 0.1, "0.1"),
        "date": (Date, datetime.date(2026, 1, 2), "2026-01-02"),
        "moment": (DateTime(True), datetime.datetime(2026, 1, 2, tzinfo=UTC), ""),
        "interval": (Interval, datetime.timedelta(1), "1 day"),
        "boolean": (Boolean, True, "true"),
        "uuid": (Uuid, uuid.UUID(int=5), str(uuid.UUID(int=5))),
        "hex": (Uuid(native_uuid=False), uuid.UUID(int=5), uuid.UUID(int=5).hex),
        "bytes": (LargeBinary, b"a", "\\x61"),
        "jsonb": (JSONB, {"a": 1}, '{"a": 1}'),
        "enum": (Enum("a", "b", name="letter"), "a", "a"),
        "char": (String(3), "abc", "abc"),
        "text": (Text, "1.0", "1.0"),
        "array": (ARRAY(Integer), [1], "{1}"),
        "inet": (INET, "10.0.0.1", "10.0.0.1/32"),
    }
    for name, (type_, key, _) in types.items():
        key_column = mapped_column(type_, primary_key=True, autoincrement=False)
        columns = {"key": key_column}
        model: Any = type(name.title(), (db.Model,), {"__tablename__": name, **columns})
        track()(model)
        with app.app_context():
            db.create_all()
            db.session.execute(model.__table__.insert().values(key=key))
            db.session.commit()
    look = Looker(seen_by(app))
    for name, (_, _, given) in types.items():
        shown = look.json(f"/?table={name}_event")["events"][0]["key"]
        for key in filter(None, (given, shown)):
            found = look.json("/?" + urlencode({"key": key}))["events"]
            assert name.title() in [e["model"] for e in found]
    found_by = {
        key: [e["model"] for e in look.json("/?" + urlencode({"key": key}))["events"]]
        for key in NO_KEYS
    }
    assert {key: models for key, models in found_by.items() if models} == {
        "1": ["Integer"]
    }


UTC = datetime.timezone.utc
NO_KEYS = ["1", "x", "1e400000", "1e999999999", "-1e-99999", "9" * 5000, "sNaN", "nan"]
NO_KEYS += ["infinity", "2026-13-01", "1_0", "\u0661", "12345678", "{", "urn:uuid:1"]
NO_KEYS += ["abcd", "[1]", "'", "%", "2026-01-02T25:00"]
