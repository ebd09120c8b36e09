"""The pages of an object, of a context and of a transaction."""

from __future__ import annotations

import datetime
import html
import re
import uuid
from collections.abc import Callable
from typing import Any

import flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Text, Uuid
from sqlalchemy.orm import Mapped, mapped_column

import sa_history
from sa_history import (
    AfterDelete,
    AfterInsert,
    AfterUpdate,
    AnyChange,
    Manual,
    Snapshot,
    track,
)
from tests.timeline.visitor import Looker, change, remove, seen_by, words


def test_an_object_page_compares_versions_and_shows_a_moment(
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


def test_a_state_that_a_condition_chose_is_shown(
    app: flask.Flask, db: SQLAlchemy, write: Callable[..., None], look: Looker
) -> None:
    @track(AfterInsert, AfterUpdate(AnyChange("price")))
    class Ware(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        price: Mapped[int]

    with app.app_context():
        db.create_all()
    write(Ware(id=1, price=5))
    change(app, db, Ware, 1, price=6)
    state = look.json("/objects/ware_event/1?at=2999-01-01")["state"]
    assert state["data"] == {"id": 1, "price": 6}


def test_rows_of_a_table_with_a_slash_in_its_name_have_pages(
    app: flask.Flask, db: SQLAlchemy, write: Callable[..., None], look: Looker
) -> None:
    @track(Snapshot)
    class Part(db.Model):  # type: ignore[name-defined, misc]
        __tablename__ = "parts/~0 50%"
        id: Mapped[int] = mapped_column(primary_key=True)

    with app.app_context():
        db.create_all()
    write(Part(id=7))
    address = re.findall(r'href="/history(/objects/[^"]+)"', look.page("/"))[0]
    (event,) = look.json(address)["events"]
    assert event["data"] == {"id": 7}


def test_what_a_row_was_before_events_were_removed_is_not_known(
    app: flask.Flask, db: SQLAlchemy, write: Callable[..., None], look: Looker
) -> None:
    @track(Snapshot, AfterDelete, partition_by=1)
    class Doc(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]

    with app.app_context():
        db.create_all()
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=9)
    write(Doc(id=1, body="a"))
    for body, keep in (("b", None), ("c", "1 day")):
        change(app, db, Doc, 1, body=body)
        with app.app_context():
            assert look.json("/objects/doc_event/1?at=2001-01-01")["state"] is None
            sa_history.partitions(db.engine, Doc, keep=keep, now=later)
    path = "/objects/doc_event/1?at=2001-01-01"
    assert "were removed, so what the row was then is not known" in look.page(path, 400)
    look.json(path, 400)
    state = look.json("/objects/doc_event/1?at=2999-01-01")["state"]
    assert state["data"] == {"id": 1, "body": "c"}


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


def test_objects_with_any_text_as_key_have_a_page(
    app: flask.Flask, db: SQLAlchemy, look: Looker
) -> None:
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
        for link in re.findall(r'href="(/history/objects[^"]*)"', look.page("/"))
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


def test_what_was_changed_together_has_a_page(
    app: flask.Flask, db: SQLAlchemy, note: Any, look: Looker
) -> None:
    with app.app_context(), sa_history.context(user="ada", why="tidy") as context:
        for bodies in (("a", "b"), ("c",)):
            db.session.add_all([note(body=body) for body in bodies])
            db.session.commit()
        sa_history.annotate(reason="late")  # the next transaction stores a copy
        db.session.add(note(body="d"))
        db.session.commit()
    path = f"/contexts/{context.id}"
    assert look.bodies(path) == ["d", "c", "b", "a"]
    assert "Context why tidy user ada" in words(look.page(path))
    transaction = look.json(path)["events"][-1]["transaction"]
    assert look.bodies(f"/transactions/{transaction}") == ["b", "a"]
    assert f"Transaction {transaction}" in look.page(f"/transactions/{transaction}")
    for missing in (f"/contexts/{uuid.UUID(int=1)}", "/transactions/1"):
        look.page(missing, 404)
    look.page(f"/transactions/{10**30}", 404)


def test_each_list_goes_on_at_its_own_address(
    app: flask.Flask, db: SQLAlchemy, note: Any
) -> None:
    with app.app_context(), sa_history.context(user="ada") as context:
        db.session.add_all([note(id=1, body="a"), note(id=2, body="b")])
        db.session.commit()
    change(app, db, note, 1, body="c")
    look = Looker(seen_by(app, page_size=1))
    transaction = look.json(f"/contexts/{context.id}")["events"][0]["transaction"]
    for path in (
        f"/contexts/{context.id}",
        f"/transactions/{transaction}",
        "/objects/note_event/1",
    ):
        first = look.json(path)
        assert first["next"].startswith(f"/history{path}?before=")
        second = look.json(first["next"])
        assert second["next"] is None
        assert first["events"][0]["id"] > second["events"][0]["id"]
