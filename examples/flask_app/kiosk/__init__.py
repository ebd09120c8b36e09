"""Kiosk: orders of a small shop, and who changed what in them.

The application factory. All that sa_history needs is here: the extension, and the
timeline with the functions that say who may see it.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from flask import Flask, abort, url_for
from flask_login import current_user
from sqlalchemy import make_url

from kiosk.commands import create_user, seed
from kiosk.extensions import db, history, login, migrate
from kiosk.forms import protect
from kiosk.models import User
from kiosk.views import views
from sa_history.flask import Entry, timeline

MIGRATIONS = Path(__file__).parent.parent / "migrations"


def create_app(**config: Any) -> Flask:
    """Return the application.

    :param config: goes before the environment, which is ``DATABASE_URL`` and variables
        such as ``KIOSK_SECRET_KEY``.
    """
    app = Flask(__name__)
    url = os.environ.get("DATABASE_URL", "postgresql://localhost/kiosk")
    app.config.update(
        # Sessions end with the process, unless there is a key that stays.
        SECRET_KEY=secrets.token_hex(),
        SESSION_COOKIE_SAMESITE="Lax",
        SQLALCHEMY_DATABASE_URI=make_url(url).set(drivername="postgresql+psycopg"),
    )
    app.config.from_prefixed_env("KIOSK")
    app.config.update(config)

    db.init_app(app)
    history.init_app(app)
    login.init_app(app)
    migrate.init_app(app, db, directory=str(MIGRATIONS))
    protect(app)

    app.register_blueprint(views)
    app.register_blueprint(
        timeline(
            authorize=is_admin,
            authorize_restore=lambda event: is_admin(),
            authorize_undo=lambda plan: is_admin(),
            authorize_size=is_admin,
            labels={"order_tag": "Tag on an order", "order_id": "order"},
            name_of=str,
            mask=["User.password_hash"],
            users=names_of_users,
            link=address_of,
            page_size=25,
        ),
        url_prefix="/history",
    )
    app.cli.add_command(create_user)
    app.cli.add_command(seed)
    return app


def names_of_users() -> list[str]:
    """Return the users that the timeline offers to look for."""
    return [*db.session.scalars(db.select(User.name).order_by(User.name))]


def address_of(entry: Entry) -> str | None:
    """Return the address of an order that an event is about."""
    if entry.model != "Order" or entry.operation == "deleted":
        return None
    return url_for("kiosk.order", order_id=entry.key)


def is_admin() -> bool:
    """Return whether the one who asks is an admin; who it is has to be known."""
    if not current_user.is_authenticated:
        abort(login.unauthorized())
    return bool(current_user.is_admin)
