"""The user of a request, as Flask-Login or the application knows it."""

from __future__ import annotations

from typing import Any

import flask
import pytest
from flask_login import LoginManager, current_user, login_user, logout_user
from flask_sqlalchemy import SQLAlchemy

from sa_history.flask import History
from tests.flask.views import Add, NewApp, Seen, serve, told


def test_events_of_a_request_have_the_user_of_their_time(
    app: flask.Flask, db: SQLAlchemy, with_login: Any, add: Add, seen: Seen
) -> None:
    """What was written under one user stays theirs."""

    def view() -> str:
        add("nobody")
        login_user(db.session.get(with_login, 7))
        add("7")
        add("7, who was expired by the commit")
        with app.extensions["sa_history"].extension.context(reason="block"):
            add("7 in a block")
            login_user(db.session.get(with_login, 8))
            add("8 in the block")
        add("8")
        logout_user()
        return add("nobody again")

    client = serve(app, view=view, later=lambda: add("later"))
    client.get("/view")
    in_block = {"reason": "block"}
    assert seen() == [
        # Its transaction had ended when the user became known.
        ("nobody", told("/view")),
        ("7", told("/view", user="7")),
        ("7, who was expired by the commit", told("/view", user="7")),
        ("7 in a block", told("/view", user="7", **in_block)),
        ("8 in the block", told("/view", user="8", **in_block)),
        ("8", told("/view", user="8")),
        ("nobody again", told("/view")),
    ]


def test_login_of_another_user_within_a_transaction(
    app: flask.Flask, db: SQLAlchemy, note: Any, with_login: Any, seen: Seen
) -> None:
    def write(body: str) -> None:
        db.session.add(note(body=body))
        db.session.flush()

    def view() -> str:
        write("nobody yet")
        login_user(db.session.get(with_login, 7))
        write("7")
        with app.extensions["sa_history"].extension.context(reason="block"):
            write("7 in a block")
            login_user(db.session.get(with_login, 8))
            write("8 in the block")
        write("8")
        db.session.commit()
        return ""

    serve(app, view=view).get("/view")
    assert seen() == [
        # It has learned of its user in the same context.
        ("nobody yet", told("/view", user="7")),
        ("7", told("/view", user="7")),
        ("7 in a block", told("/view", user="7", reason="block")),
        ("8 in the block", told("/view", user="8", reason="block")),
        ("8", told("/view", user="8")),
    ]


@pytest.mark.parametrize("how", ["session", "header"])
def test_the_user_is_known_without_the_database(
    how: str, app: flask.Flask, db: SQLAlchemy, with_login: Any, add: Add, seen: Seen
) -> None:
    """Whether it was loaded or not, expired by a commit, or has deleted itself."""

    def leave() -> str:
        add(f"{current_user.id} is here")
        db.session.delete(current_user._get_current_object())
        db.session.commit()
        return add("gone")

    client = serve(app, leave=leave, write=lambda: add("not loaded"))
    headers = {}
    if how == "session":
        with client.session_transaction() as session:
            session["_user_id"] = "7"
        client.get("/write")
        assert seen().pop() == ("not loaded", told("/write", user="7"))
    else:
        headers["X-User"] = "7"
    assert client.get("/leave", headers=headers).text == "gone"
    assert seen()[-2:] == [
        ("7 is here", told("/leave", user="7")),
        ("gone", told("/leave", user="7")),
    ]


def test_the_user_is_known_though_it_was_expired_before_anything_is_written(
    app: flask.Flask, db: SQLAlchemy, with_login: Any, add: Add, seen: Seen
) -> None:
    def write() -> str:
        name = f"{current_user.id} is here"
        db.session.commit()
        return add(name)

    serve(app, write=write).get("/write", headers={"X-User": "7"})
    assert seen() == [("7 is here", told("/write", user="7"))]


def test_a_response_does_not_vary_by_the_cookie(
    app: flask.Flask, add: Add, seen: Seen
) -> None:
    """Flask-Login has it do so; the extension does not, and looks into the session."""
    client = serve(app, write=lambda: add("a"))
    with client.session_transaction() as session:
        session["_user_id"] = "7"
    app.login_manager = "of another kind"  # type: ignore[attr-defined]
    response = client.get("/write")
    assert (response.text, response.headers.get("Vary")) == ("a", None)
    assert seen() == [("a", told("/write", user="7"))]


def test_the_users_of_the_callable_and_of_annotate_win(
    db: SQLAlchemy, note: Any, new_app: NewApp, add: Add, seen: Seen
) -> None:
    history = History(db, context=lambda: {"user": "callable"})
    app = new_app(db, history)
    manager = LoginManager(app)
    manager.user_loader(lambda key: None)
    with app.app_context():
        db.create_all()

    def annotated() -> str:
        history.annotate(user="annotated")
        return add("b")

    client = serve(app, write=lambda: add("a"), annotated=annotated)
    with client.session_transaction() as session:
        session["_user_id"] = "7"
    client.get("/write")
    client.get("/annotated")
    assert seen() == [
        ("a", told("/write", user="callable")),
        ("b", told("/annotated", user="annotated")),
    ]
