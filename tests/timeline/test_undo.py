"""Undoing what was done together: what it would do, and doing it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import flask
import pytest
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, text
from sqlalchemy.orm import Mapped, mapped_column

import sa_history
from sa_history import Protect, Snapshot, attach, track
from sa_history.definition.operations import Delete
from sa_history.exc import EventsRemovedError
from sa_history.timeline import pages, queries
from tests.timeline.visitor import (
    JSON,
    Looker,
    change,
    other_user,
    remove,
    restoring,
    seen_by,
    words,
)


def undoing(app: flask.Flask, **options: Any) -> tuple[Any, str]:
    """Return a client that may undo everything, and the token of its forms."""
    return restoring(app, **{"authorize_undo": lambda plan: True, **options})


@pytest.fixture
def shop(app: flask.Flask, db: SQLAlchemy) -> Any:
    """Orders with items, one of them deleted in a context."""

    @track()
    class Order(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        customer: Mapped[str]

    @track()
    class Item(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        order_id: Mapped[int] = mapped_column(ForeignKey(Order.id))

    with app.app_context():
        db.create_all()
        db.session.add(Order(id=1, customer="Zoë"))
        db.session.flush()
        db.session.add_all([Item(id=1, order_id=1), Item(id=2, order_id=1)])
        db.session.commit()
        with sa_history.context(user="eve", path="/orders/1/delete"):
            for item in db.session.query(Item):
                db.session.delete(item)
            db.session.flush()
            db.session.delete(db.session.get_one(Order, 1))
            db.session.commit()
    return Order


def rows_of(app: flask.Flask, db: SQLAlchemy, table: str) -> list[Any]:
    with app.app_context():
        found = db.session.execute(text(f"SELECT * FROM {table} ORDER BY 1"))
        return [tuple(row) for row in found]


@pytest.mark.parametrize("by", ["context", "transaction"])
def test_a_request_is_undone_and_the_undo_as_well(
    by: str, shop: Any, app: flask.Flask, db: SQLAlchemy
) -> None:
    client, _ = undoing(app)
    look = Looker(client)
    newest = look.json("/")["events"][0]
    path = f"/contexts/{newest['context_id']}/undo"
    assert f'href="/history{path}">Undo' in look.page("/")
    if by == "transaction":
        path = f"/transactions/{newest['transaction']}/undo"
    number = len(look.json("/")["events"])
    preview = look.page(path)
    shown = words(preview)
    assert "eve changed this just now" in shown
    assert "Order create 1 Item create 2" in shown
    for row in ("created Order 1", "created Item 1", "created Item 2"):
        assert row in shown
    assert "Zoë" in shown
    assert rows_of(app, db, "item") == []
    assert len(look.json("/")["events"]) == number

    done = client.post(f"/history{path}", data={"token": "known"})
    assert done.status_code == 303, done.text
    assert rows_of(app, db, '"order"') == [(1, "Zoë")]
    assert rows_of(app, db, "item") == [(1, 1), (2, 1)]
    page = words(look.page(done.location.removeprefix("/history")))
    undone = done.location.rpartition("/")[2]
    assert f"3 rows are as before. The undo is transaction {undone}" in page
    told = "what was changed together" if by == "context" else "transaction"
    assert f"Somebody undid {told}" in words(look.page("/"))
    event = look.json("/")["events"][0]
    assert event["context"]["method"] == "POST"
    assert event["context"]["path"] == f"/history{path}"
    assert {*event["context"]["undo"]} == {by}

    back = client.post(f"{done.location}/undo", data={"token": "known"})
    assert back.status_code == 303
    assert rows_of(app, db, "item") == rows_of(app, db, '"order"') == []


def test_what_is_not_there_or_left_to_be_undone_is_told(
    app: flask.Flask, db: SQLAlchemy, note: Any
) -> None:
    with app.app_context():
        db.session.add(added := note(id=1, body="a"))
        db.session.flush()
        db.session.delete(added)
        db.session.commit()
    client, token = undoing(app)
    look = Looker(client)
    look.page("/transactions/1/undo", 404)
    path = f"/transactions/{look.json('/')['events'][0]['transaction']}/undo"
    page = look.page(path)
    assert "There is nothing left to undo" in page
    assert "<form" not in page
    done = client.post(f"/history{path}", data={"token": token})
    assert (done.status_code, done.location) == (303, "/history/")
    assert "There was nothing left to undo." in look.page("/")


def test_an_undo_needs_the_token_of_the_page_and_authorization(
    shop: Any, app: flask.Flask, db: SQLAlchemy
) -> None:
    asked: list[Any] = []

    def only_items(plan: Any) -> bool:
        asked.append(plan.counts)
        return False

    client, token = undoing(app, authorize_undo=only_items)
    look = Looker(client)
    path = f"/transactions/{look.json('/')['events'][0]['transaction']}/undo"
    for form in ({}, {"token": ""}, {"token": "x"}):
        assert client.post(f"/history{path}", data=form).status_code == 400
    other = other_user(client)
    assert other.post(f"/history{path}", data={"token": token}).status_code == 400
    assert asked == []
    assert client.post(f"/history{path}", data={"token": token}).status_code == 403
    look.page(path, 403)
    counts = {("order", "insert"): 1, ("item", "insert"): 2}
    assert asked == [counts, counts]
    assert rows_of(app, db, "item") == []


def test_undoing_is_off_by_default(shop: Any, app: flask.Flask, db: SQLAlchemy) -> None:
    client, token = restoring(app)
    look = Looker(client)
    assert "Undo" not in look.page("/")
    path = f"/transactions/{look.json('/')['events'][0]['transaction']}/undo"
    look.page(path, 403)
    assert client.post(f"/history{path}", data={"token": token}).status_code == 403
    assert rows_of(app, db, "item") == []


def test_conflicts_are_shown_and_nothing_is_undone(
    app: flask.Flask, db: SQLAlchemy, note: Any, write: Callable[..., None]
) -> None:
    write(note(id=1, body="a"), note(id=2, body="a"))
    allowed = [True, True, True, False]
    client, token = undoing(app, authorize_undo=lambda plan: allowed.pop(0))
    look = Looker(client)
    path = f"/transactions/{look.json('/')['events'][0]['transaction']}/undo"
    change(app, db, note, 1, body="c")
    shown = words(look.page(path))
    assert "Note 1 has changed: body is 'c' and was 'a'" in shown
    assert "Note delete 2" in shown
    assert "Undo first what was changed since" in shown
    assert 'method="post"' not in look.page(path)
    refused = client.post(f"/history{path}", data={"token": token})
    assert (refused.status_code, "What prevents it" in refused.text) == (409, True)
    look.page(path, 403)
    assert [row[0] for row in rows_of(app, db, "note")] == [1, 2]


def test_a_preview_for_programs(
    app: flask.Flask, db: SQLAlchemy, note: Any, write: Callable[..., None]
) -> None:
    write(note(id=1, body="a"))
    client, _ = undoing(app)
    look = Looker(client)
    created = look.json("/")["events"][0]
    answer = look.json(f"/transactions/{created['transaction']}/undo")
    assert answer["rows"] == [{"model": "Note", "operation": "delete", "rows": 1}]
    assert answer["conflicts"] == []
    assert [e["operation"] for e in answer["events"]] == ["deleted"]
    change(app, db, note, 1, body="b")
    answer = look.json(f"/restore/note_event/{created['id']}")
    assert [e["diff"] for e in answer["events"]] == [{"body": ["b", "a"]}]


def test_a_large_undo_is_summed_up(
    app: flask.Flask,
    db: SQLAlchemy,
    note: Any,
    write: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pages, "PREVIEW", 5)
    write(*(note(id=n, body="a") for n in range(1, 251)))
    client, token = undoing(app)
    look = Looker(client)
    transaction = look.json("/")["events"][0]["transaction"]
    shown = words(look.page(f"/transactions/{transaction}/undo"))
    assert "Note delete 250 These are the last 5 of the changes" in shown
    assert shown.count("deleted Note") == 5
    client.post(f"/history/transactions/{transaction}/undo", data={"token": token})
    assert rows_of(app, db, "note") == []
    write(*(note(id=n, body="a") for n in range(1, 251)))
    transaction = look.json("/")["events"][0]["transaction"]
    with app.app_context():
        db.session.execute(text("UPDATE note SET body = 'b'"))
        db.session.commit()
    shown = words(look.page(f"/transactions/{transaction}/undo"))
    assert "These are 5 of 250." in shown


def test_what_the_database_refuses_is_told_before_and_nothing_is_undone(
    app: flask.Flask, db: SQLAlchemy
) -> None:
    @track()
    @attach(Protect(Delete))
    class Safe(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    with app.app_context():
        db.create_all()
        db.session.add(Safe(id=1))
        db.session.commit()
    client, token = undoing(app)
    look = Looker(client)
    path = f"/transactions/{look.json('/')['events'][0]['transaction']}/undo"
    assert "DELETE of public.safe is refused" in look.page(path, 409)
    assert client.post(f"/history{path}", data={"token": token}).status_code == 409
    assert rows_of(app, db, "safe") == [(1,)]


def test_what_events_do_not_tell_is_not_undone(
    app: flask.Flask, db: SQLAlchemy
) -> None:
    @track(Snapshot)
    class Half(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    with app.app_context():
        db.create_all()
        db.session.add(Half(id=1))
        db.session.commit()
    look = Looker(undoing(app)[0])
    path = f"/transactions/{look.json('/')['events'][0]['transaction']}/undo"
    page = words(look.page(path, 409))
    assert "This cannot be undone: 'half' was changed" in page
    # Nothing for programmers.
    assert "do not record every DELETE, so it cannot be undone. Back" in page


def test_masked_values_are_in_no_preview_conflict_or_refusal(
    app: flask.Flask, db: SQLAlchemy
) -> None:
    secret = "123-45-6789"

    @track()
    class Person(db.Model):  # type: ignore[name-defined, misc]
        number: Mapped[str] = mapped_column(primary_key=True)
        name: Mapped[str]

    @track()
    class Visit(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        place: Mapped[str]
        who: Mapped[str | None] = mapped_column(ForeignKey(Person.number))

    class Stay(db.Model):  # type: ignore[name-defined, misc]
        person: Mapped[str] = mapped_column(ForeignKey(Person.number), primary_key=True)
        visit_id: Mapped[int] = mapped_column(ForeignKey(Visit.id))

    with app.app_context():
        db.create_all()
        db.session.add(Person(number=secret, name="Ada"))
        db.session.flush()
        db.session.add(Visit(id=1, place="here", who=secret))
        db.session.commit()
    client, token = undoing(app, mask=["Person.number"])
    look = Looker(client)
    events = look.json("/")["events"]
    path = f"/transactions/{events[0]['transaction']}/undo"

    def seen() -> str:
        posted = client.post(f"/history{path}", data={"token": token})
        answer = client.get(f"/history{path}", headers=JSON)
        page = client.get(f"/history{path}")
        told = f"{page.text} {answer.text} {posted.text} {posted.headers}"
        assert secret not in told
        return words(page.text) + str(posted.status_code)

    with app.app_context():
        db.session.add(Stay(person=secret, visit_id=1))
        db.session.commit()
    conflict = seen()
    assert "Visit 1 has been changed since, or other rows are in the way" in conflict
    assert "Person has been changed since" in conflict
    with app.app_context():
        db.session.execute(text("DELETE FROM stay"))
        db.session.execute(
            text(
                "CREATE FUNCTION said() RETURNS trigger LANGUAGE plpgsql"
                f" AS $$BEGIN RAISE EXCEPTION 'no {secret}'; END$$"
            )
        )
        db.session.execute(
            text(
                "CREATE TRIGGER said BEFORE DELETE ON visit"
                " FOR EACH ROW EXECUTE FUNCTION said()"
            )
        )
        db.session.commit()
    assert seen().endswith("409")
    with app.app_context():
        db.session.execute(text("DROP TRIGGER said ON visit"))
        db.session.commit()
    page = look.page(path)
    assert secret not in page
    assert "•••" in page
    assert seen().endswith("303")
    assert rows_of(app, db, "person") == rows_of(app, db, "visit") == []


def test_a_version_that_is_current_is_not_restored(
    app: flask.Flask, db: SQLAlchemy, note: Any, write: Callable[..., None]
) -> None:
    write(note(id=1, body="a"))
    change(app, db, note, 1, body="b")
    look = Looker(restoring(app)[0])
    transaction = look.json("/")["events"][-1]["transaction"]
    for path in (
        "/",
        "/objects/note_event/1",
        "/?table=note_event&key=1",
        "/?label=snapshot",
    ):
        newest, first = (e["id"] for e in look.json(path)["events"])
        page = look.page(path)
        assert f"/restore/note_event/{first}" in page
        assert f"/restore/note_event/{newest}" not in page
    assert f"/restore/note_event/{first}" in look.page(f"/transactions/{transaction}")
    preview = look.page(f"/restore/note_event/{newest}")
    assert "It is like this already" in preview
    assert "<form" not in preview
    remove(app, db, note, 1)
    gone = look.json("/")["events"][0]["id"]
    assert f"/restore/note_event/{gone}" in look.page("/")


def test_a_version_that_is_current_is_known_on_each_page(
    app: flask.Flask, db: SQLAlchemy, note: Any, write: Callable[..., None]
) -> None:
    """Whatever the page leaves out: versions that follow, and other models."""

    @track()
    class Place(db.Model):  # type: ignore[name-defined, misc]
        area: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(primary_key=True)
        text: Mapped[str]

    with app.app_context():
        db.create_all()
    write(
        *(note(id=n, body="a") for n in (1, 2)),
        *(Place(area=n, name="x", text="a") for n in (1, 2)),
        user="ada",
    )
    change(app, db, note, 2, body="b")
    change(app, db, Place, (2, "x"), text="b")
    # The changes are on the first page, and what they changed on the other two.
    look = Looker(restoring(app, page_size=2)[0])
    path, offered = "/history/", []
    while path:
        found = look.json(path)
        page = look.page(path.removeprefix("/history"))
        offered += [
            (event["model"], event["key"], event["operation"])
            for event in found["events"]
            if re.search(rf"/restore/[a-z]+_event/{event['id']}\"", page)
        ]
        path = found["next"]
    assert sorted(offered) == [
        ("Note", "2", "created"),
        ("Place", '[2, "x"]', "created"),
    ]


def test_a_version_is_offered_where_changes_after_it_are_not_tracked(
    app: flask.Flask, db: SQLAlchemy
) -> None:
    @track(sa_history.AfterInsert)
    class Once(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]

    with app.app_context():
        db.create_all()
        db.session.add(Once(id=1, body="a"))
        db.session.commit()
    change(app, db, Once, 1, body="b")
    look = Looker(restoring(app)[0])
    number = look.json("/")["events"][0]["id"]
    for path in ("/", "/objects/once_event/1", "/?label=insert"):
        assert f"/restore/once_event/{number}" in look.page(path)


def test_a_restore_whose_changes_are_not_tracked_says_so(
    app: flask.Flask, db: SQLAlchemy
) -> None:
    @track(sa_history.AfterInsert)
    class Once(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]

    with app.app_context():
        db.create_all()
        db.session.add(Once(id=1, body="a"))
        db.session.commit()
    change(app, db, Once, 1, body="b")
    client, token = restoring(app)
    look = Looker(client)
    number = look.json("/")["events"][0]["id"]
    page = words(look.page(f"/restore/once_event/{number}"))
    assert "What this changes is not tracked" in page
    client.post(f"/history/restore/once_event/{number}", data={"token": token})
    assert rows_of(app, db, "once") == [(1, "a")]


def test_nothing_is_written_for_a_preview_where_the_engine_is_in_autocommit(
    shop: Any, app: flask.Flask, db: SQLAlchemy, framework: str
) -> None:
    if framework == "flask":
        app.config["SQLALCHEMY_ENGINES"] = {}
    with app.app_context():
        autocommit = db.engine.execution_options(isolation_level="AUTOCOMMIT")
        if framework == "flask":
            db.engines[None] = autocommit
    options: dict[str, Any] = {"authorize_undo": lambda plan: True}
    look = Looker(seen_by(app, **options))
    path = f"/transactions/{look.json('/')['events'][0]['transaction']}/undo"
    assert "created Order 1" in words(look.page(path))
    assert rows_of(app, db, '"order"') == []


def test_that_events_were_removed_is_told_where_something_is_masked(
    app: flask.Flask,
    note: Any,
    write: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(note(id=1, body="a"))

    def refuse(*args: Any, **options: Any) -> Any:
        raise EventsRemovedError("events until yesterday were removed")

    monkeypatch.setattr(queries, "undo", refuse)
    look = Looker(undoing(app, mask=["Note.body"])[0])
    path = f"/transactions/{look.json('/')['events'][0]['transaction']}/undo"
    assert "events until yesterday were removed" in look.page(path, 409)
