"""What a request asks for, as its headers say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flask
import pytest

from tests.timeline.visitor import seen_by


@pytest.mark.parametrize(
    ("accept", "is_json"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", True),
        ("Application/JSON", True),
        ("application/*", True),
        ("application/json, text/plain, */*", True),
        ("text/html, application/json;q=0.9", False),
        ("text/html;q=0.8, application/json;q=0.9", True),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        ("application/json;q=0, */*", False),
        ("application/json;version=1;q=0.5, text/html;q=0.4", True),
        ("application/json;q=x", False),
        ("text/*;q=0.5, */*;q=0.1, application/json;q=0.2", False),
    ],
)
def test_json_is_for_those_who_prefer_it(
    accept: str,
    is_json: bool,
    app: flask.Flask,
    note: Any,
    write: Callable[..., None],
) -> None:
    write(note(body="a"))
    answer = seen_by(app).get("/history/", headers={"Accept": accept})
    assert answer.status_code == 200
    expected = "application/json" if is_json else "text/html; charset=utf-8"
    assert answer.content_type == expected
