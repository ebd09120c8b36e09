"""Restoring a version by its button."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import flask
import pytest
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

import sa_history
from sa_history import Manual, Protect, Snapshot, attach, track
from sa_history.definition.operations import Update
from tests.timeline.visitor import (
    Looker,
    change,
    other_user,
    remove,
    restoring,
    set_token,
    words,
)


def post(client: Any, number: Any, **form: Any) -> Any:
    return client.post(f"/history/restore/note_event/{number}", data=form)


def test_a_version_is_restored_by_its_button(
    app: flask.Flask,
    framework: str,
    db: SQLAlchemy,
    note: Any,
    write: Callable[..., None],
) -> None:
    client, _ = restoring(app)
    write(note(id=1, body="a"))
    change(app, db, note, 1, body="b")
    remove(app, db, note, 1)
    look = Looker(client)
    first = look.json("/")["events"][-1]["id"]
    action = f"/history/restore/note_event/{first}"
    assert f'href="{action}">Restore' in look.page("/objects/note_event/1")
    preview = look.page(action.removeprefix("/history"))
    assert "created Note 1" in words(preview)
    assert len(look.json("/")["events"]) == 3
    form = r'action="([^"]*)">\s*<input type="hidden" name="token" value="([^"]*)"'
    ((posted, token),) = re.findall(form, preview)
    assert posted == action
    response = client.post(action, data={"token": token})
    assert (response.status_code, response.location) == (
        303,
        "/history/objects/note_event/1",
    )
    newest = look.json("/")["events"][0]
    assert (newest["operation"], newest["data"]["body"]) == ("created", "a")
    endpoint = {"endpoint": "history.restore"} if framework == "flask" else {}
    assert newest["context"] == {
        "method": "POST",
        "path": action,
        "remote": "127.0.0.1",
        "restored": first,
        **endpoint,
    }
    said = f"The version of event {first} is restored."
    assert said in words(look.page("/objects/note_event/1"))
    assert said not in look.page("/objects/note_event/1")
    assert f"Somebody restored version {first}: created Note 1" in words(look.page("/"))


def test_a_restore_needs_the_token_of_the_page_and_authorization(
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
    other = other_user(client)
    assert post(other, number, token=token).status_code == 400
    assert asked == []
    assert post(client, number, token=token).status_code == 403
    assert asked == ["a"]
    for missing in (number + 99, 10**30):
        assert post(client, missing, token=token).status_code == 404
    got = client.get(f"/history/restore/note_event/{number}?token={token}")
    assert got.status_code == 403
    assert len(Looker(client).json("/")["events"]) == 1


def test_restoring_is_off_by_default(
    app: flask.Flask, note: Any, write: Callable[..., None], look: Looker
) -> None:
    write(note(id=1, body="a"))
    assert "Restore" not in look.page("/")
    set_token(look.client, "guessed")
    number = look.json("/")["events"][0]["id"]
    assert post(look.client, number, token="guessed").status_code == 403


@pytest.mark.usefixtures("english")
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
