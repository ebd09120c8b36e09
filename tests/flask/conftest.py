"""A small application with a tracked model, and what was recorded of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import flask
import pytest
from flask_login import LoginManager, UserMixin
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import URL
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import sa_history
from sa_history import AfterDelete, Manual, Snapshot, track
from sa_history.flask import History
from tests.timeline.visitor import Looker, seen_by


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


@pytest.fixture
def with_login(app: flask.Flask, db: SQLAlchemy) -> Any:
    """The application, with users in its database."""

    class User(UserMixin, db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    manager = LoginManager(app)
    manager.user_loader(lambda key: db.session.get(User, int(key)))
    manager.request_loader(
        lambda request: (
            db.session.get(User, int(request.headers["X-User"]))
            if "X-User" in request.headers
            else None
        )
    )
    with app.app_context():
        db.create_all()
        db.session.add_all([User(id=7), User(id=8)])
        db.session.commit()
    return User


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
