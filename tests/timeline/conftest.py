"""The application of the tests of Flask, with the timeline in each framework."""

from __future__ import annotations

import flask
import pytest

from tests.flask.conftest import app as flask_app
from tests.flask.conftest import db, history, look, new_app, note, write
from tests.timeline.visitor import FRAMEWORKS

__all__ = ["db", "flask_app", "history", "look", "new_app", "note", "write"]


@pytest.fixture(params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> str:
    """The framework that has the timeline."""
    name: str = request.param
    return name


@pytest.fixture
def app(flask_app: flask.Flask, framework: str) -> flask.Flask:
    """The application that writes, whose timeline ``seen_by`` mounts."""
    flask_app.config["FRAMEWORK"] = framework
    return flask_app
