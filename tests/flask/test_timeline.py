"""The timeline: who sees what of it, as pages and as JSON."""

from __future__ import annotations

import datetime
import html
import itertools
import re
import uuid
from collections.abc import Callable
from typing import Any

import flask
import html5lib
import jinja2
import pytest
from flask.testing import FlaskClient
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Integer, Text, Uuid, event, text
from sqlalchemy.orm import Mapped, mapped_column
from werkzeug.test import TestResponse

import sa_history
from sa_history import (
    AfterDelete,
    AfterInsert,
    AfterUpdate,
    Manual,
    Protect,
    Snapshot,
    attach,
    track,
)
from sa_history.definition.operations import Update
from sa_history.exc import DefinitionError
from sa_history.flask import History, timeline

JSON = {"Accept": "application/json"}
PAGES = ["/", "/objects/note_event/1", "/objects/nothing/1", "/nowhere", "/objects/x"]
PAGES += [f"/contexts/{uuid.UUID(int=1)}", "/contexts/no", "/transactions/1"]
NASTY = """<script>alert('x')</script><b onclick="y">&amp;"""


def seen_by(app: flask.Flask, **options: Any) -> FlaskClient:
    """Mount a timeline, and return a client."""
    options.setdefault("authorize", lambda: True)
    app.register_blueprint(timeline(**options), url_prefix="/history")
    return app.test_client()


class Looker:
    """Somebody who looks at the pages."""

    def __init__(self, client: FlaskClient) -> None:
        self.client = client

    def page(self, path: str, status: int = 200) -> str:
        response = self.client.get(f"/history{path}")
        assert response.status_code == status, response.text
        return response.text

    def json(self, path: str, status: int = 200) -> Any:
        response = self.client.get(
            path if path.startswith("/history") else f"/history{path}", headers=JSON
        )
        assert response.status_code == status, response.text
        return response.json if status == 200 else None

    def bodies(self, path: str) -> list[str]:
        return [e["data"].get("body") for e in self.json(path)["events"]]


@pytest.fixture
def look(app: flask.Flask) -> Looker:
    return Looker(seen_by(app))


@pytest.fixture
def write(app: flask.Flask, db: SQLAlchemy) -> Callable[..., None]:
    """Write objects in a context, in a transaction."""

    def add(*objects: Any, **context: Any) -> None:
        with app.app_context(), sa_history.context(**context):
            db.session.add_all(objects)
            db.session.commit()

    return add


def change(
    app: flask.Flask, db: SQLAlchemy, model: Any, key: Any, **values: Any
) -> None:
    with app.app_context():
        found = db.session.get_one(model, key)
        for name, value in values.items():
            setattr(found, name, value)
        db.session.commit()


def remove(app: flask.Flask, db: SQLAlchemy, model: Any, key: Any) -> None:
    with app.app_context():
        db.session.delete(db.session.get_one(model, key))
        db.session.commit()


# Who sees it


@pytest.mark.parametrize("authorize", [None, True, "admin"])
def test_it_is_not_registered_without_a_function(authorize: Any) -> None:
    with pytest.raises(TypeError, match="authorize"):
        timeline()  # type: ignore[call-arg]
    with pytest.raises(DefinitionError, match="who may see it"):
        timeline(authorize=authorize)


def test_who_is_turned_away_learns_nothing(
    app: flask.Flask, note: Any, write: Callable[..., None]
) -> None:
    write(note(body="secret"))
    client = seen_by(app, authorize=lambda: False, authorize_restore=lambda e: True)
    answers = set()
    for path in (*PAGES, "/restore/note_event/1", "/restore/note_event/99"):
        for response in (
            client.get(f"/history{path}"),
            client.get(f"/history{path}", headers=JSON),
            client.get(f"/history{path}?before=forged&version=1&at=x&since=x"),
        ):
            answers.add((response.status_code, response.text))
    posted = client.post("/history/restore/note_event/1")
    answers.add((posted.status_code, posted.text))
    ((status, _),) = answers
    assert status == 403


async def _coroutine() -> bool:
    return False


@pytest.mark.parametrize(
    ("authorize", "status"),
    [
        (_coroutine, 403),
        (lambda: None, 403),
        (lambda: flask.abort(401), 401),
        (lambda: flask.abort(flask.redirect("/login")), 302),
        (lambda: flask.redirect("/login"), DefinitionError),
        (lambda: ("No", 403), DefinitionError),
        (lambda: object(), DefinitionError),
    ],
    ids=["async", "None", "abort", "redirect", "response", "tuple", "anonymous user"],
)
def test_only_true_is_a_permission(
    authorize: Callable[[], Any], status: Any, app: flask.Flask
) -> None:
    client = seen_by(app, authorize=authorize)
    if isinstance(status, int):
        assert client.get("/history/").status_code == status
        return
    with pytest.raises(status, match="authorize returns True or False"):
        client.get("/history/")


# Lists


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
        look.client.get("/view", query_string={"body": body})
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


def test_filters(filled: Any, look: Looker) -> None:
    """Each, and several at once."""
    for query, bodies in FILTERS:
        assert (query, look.bodies(f"/?{query}")) == (query, bodies)
        page = look.page(f"/?{query}")
        assert ("There are no such events." in page) == (not bodies)


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


def test_cursors_are_signed(
    app: flask.Flask, note: Any, write: Callable[..., None]
) -> None:
    looker = Looker(seen_by(app, page_size=1))
    write(note(body="a"), note(body="b"))
    following = looker.json("/")["next"]
    assert looker.json(following)["next"] is None
    for forged in (following + "x", following.replace("before=", "before=9")):
        looker.json(forged, 400)
    app.secret_key = "of another application"
    looker.json(following, 400)


# One object


def test_the_versions_of_an_object(
    app: flask.Flask,
    db: SQLAlchemy,
    note: Any,
    write: Callable[..., None],
    look: Looker,
) -> None:
    write(note(id=1, body="a"))
    change(app, db, note, 1, body="b")
    change(app, db, note, 1, body="c")
    remove(app, db, note, 1)
    path = "/objects/note_event/1"
    assert look.bodies(path) == ["c", "c", "b", "a"]
    events = look.json(path)["events"]
    gone, _, second, first = events

    compared = f"{path}?version={second['id']}&version={first['id']}"
    assert look.json(compared)["compared"] == {"body": ["a", "b"]}
    caption = f"From event {first['id']} to event {second['id']}"
    assert f"{caption} Attribute Before After body a b" in words(look.page(compared))
    same = f"{path}?version={first['id']}&version={first['id']}"
    assert look.json(same)["compared"] == {}
    look.page(f"{path}?version={first['id']}&version=999999", 404)

    def at(moment: str) -> Any:
        time = datetime.datetime.fromisoformat(moment)
        return (
            f"{path}?at={time.astimezone(datetime.timezone.utc):%Y-%m-%dT%H:%M:%S.%f}"
        )

    assert look.json(at(second["time"]))["state"]["data"] == {"id": 1, "body": "b"}
    assert look.json(at(gone["time"]))["state"]["operation"] == "deleted"
    assert ", deleted" in look.page(at(gone["time"]))
    assert look.json(f"{path}?at=2001-01-01")["state"] is None
    assert "There was no such row then." in look.page(f"{path}?at=2001-01-01")
    look.page(f"{path}?at=then", 400)
    for missing in ("note_event/2", "note_event/x", "note_event/1x", "nothing/1"):
        look.page(f"/objects/{missing}", 404)
        look.json(f"/objects/{missing}", 404)


def test_a_note_about_a_row_is_not_its_state(
    app: flask.Flask, db: SQLAlchemy, look: Looker
) -> None:
    @track(Snapshot, Manual("seen", columns=["id"]))
    class Doc(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]

    with app.app_context():
        db.create_all()
        db.session.add(doc := Doc(id=1, body="a"))
        db.session.flush()
        sa_history.create_event(db.session, doc, label="seen")
        db.session.commit()
    state = look.json("/objects/doc_event/1?at=2999-01-01")["state"]
    assert state["data"] == {"id": 1, "body": "a"}


def test_a_row_is_what_was_told_last_where_it_is_never_told_whole(
    app: flask.Flask, db: SQLAlchemy, write: Callable[..., None], look: Looker
) -> None:
    @track(AfterInsert(columns=["id", "body"]), AfterUpdate(columns=["id", "body"]))
    class Doc(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        seen: Mapped[int]

    with app.app_context():
        db.create_all()
    write(Doc(id=1, body="a", seen=0))
    change(app, db, Doc, 1, body="b")
    state = look.json("/objects/doc_event/1?at=2999-01-01")["state"]
    assert state["data"] == {"id": 1, "body": "b"}


KEYS = ["a/b", "/a", "a//b", "a/", "..", "a/../b", "", " ", "ü 🐘", "?a=b&c#d", "100%"]
KEYS += ["'\"<b>", "a\nb", "\\a", '["a"]', "%2F", "+"]


def test_keys_of_any_text(app: flask.Flask, db: SQLAlchemy, look: Looker) -> None:
    @track()
    class Word(db.Model):  # type: ignore[name-defined, misc]
        name: Mapped[str] = mapped_column(Text, primary_key=True)
        body: Mapped[str]

    @track()
    class Pair(db.Model):  # type: ignore[name-defined, misc]
        one: Mapped[int] = mapped_column(primary_key=True)
        two: Mapped[str] = mapped_column(primary_key=True)
        body: Mapped[str]

    @track()
    class Thing(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
        body: Mapped[str]

    with app.app_context():
        db.create_all()
        db.session.add_all([Word(name=k, body=k) for k in KEYS])
        db.session.add_all([Pair(one=1, two=k, body=k) for k in KEYS])
        db.session.add(Thing(id=uuid.UUID(int=5), body="thing"))
        db.session.commit()
    links = [
        html.unescape(link)
        for link in re.findall(r'<h2.*?href="([^"]*)"', look.page("/"), re.DOTALL)
    ]
    assert len(links) == len(KEYS) * 2 + 1
    found = []
    for link in links:
        (event,) = look.json(link)["events"]
        assert look.client.get(link).status_code == 200
        found.append(event["data"]["body"])
    assert sorted(found) == sorted([*KEYS, *KEYS, "thing"])
    for bad in ("[1]", "[1,2,3]", "{}", "[[[", '["x", "a/b"]', "5"):
        look.json(f"/objects/pair_event/{bad}", 404)
    look.json("/objects/thing_event/5", 404)


def test_what_was_changed_together(
    app: flask.Flask, db: SQLAlchemy, note: Any, look: Looker
) -> None:
    with app.app_context(), sa_history.context(user="ada", why="tidy") as context:
        for bodies in (("a", "b"), ("c",)):
            db.session.add_all([note(body=body) for body in bodies])
            db.session.commit()
    path = f"/contexts/{context.id}"
    assert look.bodies(path) == ["c", "b", "a"]
    assert "Context why tidy user ada" in words(look.page(path))
    transaction = look.json(path)["events"][-1]["transaction"]
    assert look.bodies(f"/transactions/{transaction}") == ["b", "a"]
    assert f"Transaction {transaction}" in look.page(f"/transactions/{transaction}")
    for missing in (f"/contexts/{uuid.UUID(int=1)}", "/transactions/1"):
        look.page(missing, 404)
    look.page(f"/transactions/{10**30}", 404)


def test_models_of_the_same_name(
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


# Restoring


def restoring(app: flask.Flask, **options: Any) -> tuple[FlaskClient, str]:
    """Return a client, and the token of its forms."""
    client = seen_by(app, **{"authorize_restore": lambda event: True, **options})
    client.get("/history/")
    with client.session_transaction() as session:
        return client, session["sa_history_token"]


def post(client: FlaskClient, number: Any, **form: Any) -> TestResponse:
    return client.post(f"/history/restore/note_event/{number}", data=form)


def test_links_need_the_key_of_the_application(app: flask.Flask, look: Looker) -> None:
    app.secret_key = None
    with pytest.raises(DefinitionError, match=r"needs app\.secret_key"):
        look.page("/?before=x")


def test_a_version_is_restored_by_its_button(
    app: flask.Flask, db: SQLAlchemy, note: Any, write: Callable[..., None]
) -> None:
    client, _ = restoring(app)
    write(note(id=1, body="a"))
    change(app, db, note, 1, body="b")
    remove(app, db, note, 1)
    look = Looker(client)
    first = look.json("/")["events"][-1]["id"]
    forms = re.findall(
        r'action="([^"]*)">\s*<input type="hidden" name="token" value="([^"]*)"',
        look.page("/objects/note_event/1"),
    )
    action, token = forms[-1]
    assert action == f"/history/restore/note_event/{first}"
    response = client.post(action, data={"token": token})
    assert (response.status_code, response.location) == (
        303,
        "/history/objects/note_event/1",
    )
    newest = look.json("/")["events"][0]
    assert (newest["operation"], newest["data"]["body"]) == ("created", "a")
    assert newest["context"] == {
        "method": "POST",
        "path": action,
        "endpoint": "history.restore",
        "remote": "127.0.0.1",
        "restored": first,
    }


def test_a_restore_is_refused(
    app: flask.Flask, db: SQLAlchemy, note: Any, write: Callable[..., None]
) -> None:
    write(note(id=1, body="a"))
    asked = []

    def never(event: Any) -> bool:
        asked.append(event.body)
        return False

    client, token = restoring(app, authorize_restore=never)
    number = Looker(client).json("/")["events"][0]["id"]
    for form in ({}, {"token": ""}, {"token": "x"}, {"token": token + "x"}):
        assert post(client, number, **form).status_code == 400
    other = app.test_client()
    assert post(other, number, token=token).status_code == 400
    assert asked == []
    assert post(client, number, token=token).status_code == 403
    assert asked == ["a"]
    for missing in (number + 99, 10**30):
        assert post(client, missing, token=token).status_code == 404
    got = client.get(f"/history/restore/note_event/{number}?token={token}")
    assert (got.status_code, got.headers["Allow"]) == (405, "POST")
    assert len(Looker(client).json("/")["events"]) == 1


def test_restoring_is_off_by_default(
    app: flask.Flask, note: Any, write: Callable[..., None], look: Looker
) -> None:
    write(note(id=1, body="a"))
    assert "Restore" not in look.page("/")
    with look.client.session_transaction() as session:
        session["sa_history_token"] = "guessed"
    number = look.json("/")["events"][0]["id"]
    assert post(look.client, number, token="guessed").status_code == 403


def test_what_cannot_be_restored_is_told_without_values(
    app: flask.Flask, db: SQLAlchemy
) -> None:
    @track(Snapshot, Manual("seen", columns=["id"]))
    @attach(Protect(Update))
    class Safe(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        secret: Mapped[str] = mapped_column(unique=True)

    with app.app_context():
        db.create_all()
        db.session.add_all(safes := [Safe(id=n, secret=f"hidden {n}") for n in (1, 2)])
        db.session.flush()
        sa_history.create_event(db.session, safes[0], label="seen")
        db.session.commit()
    client, token = restoring(app, mask=["secret"])
    numbers = [e["id"] for e in Looker(client).json("/")["events"]]
    answers = [
        client.post(f"/history/restore/safe_event/{number}", data={"token": token})
        for number in numbers
    ]
    assert [a.status_code for a in answers] == [400, 409, 409]
    assert "does not store secret" in answers[0].text
    assert "UPDATE of public.safe is refused" in answers[1].text
    remove(app, db, Safe, 1)
    with app.app_context():
        db.session.add(Safe(id=3, secret="hidden 1"))
        db.session.commit()
    taken = client.post(
        f"/history/restore/safe_event/{numbers[-1]}", data={"token": token}
    )
    assert taken.status_code == 409
    assert "duplicate key value violates unique constraint" in taken.text
    assert not any("hidden" in a.text for a in (*answers, taken))


# What is shown


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


@pytest.fixture
def nasty(app: flask.Flask, db: SQLAlchemy) -> tuple[Any, uuid.UUID]:
    """Markup wherever text can stand."""

    @track(Snapshot(label=NASTY))
    class Page(db.Model):  # type: ignore[name-defined, misc]
        key: Mapped[str] = mapped_column(primary_key=True)
        body: Mapped[str]

    with (
        app.app_context(),
        sa_history.context(
            user=NASTY, path=NASTY, method=NASTY, more={NASTY: NASTY}
        ) as context,
    ):
        db.create_all()
        db.session.add(page := Page(key=NASTY, body=NASTY))
        db.session.commit()
        page.body = NASTY * 9
        db.session.commit()
    return Page, context.id


def test_markup_is_escaped_everywhere(
    nasty: tuple[Any, uuid.UUID], app: flask.Flask
) -> None:
    client, _ = restoring(app)
    look = Looker(client)
    number = look.json("/")["events"][0]["id"]
    link = html.unescape(
        re.findall(r'<h2.*?href="([^"]*)"', look.page("/"), re.DOTALL)[0]
    )
    object_page = link.removeprefix("/history")
    glue = "&" if "?" in object_page else "?"
    for path in (
        "/",
        f"/?user={NASTY.replace('&', '%26')}&context=a={NASTY.replace('&', '%26')}",
        object_page,
        f"{object_page}{glue}version={number}&version={number}&at=2999-01-01",
        f"/contexts/{nasty[1]}",
    ):
        page = look.page(path)
        assert "alert" in page
        assert "<script" not in page
        assert "<b " not in page
        assert "&amp;amp;" in page
    assert look.json("/")["events"][0]["user"] == NASTY


def test_masked_values_are_never_shown(app: flask.Flask, db: SQLAlchemy) -> None:
    @track(Snapshot, AfterDelete)
    class User(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        email: Mapped[str]
        password: Mapped[str | None]
        name: Mapped[str]

    @track()
    class Mail(db.Model):  # type: ignore[name-defined, misc]
        email: Mapped[str] = mapped_column(primary_key=True)

    with app.app_context():
        db.create_all()
        db.session.add(User(id=1, email="hidden@1", password="hidden", name="ada"))
        db.session.commit()
    change(app, db, User, 1, email="hidden@2", password=None, name="eve")
    with app.app_context():
        db.session.add(Mail(email="hidden@3"))
        db.session.commit()
    look = Looker(seen_by(app, mask=["password", "User.email", "Mail.email"]))
    _, newest, first = look.json("/")["events"]
    assert newest["diff"] == {
        "email": ["•••", "•••"],
        "password": ["•••", None],
        "name": ["ada", "eve"],
    }
    path = "/objects/user_event/1"
    compare = f"{path}?version={first['id']}&version={newest['id']}&at=2999-01-01"
    for shown in ("/", path, compare, f"/transactions/{first['transaction']}"):
        assert "•••" in look.page(shown)
        assert "hidden" not in look.page(shown)
        assert "hidden" not in str(look.json(shown))


def test_a_mask_that_hides_nothing_is_an_error(app: flask.Flask) -> None:
    client = seen_by(app, mask=["pasword", "Note.body"])
    with pytest.raises(DefinitionError, match="mask names pasword, which no tracked"):
        client.get("/history/")


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


# The pages


def words(page: str) -> str:
    """Return what is read of a page."""
    tree = html5lib.parse(page, namespaceHTMLElements=False)
    return " ".join(" ".join(tree.itertext()).split())


def test_every_page_is_well_made(
    nasty: tuple[Any, uuid.UUID], app: flask.Flask
) -> None:
    """No errors, labels, headings in order, nothing inline or from elsewhere."""
    app.jinja_env.undefined = jinja2.StrictUndefined
    client, _ = restoring(app, page_size=1)
    look = Looker(client)
    event = look.json("/")["events"][0]
    link = html.unescape(
        re.findall(r'<h2.*?href="([^"]*)"', look.page("/"), re.DOTALL)[0]
    )
    link = link.removeprefix("/history")
    glue = "&" if "?" in link else "?"
    for path in (
        "/",
        "/?user=nobody",
        link,
        f"{link}{glue}version={event['id']}&version={event['id']}&at=2999-01-01",
        f"{link}{glue}at=2001-01-01",
        f"/contexts/{nasty[1]}",
        f"/transactions/{event['transaction']}",
    ):
        parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
        tree = parser.parse(look.page(path))
        levels = [int(e.tag[1]) for e in tree.iter() if re.fullmatch("h[1-6]", e.tag)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
        labelled = {e for label in tree.iter("label") for e in label.iter()}
        ids = [e.get("id") for e in tree.iter() if e.get("id")]
        assert len(ids) == len(set(ids))
        for element in tree.iter():
            assert element.tag not in ("script", "style", "iframe", "img")
            assert not {n for n in element.attrib if n == "style" or n[:2] == "on"}
            if element.tag in ("select", "input") and element.get("type") != "hidden":
                assert element in labelled
            if element.tag in ("form", "section", "nav"):
                method = element.get("method")
                assert method == "post" or element.get("aria-label")
            for name in ("href", "src", "action"):
                assert element.get(name, "/")[0] in "/#"
                assert not element.get(name, "/").startswith("//")


def test_headers_keep_each_answer_to_itself(
    app: flask.Flask, note: Any, write: Callable[..., None], look: Looker
) -> None:
    write(note(id=1, body="a"))

    @app.errorhandler(404)
    def missing(error: Exception) -> tuple[str, int]:
        return "the application's own page", 404

    for path in (*PAGES, "/static/history.css", "/?before=x", "/restore/note_event/1"):
        for headers in ({}, JSON):
            with look.client.get(f"/history{path}", headers=headers) as response:
                got = response.headers
            policy = got["Content-Security-Policy"].split("; ")
            assert {"default-src 'none'", "frame-ancestors 'none'"} < {*policy}
            assert "unsafe" not in got["Content-Security-Policy"]
            assert got["X-Content-Type-Options"] == "nosniff"
            assert got["Referrer-Policy"] == "same-origin"
            assert "Accept" in got["Vary"]
            kept = "no-cache" if "static" in path else "no-store"
            assert got["Cache-Control"] == kept
    with look.client.get("/history/static/history.css") as style:
        assert style.content_type == "text/css; charset=utf-8"
        assert not re.search(r"https?:|url\(|@import", style.text)
    assert look.client.get("/history/nowhere").text == "the application's own page"


def test_a_page_takes_few_statements(
    app: flask.Flask, db: SQLAlchemy, filled: Any, look: Looker
) -> None:
    sent: list[str] = []
    with app.app_context():
        event.listen(
            db.engine, "before_cursor_execute", lambda *args: sent.append(args[2])
        )
    numbers = [e["id"] for e in look.json("/objects/bill_event/x")["events"]]
    versions = f"version={numbers[0]}&version={numbers[-1]}"
    for path, statements in (
        ("/", 1),
        ("/?user=ada&table=bill_event&label=paid", 1),
        ("/objects/bill_event/x", 1),
        (f"/objects/bill_event/x?at=2999-01-01&{versions}", 3),
    ):
        sent.clear()
        look.page(path)
        assert len(sent) == statements


def test_it_needs_a_history_and_something_tracked(
    db: SQLAlchemy, history: History, new_app: Callable[..., flask.Flask]
) -> None:
    app = flask.Flask("shop", root_path="/")
    app.testing = True
    client = seen_by(app)
    with pytest.raises(DefinitionError, match="needs a History"):
        client.get("/history/")
    client = seen_by(new_app(db, history))
    with pytest.raises(DefinitionError, match=r"tracks nothing; put @track\(\)"):
        client.get("/history/")
    with pytest.raises(DefinitionError, match="page_size is a number"):
        timeline(authorize=lambda: True, page_size=0)
