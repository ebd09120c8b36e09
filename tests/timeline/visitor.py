"""A visitor of the timeline, in each framework, and what changes meanwhile."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flask
import html5lib
import httpx
import itsdangerous
from fastapi import FastAPI
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import NullPool
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.middleware.sessions import SessionMiddleware

import sa_history.starlette
from sa_history.flask import timeline

JSON = {"Accept": "application/json"}

FRAMEWORKS = ["flask", "starlette", "fastapi"]
"""Each has the timeline; that of FastAPI reads by asyncpg."""

SECRET_KEY = "secret"


def seen_by(app: flask.Flask, **options: Any) -> Any:
    """Mount a timeline in the framework of the test, and return a client.

    :param app: the application of Flask, whose database is that of all frameworks.
    """
    options.setdefault("authorize", lambda: True)
    framework = app.config.get("FRAMEWORK", "flask")
    if framework == "flask":
        app.register_blueprint(timeline(**options), url_prefix="/history")
        return app.test_client()
    return AsgiClient(asgi_application(app, framework, **options))


def asgi_application(app: flask.Flask, framework: str, **options: Any) -> Any:
    """Return an application of Starlette or FastAPI with a timeline."""
    authorize: Callable[[], Any] = options.pop("authorize")
    db: SQLAlchemy = app.extensions["sqlalchemy"]
    with app.app_context():
        engine: Any = db.engine
    if framework == "fastapi":
        url = engine.url.set(drivername="postgresql+asyncpg")
        engine = create_async_engine(url, poolclass=NullPool)
    options = {"models": db.Model, "secret_key": SECRET_KEY, **options}
    pages = sa_history.starlette.timeline(
        engine, authorize=lambda request: authorize(), **options
    )
    site: Any = FastAPI() if framework == "fastapi" else Starlette()
    site.add_middleware(SessionMiddleware, secret_key=SECRET_KEY)
    site.mount("/history", pages)
    return site


@dataclass(frozen=True)
class Answer:
    """An answer of an application of ASGI, with the names of Werkzeug's."""

    response: httpx.Response

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def status_code(self) -> int:
        return self.response.status_code

    @property
    def text(self) -> str:
        return self.response.text

    @property
    def json(self) -> Any:
        return self.response.json()

    @property
    def headers(self) -> httpx.Headers:
        return self.response.headers

    @property
    def content_type(self) -> str:
        return self.response.headers["Content-Type"]

    @property
    def location(self) -> str | None:
        return self.response.headers.get("Location")


class AsgiClient:
    """A client of an application of ASGI, with what tests use of Werkzeug's."""

    def __init__(self, site: Any) -> None:
        self.site = site
        self.cookies = httpx.Cookies()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self._send("GET", path, headers=headers)

    def post(
        self,
        path: str,
        data: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        return self._send("POST", path, data=data, content=content, headers=headers)

    def _send(self, method: str, path: str, **options: Any) -> Answer:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.site, client=("127.0.0.1", 1))
            async with httpx.AsyncClient(
                transport=transport, base_url="http://shop", cookies=self.cookies
            ) as client:
                response = await client.request(method, path, **options)
                self.cookies = client.cookies
                return response

        return Answer(asyncio.run(send()))


def set_token(client: Any, token: str) -> None:
    """Write a token into the user's session, as nobody else can."""
    if isinstance(client, AsgiClient):
        data = base64.b64encode(json.dumps({"sa_history_token": token}).encode())
        signed = itsdangerous.TimestampSigner(SECRET_KEY).sign(data)
        client.cookies.set("session", signed.decode(), domain="shop.local")
        return
    with client.session_transaction() as session:
        session["sa_history_token"] = token


def other_user(client: Any) -> Any:
    """Return a client of the same application with a session of its own."""
    if isinstance(client, AsgiClient):
        return AsgiClient(client.site)
    return client.application.test_client()


class Looker:
    """Somebody who looks at the pages."""

    def __init__(self, client: Any) -> None:
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


def restoring(app: flask.Flask, **options: Any) -> tuple[Any, str]:
    """Return a client, and the token of its forms."""
    client = seen_by(app, **{"authorize_restore": lambda event: True, **options})
    set_token(client, "known")
    return client, "known"


def words(page: str) -> str:
    """Return what is read of a page."""
    tree = html5lib.parse(page, namespaceHTMLElements=False)
    return " ".join(" ".join(tree.itertext()).split())
