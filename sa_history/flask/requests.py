"""What a request, or a command, tells about itself."""

from __future__ import annotations

import re
from typing import Any

import click
import flask

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
"""https://www.w3.org/TR/trace-context/#traceparent-header"""

_REQUEST_ID = re.compile(r"[\w.:/+=-]{1,128}")


def about_request(request: flask.Request) -> dict[str, Any]:
    """Return what is recorded of a request; nothing of its body or query string.

    The remote address is what the application takes for it; behind a proxy it needs
    Werkzeug's ``ProxyFix``.
    """
    told: dict[str, Any] = {
        "method": request.method,
        "path": request.path,
        "endpoint": request.endpoint,
        "remote": request.remote_addr,
    }
    request_id = request.headers.get("X-Request-ID", "")
    if _REQUEST_ID.fullmatch(request_id):
        told["request_id"] = request_id
    trace = _TRACEPARENT.fullmatch(request.headers.get("traceparent", ""))
    if trace:
        told["trace_id"] = trace[1]
    return {key: value for key, value in told.items() if value is not None}


def about_command() -> dict[str, Any] | None:
    """Return the name of the ``flask`` command that runs now, None where none does."""
    context = click.get_current_context(silent=True)
    if context is None:
        return None
    # Without the name of the program.
    _, _, name = context.command_path.partition(" ")
    return {"command": name or context.command_path}


def login_user() -> dict[str, Any]:
    """Return the id of Flask-Login's user, if it is known without the database."""
    if not hasattr(flask.current_app, "login_manager"):
        return {}
    user = flask.g.get("_login_user")
    if user is not None:
        known = user.is_authenticated and user.get_id()
    else:
        # Not by its own get(), which makes every response vary by the cookie.
        session: Any = flask.session._get_current_object()  # type: ignore[attr-defined]
        known = dict.get(session, "_user_id") if isinstance(session, dict) else None
    return {"user": known} if known else {}
