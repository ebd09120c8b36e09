"""An application with several databases, each of which has a timeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import flask
import pytest
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import URL, MetaData
from sqlalchemy.orm import Mapped, mapped_column

from sa_history import track
from sa_history.exc import DefinitionError
from sa_history.flask import History, timeline
from tests.timeline.visitor import JSON, Looker, seen_by


@pytest.fixture
def two(
    db: SQLAlchemy,
    note: Any,
    history: History,
    new_app: Callable[..., flask.Flask],
    pg_server: Any,
) -> Iterator[flask.Flask]:
    """An application with a tracked model in each of two databases, and a row of each.

    The numbers of events and transactions are those of its own in each.
    """
    name = f"{pg_server.url.database}_other"
    url: URL = pg_server.create_database(name)

    @track()
    class Visit(db.Model):  # type: ignore[name-defined, misc]
        __bind_key__ = "other"
        id: Mapped[int] = mapped_column(primary_key=True)

    app = new_app(db, history, SQLALCHEMY_BINDS={"other": url})
    with app.app_context():
        db.create_all()
        db.session.add_all([note(id=1, body="a"), Visit(id=2), Visit(id=3)])
        db.session.commit()
    yield app
    with app.app_context():
        db.engines["other"].dispose()
    pg_server.drop_database(name)


def test_each_database_has_a_timeline(two: flask.Flask, db: SQLAlchemy) -> None:
    look = Looker(seen_by(two, models=db.Model))
    other = timeline("other", authorize=lambda: True, models=db.metadatas["other"])
    two.register_blueprint(other, url_prefix="/other")
    events = look.json("/")["events"]
    assert [(e["model"], e["key"]) for e in events] == [("Note", "1")]
    events = look.client.get("/other/", headers=JSON).json["events"]
    assert [(e["model"], e["key"]) for e in events] == [("Visit", "3"), ("Visit", "2")]
    number = events[0]["transaction"]
    page = look.client.get(f"/other/transactions/{number}").text
    assert "/other/objects/visit_event/2" in page
    assert "note_event" not in page
    look.page("/objects/visit_event/2", status=404)


def test_of_several_databases_one_has_to_be_named(two: flask.Flask) -> None:
    look = Looker(seen_by(two))
    with pytest.raises(
        DefinitionError,
        match=r"tracks models of 2 MetaData, such as Note and Visit; register a "
        r"timeline for each, with timeline\(name, models=\.\.\.\)",
    ):
        look.page("/")


def test_models_that_are_not_those_of_the_application_are_refused(
    two: flask.Flask,
) -> None:
    look = Looker(seen_by(two, models=MetaData()))
    with pytest.raises(DefinitionError, match="of which History knows nothing that is"):
        look.page("/")
