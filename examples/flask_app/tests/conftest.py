"""A database as the migrations and the seeds leave it, and people who log in."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_migrate import upgrade
from kiosk import create_app
from kiosk.extensions import db
from kiosk.seeds import ADMIN, sow
from sqlalchemy import URL
from werkzeug.test import TestResponse

from sa_history.testing import PgServer


def _app(url: URL) -> Flask:
    return create_app(TESTING=True, SQLALCHEMY_DATABASE_URI=url)


def _leave(app: Flask) -> None:
    with app.app_context():
        for engine in db.engines.values():
            engine.dispose()


@pytest.fixture(scope="session")
def seeded(pg_server: PgServer) -> Iterator[str]:
    name = f"example_{uuid.uuid4().hex[:8]}"
    app = _app(pg_server.create_database(name))
    try:
        with app.app_context():
            upgrade()
            sow(orders=12)
        _leave(app)
        yield name
    finally:
        pg_server.drop_database(name)


@pytest.fixture
def app(pg_server: PgServer, seeded: str) -> Iterator[Flask]:
    """The application, with a database of the test's own."""
    name = f"{seeded}_{uuid.uuid4().hex[:8]}"
    app = _app(pg_server.create_database(name, template=seeded))
    try:
        yield app
    finally:
        _leave(app)
        pg_server.drop_database(name)


class Browser(FlaskClient):
    """A client that sends forms with the token of their page."""

    def submit(self, path: str, **fields: object) -> TestResponse:
        page = self.get(path if path.startswith("/login") else "/password")
        token = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
        assert token is not None
        return self.post(path, data={"csrf_token": token[1], **fields})


@pytest.fixture
def logged_in(app: Flask) -> Callable[[str], Browser]:
    app.test_client_class = Browser

    def log_in(name: str) -> Browser:
        client = app.test_client()
        answer = client.submit("/login", name=name, password=ADMIN[1])
        assert answer.status_code == 302
        return client

    return log_in


@pytest.fixture
def ada(logged_in: Callable[[str], Browser]) -> Browser:
    """An admin."""
    return logged_in("ada")


@pytest.fixture
def ben(logged_in: Callable[[str], Browser]) -> Browser:
    """No admin."""
    return logged_in("ben")
