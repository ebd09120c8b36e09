"""The metadata of the context of a request, or of a command."""

from __future__ import annotations

import re
from typing import Any

import click
import flask
import flask.globals
from sqlalchemy import inspect
from sqlalchemy.orm import InstanceState

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
"""https://www.w3.org/TR/trace-context/#traceparent-header"""

_REQUEST_ID = re.compile(r"[\w.:/+=-]{1,128}")


def about_request(request: flask.Request) -> dict[str, Any]:
    """Return the metadata of a request; nothing is of its body or query string.

    The remote address is what the application takes for it; behind a proxy it needs
    Werkzeug's ``ProxyFix``.
    """
    metadata: dict[str, str | None] = {
        "method": request.method,
        "path": request.path,
        "endpoint": request.endpoint,
        "remote": request.remote_addr,
    }
    request_id = request.headers.get("X-Request-ID", "")
    if _REQUEST_ID.fullmatch(request_id):
        metadata["request_id"] = request_id
    trace = _TRACEPARENT.fullmatch(request.headers.get("traceparent", ""))
    if trace:
        metadata["trace_id"] = trace[1]
    # Of what cannot be decoded Werkzeug makes the same.
    return {
        key: value.replace("\0", "\ufffd")
        for key, value in metadata.items()
        if value is not None
    }


def about_command() -> dict[str, Any] | None:
    """Return the name of the ``flask`` command that runs now, or None."""
    context = click.get_current_context(silent=True)
    if context is None:
        return None
    names = []
    while context.parent is not None:  # the program itself is left out
        names.append(context.info_name or "")
        context = context.parent
    return {"command": " ".join(reversed(names)) or context.info_name}


def login_user() -> dict[str, Any]:
    """Return the id of Flask-Login's user, as far as known without the database."""
    if not hasattr(flask.current_app, "login_manager"):
        return {}
    user = flask.g.get("_login_user")
    known = _of_session() if user is None else _id_of(user)
    return {"user": known} if known else {}


def _id_of(user: Any) -> Any:
    """Return the id of a user object, which may have been expired by a commit."""
    asked, known = flask.g.get(_ASKED, (None, None))
    if asked is user:
        return known
    state = inspect(user, raiseerr=False)
    if isinstance(state, InstanceState) and state.expired:
        identity = state.identity or ()
        return _of_session() or (str(identity[0]) if len(identity) == 1 else None)
    known = user.get_id() if user.is_authenticated else None
    setattr(flask.g, _ASKED, (user, known))
    return known


_ASKED = "sa_history_user"
"""In ``flask.g``: the user that was asked last, and the id."""


def _of_session() -> Any:
    """Return the id that Flask-Login has in the session.

    Not by ``flask.session``, which makes every response vary by the cookie.
    """
    names = vars(flask.globals)
    request: Any = names.get("_cv_request", names["_cv_app"]).get()
    session = request._session if hasattr(request, "_session") else request.session
    return dict.get(session, "_user_id") if isinstance(session, dict) else None
