"""Whether events are sealed, and verified when somebody asks; and what was erased."""

from __future__ import annotations

from typing import Any

import flask
import pytest
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text
from sqlalchemy.orm import Mapped, mapped_column

import sa_history
from sa_history import track
from tests.timeline.visitor import JSON, Looker, restoring, seen_by, set_token, words


@pytest.fixture
def person(app: flask.Flask, db: SQLAlchemy, note: Any) -> Any:
    """A sealed person, and one that is not sealed yet."""

    @track(sealed=True, erasable=["name"])
    class Person(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    with app.app_context():
        db.create_all()
        db.session.add_all([note(id=1, body="note"), Person(id=1, name="Ann")])
        db.session.commit()
        sa_history.seal(db.engine, db.Model)
        db.session.add(Person(id=2, name="Bo"))
        db.session.commit()
    return Person


def execute(app: flask.Flask, db: SQLAlchemy, statement: str) -> None:
    with app.app_context():
        db.session.execute(text(statement))
        db.session.commit()


def test_an_event_says_whether_it_is_sealed(
    app: flask.Flask, db: SQLAlchemy, person: Any
) -> None:
    look = Looker(seen_by(app))
    seals = {e["model"] + e["key"]: e.get("seal", 0) for e in look.json("/")["events"]}
    seal = seals.pop("Person1")
    # There is none of a model that is not sealed.
    assert seals == {"Person2": None, "Note1": 0}
    assert seal["number"] == 1
    shown = words(look.page("/"))
    assert "sealed : event 2" in shown
    assert "not sealed yet : event 3" in shown
    assert ": event 1" not in shown
    page = look.page("/seals/person_event/2")
    assert seal["root"] in page
    assert "It is not said here whether the event is as it was sealed." in page
    assert "Verify" not in page
    assert look.json("/seals/person_event/2")["seal"] == seal
    assert "The event is not sealed yet." in look.page("/seals/person_event/3")
    for path in ("person_event/9", "person_event/x", "note_event/1", "none/1"):
        look.page(f"/seals/{path}", 404)
    with look.client.post("/history/seals/person_event/2") as response:
        assert response.status_code == 403


def test_an_event_is_verified_when_somebody_asks(
    app: flask.Flask, db: SQLAlchemy, person: Any
) -> None:
    client, token = restoring(app, authorize_verify=lambda event: event.pgh_id < 9)
    path = "/history/seals/person_event/2"
    assert "Verify" in Looker(client).page("/seals/person_event/2")
    assert client.post(path, data={"token": "other"}).status_code == 400

    def verified() -> Any:
        return client.post(path, data={"token": token}, headers=JSON).json

    assert verified()["discrepancies"] == []
    page = client.post(path, data={"token": token}).text
    assert "The event and those near it are as they were sealed." in page
    unsealed = client.post("/history/seals/person_event/3", data={"token": token}).text
    assert "The event is not sealed yet." in unsealed
    execute(app, db, "UPDATE person_event SET name = 'Eve' WHERE pgh_id = 2")
    assert verified()["discrepancies"] == ["changed person_event 1 to 2: 2"]
    page = client.post(path, data={"token": token}).text
    assert "<li>changed person_event 1 to 2: 2</li>" in page
    execute(app, db, "UPDATE pghistory_seal SET sealed_at = now()")
    assert len(verified()["discrepancies"]) == 2


def test_who_may_not_verify_is_refused(
    app: flask.Flask, db: SQLAlchemy, person: Any
) -> None:
    client = seen_by(app, authorize_verify=lambda event: False)
    set_token(client, "known")
    answer = client.post("/history/seals/person_event/2", data={"token": "known"})
    assert answer.status_code == 403


SHORT_WAITS = """
DO $$ BEGIN
  EXECUTE format('ALTER DATABASE %I SET lock_timeout = 100', current_database());
END $$
"""


@pytest.mark.usefixtures("english")
def test_a_verification_that_the_database_ends_is_told(
    app: flask.Flask, db: SQLAlchemy, person: Any
) -> None:
    client, token = restoring(app, authorize_verify=lambda event: True)
    execute(app, db, SHORT_WAITS)
    with app.app_context():
        db.engine.dispose()
        with db.engine.begin() as other:
            other.execute(text("LOCK TABLE pghistory_salt IN ACCESS EXCLUSIVE MODE"))
            path = "/history/seals/person_event/2"
            answer = client.post(path, data={"token": token})
    assert answer.status_code == 409
    assert "lock timeout" in words(answer.text)


@pytest.mark.usefixtures("english")
def test_seals_that_cannot_be_read_are_not_shown(
    app: flask.Flask, db: SQLAlchemy, person: Any
) -> None:
    client, token = restoring(app, authorize_verify=lambda event: True)
    look, path = Looker(client), "/history/seals/person_event/2"
    for statement, status, message in (
        ("RENAME COLUMN salt TO pepper", 200, "unreadable person_event 1 to 2 (column"),
        ("RENAME TO pepper", 409, "the database has no table pghistory_salt"),
    ):
        execute(app, db, f"ALTER TABLE pghistory_salt {statement}")
        answer = client.post(path, data={"token": token})
        assert (answer.status_code, message in words(answer.text)) == (status, True)
    assert "sealed" in words(look.page("/"))
    execute(app, db, "ALTER TABLE pghistory_seal RENAME TO gone")
    assert "sealed" not in words(look.page("/"))
    assert all("seal" not in event for event in look.json("/")["events"])


@pytest.mark.usefixtures("read_committed")
def test_what_was_erased_has_the_word_on_all_pages(
    app: flask.Flask, db: SQLAlchemy, person: Any
) -> None:
    with app.app_context():
        sa_history.erase(db.session, person, 1)
        db.session.get_one(person, 1).name = "New"
        db.session.commit()
    look = Looker(seen_by(app))
    newest, *_, first = look.json("/objects/person_event/1")["events"]
    assert newest["diff"] == {"name": [{"erased": True}, "New"]}
    assert first["data"]["name"] == {"erased": True}
    assert "name erased New" in words(look.page("/objects/person_event/1"))
    compared = f"?version={first['id']}&version={newest['id']}"
    assert "name erased New" in words(look.page(f"/objects/person_event/1{compared}"))
    assert '""erased"": true' in look.page("/export.csv")
