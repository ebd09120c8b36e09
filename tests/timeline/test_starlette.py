"""The timeline for Starlette and FastAPI: what is of theirs alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import flask
import pytest
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import URL, Engine, NullPool
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, sessionmaker
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Mount

from sa_history.exc import DefinitionError
from sa_history.starlette import timeline
from tests.timeline.visitor import (
    JSON,
    SECRET_KEY,
    AsgiClient,
    Looker,
    asgi_application,
    change,
    restoring,
    seen_by,
)


@pytest.fixture(params=["starlette", "fastapi"])
def framework(request: pytest.FixtureRequest) -> str:
    """Those that this is about."""
    name: str = request.param
    return name


@pytest.fixture(params=["sync", "async"])
def engine(request: pytest.FixtureRequest, pg_engine: Engine, pg_url: URL) -> Any:
    """An engine of each kind."""
    if request.param == "sync":
        return pg_engine
    return create_async_engine(pg_url, poolclass=NullPool)


async def _of_coroutine(request: Request) -> bool:
    await asyncio.sleep(0)
    return request.headers["X-User"] == "ada"


def _of_function(request: Request) -> bool:
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()  # it is in a thread of its own
    return request.headers["X-User"] == "ada"


@pytest.mark.parametrize(
    "authorize",
    [_of_coroutine, _of_function, lambda request: _of_coroutine(request)],
    ids=["async", "sync", "sync that returns a coroutine"],
)
def test_functions_of_the_application_may_be_async(
    authorize: Callable[[Request], Any],
    engine: Any,
    app: flask.Flask,
    db: SQLAlchemy,
    note: Any,
    write: Callable[..., None],
) -> None:
    write(note(id=1, body="a"))
    pages = timeline(
        engine, models=db.Model, authorize=authorize, secret_key=SECRET_KEY
    )
    client = AsgiClient(Starlette(routes=[Mount("/{tenant}/history", pages)]))
    for user, status in (("ada", 200), ("ben", 403)):
        answer = client.get("/a%20b/history/", headers={"X-User": user})
        assert answer.status_code == status
        assert "/a%20b/history/static/history.css" in answer.text
    answer = client.get("/a%20b/history/", headers={**JSON, "X-User": "ada"})
    assert [e["model"] for e in answer.json["events"]] == ["Note"]


@pytest.mark.parametrize(
    ("authorize", "status"),
    [
        (lambda request: None, 403),
        (lambda request: object(), DefinitionError),
        (lambda request: "admin", DefinitionError),
    ],
    ids=["None", "object", "text"],
)
def test_only_true_is_a_permission(
    authorize: Callable[[Request], Any], status: Any, engine: Any, db: SQLAlchemy
) -> None:
    pages = timeline(
        engine, models=db.Model, authorize=authorize, secret_key=SECRET_KEY
    )
    client = AsgiClient(Starlette(routes=[Mount("/history", pages)]))
    if isinstance(status, int):
        assert client.get("/history/").status_code == status
        return
    with pytest.raises(status, match="authorize returns True or False"):
        client.get("/history/")


def test_authorize_may_lead_elsewhere(engine: Any, db: SQLAlchemy) -> None:
    def authorize(request: Request) -> bool:
        raise HTTPException(303, headers={"Location": "/login"})

    pages = timeline(
        engine, models=db.Model, authorize=authorize, secret_key=SECRET_KEY
    )
    client = AsgiClient(Starlette(routes=[Mount("/history", pages)]))
    answer = client.get("/history/")
    assert (answer.status_code, answer.location) == (303, "/login")


@pytest.mark.parametrize("is_async", [False, True])
def test_a_restore_is_authorized_and_recorded_with_what_the_application_says(
    is_async: bool,
    app: flask.Flask,
    db: SQLAlchemy,
    note: Any,
    write: Callable[..., None],
) -> None:
    asked = []

    def by_function(event: Any) -> bool:
        asked.append(event.body)
        return True

    async def by_coroutine(event: Any) -> bool:
        await asyncio.sleep(0)
        return by_function(event)

    async def about(request: Request) -> dict[str, Any]:
        return {"user": request.headers["X-User"], "path": "/restored"}

    write(note(id=1, body="a"))
    change(app, db, note, 1, body="b")
    allow = by_coroutine if is_async else by_function
    client, token = restoring(app, authorize_restore=allow, context=about)
    look = Looker(client)
    first = look.json("/")["events"][-1]
    answer = client.post(
        f"/history/restore/note_event/{first['id']}",
        {"token": token},
        headers={"X-User": "ada"},
    )
    assert (answer.status_code, asked) == (303, ["a"])
    assert look.json("/")["events"][0]["context"] == {
        "method": "POST",
        "path": "/restored",
        "remote": "127.0.0.1",
        "user": "ada",
        "restored": first["id"],
    }


def test_a_client_of_a_socket_has_no_address(
    app: flask.Flask, db: SQLAlchemy, note: Any, write: Callable[..., None]
) -> None:
    write(note(id=1, body="a"))
    change(app, db, note, 1, body="b")
    client, token = restoring(app)
    site = client.site

    async def by_socket(scope: Any, receive: Any, send: Any) -> None:
        await site({**scope, "client": None}, receive, send)

    client.site = by_socket
    look = Looker(client)
    number = look.json("/")["events"][-1]["id"]
    client.post(f"/history/restore/note_event/{number}", {"token": token})
    context = look.json("/")["events"][0]["context"]
    assert {*context} == {"method", "path", "restored"}


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"token=%s", {}),
        (b"token=%s", {"Content-Type": "text/plain"}),
        (b"token=%s&x=\xff", FORM),
        (b"token=%s&x=" + b"x" * 70_000, FORM),
        (b"token=&token=%s", FORM),
    ],
    ids=["no type", "another type", "not ASCII", "too large", "another first"],
)
def test_what_is_no_form_of_the_timeline_restores_nothing(
    content: bytes,
    headers: dict[str, str],
    app: flask.Flask,
    note: Any,
    write: Callable[..., None],
) -> None:
    write(note(id=1, body="a"))
    client, token = restoring(app)
    number = Looker(client).json("/")["events"][0]["id"]
    path = f"/history/restore/note_event/{number}"
    answer = client.post(path, content=content % token.encode(), headers=headers)
    assert (answer.status_code, "too old" in answer.text) == (400, True)
    assert client.post(path, {"token": token}).status_code == 303


def test_a_restore_needs_sessions(
    framework: str, app: flask.Flask, note: Any, write: Callable[..., None]
) -> None:
    write(note(id=1, body="a"))
    site = asgi_application(
        app, framework, authorize=lambda: True, authorize_restore=lambda event: True
    )
    site.user_middleware.clear()
    client = AsgiClient(site)
    with pytest.raises(DefinitionError, match=r"such as Starlette's SessionMiddleware"):
        client.get("/history/")


def test_only_get_and_head_are_answered(app: flask.Flask) -> None:
    client = seen_by(app)
    assert client.post("/history/").status_code == 405


def test_what_cannot_be_meant_is_refused(
    engine: Any, base: type[DeclarativeBase]
) -> None:
    def make(**options: Any) -> Any:
        given = {"models": base, "secret_key": "x", "authorize": lambda request: True}
        given["engine"] = engine
        return timeline(**{**given, **options})

    for options, message in (
        ({"models": "Base"}, "'Base' is no declarative base and no MetaData"),
        ({"engine": "postgresql://"}, "sessionmaker that is bound to one, got 'postg"),
        ({"secret_key": ""}, "secret_key signs links, and cannot be empty"),
        ({"authorize": True}, "who may see it, got True"),
        ({"page_size": 0}, "page_size is a number of events, got 0"),
        ({"who": _of_coroutine}, "who is called for each event and is not awaited"),
        ({"link": _of_coroutine}, "link is called for .* coroutine function _of_co"),
        ({"labels": _of_coroutine}, "labels is called .*; write it without async"),
    ):
        with pytest.raises(DefinitionError, match=message):
            make(**options)
    client = AsgiClient(Starlette(routes=[Mount("/history", make())]))
    with pytest.raises(DefinitionError, match=r"track nothing; put @track\(\) on"):
        client.get("/history/")


def test_the_engine_is_that_of_the_sessions_when_a_page_is_asked_for(
    engine: Any, app: flask.Flask, db: SQLAlchemy, note: Any, write: Callable[..., None]
) -> None:
    make: Any = sessionmaker if isinstance(engine, Engine) else async_sessionmaker
    sessions = make()
    pages = timeline(
        sessions,
        models=db.Model,
        authorize=lambda request: True,
        secret_key=SECRET_KEY,
    )
    client = AsgiClient(Starlette(routes=[Mount("/history", pages)]))
    write(note(id=1, body="a"))
    with pytest.raises(DefinitionError, match="is bound to one, got None"):
        client.get("/history/")
    sessions.configure(bind=engine)  # as tests do
    answer = client.get("/history/", headers=JSON)
    assert [e["model"] for e in answer.json["events"]] == ["Note"]
