"""A small application with a tracked model, and what was recorded of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import flask
import pytest
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import URL
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sa_history import AfterDelete, Manual, Snapshot, track
from sa_history.flask import History


@pytest.fixture
def db(base: type[DeclarativeBase]) -> Iterator[SQLAlchemy]:
    """Flask-SQLAlchemy's object."""
    yield SQLAlchemy(model_class=base)
    base.registry.dispose()


@pytest.fixture
def note(db: SQLAlchemy) -> Any:
    """A tracked model."""

    @track(Snapshot, AfterDelete, Manual("read"))
    class Note(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]

    return Note


@pytest.fixture
def history(db: SQLAlchemy) -> History:
    """The extension, without an application."""
    return History(db)


@pytest.fixture
def new_app(pg_url: URL) -> Iterator[Callable[..., flask.Flask]]:
    """Return applications on the test's database."""
    made: list[tuple[flask.Flask, Any]] = []

    def make(db: Any, *extensions: Any, **config: Any) -> flask.Flask:
        app = flask.Flask("shop", root_path="/")
        app.config.update(
            SECRET_KEY="secret",
            TESTING=True,
            SQLALCHEMY_DATABASE_URI=pg_url,
            SQLALCHEMY_ENGINES={"default": pg_url},
        )
        app.config.update(config)
        for extension in (db, *extensions):
            extension.init_app(app)
        made.append((app, db))
        return app

    yield make
    for app, db in made:
        with app.app_context():
            for engine in db.engines.values():
                engine.dispose()


@pytest.fixture
def app(
    new_app: Callable[..., flask.Flask], db: SQLAlchemy, note: Any, history: History
) -> flask.Flask:
    """An application; a test adds its views."""
    app = new_app(db, history)
    with app.app_context():
        db.create_all()
    return app


@pytest.fixture
def add(db: SQLAlchemy, note: Any) -> Callable[[str], str]:
    """Write a note, as a view would."""

    def write(body: str) -> str:
        db.session.add(note(body=body))
        db.session.commit()
        return body

    return write


@pytest.fixture
def seen(
    note: Any, recorded: Callable[..., list[tuple[Any, ...]]]
) -> Callable[[], list[tuple[str, Any]]]:
    """Return the body and the context of each event, oldest first."""
    return lambda: [(body, context) for _, _, body, context in recorded(note, "body")]
