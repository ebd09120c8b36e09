"""The timeline as a blueprint: what is of Flask alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flask
import pytest
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from sa_history.exc import DefinitionError
from sa_history.flask import History, timeline
from tests.timeline.visitor import Looker, seen_by


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


def test_links_are_signed_with_the_key_of_the_application(
    app: flask.Flask, note: Any, write: Callable[..., None]
) -> None:
    look = Looker(seen_by(app, page_size=1))
    write(note(body="a"), note(body="b"))
    following = look.json("/")["next"]
    app.secret_key = "of another application"
    look.json(following, 400)
    app.secret_key = None
    with pytest.raises(DefinitionError, match=r"needs app\.secret_key"):
        look.page("/?before=x")


def test_the_error_pages_of_the_application_go_before_those_of_the_timeline(
    app: flask.Flask, look: Looker
) -> None:
    @app.errorhandler(404)
    def missing(error: Exception) -> tuple[str, int]:
        return "the application's own page", 404

    with look.client.get("/history/nowhere") as response:
        assert response.text == "the application's own page"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert response.headers["Cache-Control"] == "no-store"
    assert "Not understood" in look.page("/?before=x", 400)


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


def test_what_is_wrong_with_the_database_is_an_error_of_the_server(
    app: flask.Flask, db: SQLAlchemy, look: Looker
) -> None:
    with app.app_context():
        db.session.execute(text("DROP TABLE note_event"))
        db.session.commit()
    with pytest.raises(ProgrammingError, match="note_event"):
        look.page("/")


def test_a_list_gives_the_session_the_token_of_the_forms(app: flask.Flask) -> None:
    client = seen_by(app, authorize_restore=lambda event: True)
    client.get("/history/")
    with client.session_transaction() as session:
        assert session["sa_history_token"]
