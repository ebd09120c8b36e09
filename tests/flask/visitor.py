"""A visitor of the timeline, and what changes meanwhile."""

from __future__ import annotations

from typing import Any

import flask
import html5lib
from flask.testing import FlaskClient
from flask_sqlalchemy import SQLAlchemy

from sa_history.flask import timeline

JSON = {"Accept": "application/json"}


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


def restoring(app: flask.Flask, **options: Any) -> tuple[FlaskClient, str]:
    """Return a client, and the token of its forms."""
    client = seen_by(app, **{"authorize_restore": lambda event: True, **options})
    client.get("/history/")
    with client.session_transaction() as session:
        return client, session["sa_history_token"]


def words(page: str) -> str:
    """Return what is read of a page."""
    tree = html5lib.parse(page, namespaceHTMLElements=False)
    return " ".join(" ".join(tree.itertext()).split())
