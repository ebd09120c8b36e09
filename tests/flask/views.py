"""Views of a test, and what their requests tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flask

Add = Callable[[str], str]
NewApp = Callable[..., flask.Flask]
Seen = Callable[[], list[tuple[str, Any]]]


LOCAL = "127.0.0.1"


def told(path: str, method: str = "GET", **more: Any) -> dict[str, Any]:
    """Return what a request of the test client tells about itself."""
    endpoint = path.strip("/") or "index"
    return {
        "method": method,
        "path": path,
        "endpoint": endpoint,
        "remote": LOCAL,
        **more,
    }


def serve(app: flask.Flask, **views: Callable[..., Any]) -> Any:
    """Add views, each at its name, and return a client."""
    for name, view in views.items():
        app.add_url_rule(f"/{name}", name, view, methods=["GET", "POST"])
    return app.test_client()
