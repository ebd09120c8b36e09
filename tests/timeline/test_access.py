"""Who may see the timeline, and what its answers let out."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any

import flask
import pytest

from sa_history.exc import DefinitionError
from sa_history.flask import timeline
from tests.timeline.visitor import JSON, Looker, seen_by

PAGES = ["/", "/objects/note_event/1", "/objects/nothing/1", "/nowhere", "/objects/x"]
PAGES += [
    "/chart",
    "/size",
    "/size?keep=x",
    "/export.csv",
    "/export.jsonl",
    "/chart?since=x",
    "/export.csv?since=x",
]
PAGES += [f"/contexts/{uuid.UUID(int=1)}", "/contexts/no", "/transactions/1"]
PAGES += ["/transactions/1/undo", f"/contexts/{uuid.UUID(int=1)}/undo"]


@pytest.mark.parametrize("authorize", [None, True, "admin"])
def test_it_is_not_registered_without_a_function(authorize: Any) -> None:
    with pytest.raises(TypeError, match="authorize"):
        timeline()  # type: ignore[call-arg]
    with pytest.raises(DefinitionError, match="who may see it"):
        timeline(authorize=authorize)


def test_who_is_turned_away_learns_nothing(
    app: flask.Flask, note: Any, write: Callable[..., None]
) -> None:
    write(note(body="secret"))
    allowed: dict[str, Any] = {
        "authorize_restore": lambda event: True,
        "authorize_undo": lambda undo: True,
        "authorize_size": lambda *request: True,
    }
    client = seen_by(app, authorize=lambda: False, **allowed)
    answers = set()
    for path in (*PAGES, "/restore/note_event/1", "/restore/note_event/99"):
        for response in (
            client.get(f"/history{path}"),
            client.get(f"/history{path}", headers=JSON),
            client.get(f"/history{path}?before=forged&version=1&at=x&since=x"),
        ):
            answers.add((response.status_code, response.text))
    for path in ("/restore/note_event/1", "/transactions/1/undo"):
        posted = client.post(f"/history{path}")
        answers.add((posted.status_code, posted.text))
    ((status, _),) = answers
    assert status == 403


def test_cursors_are_signed(
    app: flask.Flask, note: Any, write: Callable[..., None]
) -> None:
    looker = Looker(seen_by(app, page_size=1))
    write(note(body="a"), note(body="b"))
    following = looker.json("/")["next"]
    assert looker.json(following)["next"] is None
    for forged in (following + "x", following.replace("before=", "before=9")):
        looker.json(forged, 400)


def test_headers_keep_each_answer_to_itself(
    app: flask.Flask, note: Any, write: Callable[..., None], look: Looker
) -> None:
    write(note(id=1, body="a"))

    for path in (*PAGES, "/static/history.css", "/?before=x", "/restore/note_event/1"):
        for headers in ({}, JSON):
            with look.client.get(f"/history{path}", headers=headers) as response:
                got = response.headers
            policy = got["Content-Security-Policy"].split("; ")
            assert {"default-src 'none'", "frame-ancestors 'none'"} < {*policy}
            assert "unsafe" not in got["Content-Security-Policy"]
            assert got["X-Content-Type-Options"] == "nosniff"
            assert got["Referrer-Policy"] == "same-origin"
            assert "Accept" in got["Vary"]
            kept = "no-cache" if "static" in path else "no-store"
            assert got["Cache-Control"] == kept
    with look.client.get("/history/static/history.css") as style:
        assert style.content_type == "text/css; charset=utf-8"
        assert not re.search(r"https?:|url\(|@import", style.text)
