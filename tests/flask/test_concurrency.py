"""Async views, streams, threads, and requests within and beside requests."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

import flask
import pytest
from flask_login import LoginManager, UserMixin, current_user
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Engine, NullPool, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import scoped_session, sessionmaker
from werkzeug.serving import make_server

import sa_history
from sa_history.flask import History
from tests.flask.views import LOCAL, Add, NewApp, Seen, serve, told


def test_what_async_views_write_is_linked_to_their_request(
    app: flask.Flask,
    db: SQLAlchemy,
    note: Any,
    history: History,
    pg_async_engine: AsyncEngine,
    add: Add,
    seen: Seen,
) -> None:
    async def orm() -> str:
        add("a")
        with history.context(step="block"):
            add("b")
        async with AsyncSession(pg_async_engine) as session:
            with history.context(session, step="async"):
                session.add(note(body="c"))
                await session.commit()
        return ""

    async def core() -> str:
        with db.engine.begin() as connection:
            connection.execute(insert(note).values(body="d"))
        as_it_is = "INSERT INTO note (body) VALUES ('100%')"
        with db.engine.begin() as connection:
            options = {"no_parameters": True}
            connection.exec_driver_sql(as_it_is, execution_options=options)
        # An engine's first connection asks what server it is, outside of a transaction.
        async_engine = create_async_engine(pg_async_engine.url, poolclass=NullPool)
        async with async_engine.begin() as connection:
            await asyncio.sleep(0)
            await connection.execute(insert(note).values(body="e"))
        return ""

    client = serve(app, orm=orm, core=core)
    assert client.get("/orm").status_code == client.get("/core").status_code == 200
    assert seen() == [
        ("a", told("/orm")),
        ("b", told("/orm", step="block")),
        ("c", told("/orm", step="async")),
        ("d", told("/core")),
        ("100%", told("/core")),
        ("e", told("/core")),
    ]


def test_a_block_in_a_coroutine_outside_of_the_application_is_recorded(
    pg_engine: Engine, note: Any, seen: Seen
) -> None:
    """Its blocks are for the scoped session too."""
    note.metadata.create_all(pg_engine)
    db = scoped_session(sessionmaker(pg_engine))
    history = History(db, models=note)

    async def job() -> None:
        with history.context(job="nightly"):
            db.add(note(body="a"))
            db.commit()
        db.add(note(body="b"))
        db.commit()

    asyncio.run(job())
    db.remove()
    assert seen() == [("a", {"job": "nightly"}), ("b", None)]


@pytest.mark.parametrize("is_read", [True, False], ids=["whole", "broken off"])
def test_a_stream_is_linked_to_its_request_until_its_end(
    is_read: bool, app: flask.Flask, add: Add, seen: Seen, db: SQLAlchemy
) -> None:
    def stream() -> flask.Response:
        def lines() -> Iterator[str]:
            yield add("a")
            yield add("b")

        return flask.Response(flask.stream_with_context(lines()))

    response = serve(app, stream=stream).get("/stream")
    lines = response.iter_encoded()
    assert next(iter(lines)) == b"a"
    if is_read:
        assert [*lines] == [b"b"]
    response.close()
    with app.app_context():
        add("after")
    expected = [(body, told("/stream")) for body in ("a", "b")[: 1 + is_read]]
    assert seen() == [*expected, ("after", None)]


def test_a_client_and_an_application_context_that_stay_open(
    app: flask.Flask, add: Add, seen: Seen
) -> None:
    client = serve(app, write=lambda: add("request"))
    with app.app_context():
        add("before")
        client.get("/write")
        add("between")
        with client:
            client.get("/write")
            assert flask.request.path == "/write"
            add("while it is kept")
        add("after")
    with app.test_request_context("/write"):
        add("no real request")
    assert seen() == [
        ("before", None),
        ("request", told("/write")),
        ("between", None),
        ("request", told("/write")),
        ("while it is kept", told("/write")),
        ("after", None),
        ("no real request", None),
    ]


def test_a_request_within_a_request_has_a_context_of_its_own(
    app: flask.Flask, with_login: Any, history: History, add: Add, seen: Seen
) -> None:
    """It does not have the user around it, and what comes after it is not its."""

    def outer() -> str:
        add("before")
        app.test_client().get("/inner")
        history.annotate(done=True)
        return add("after")

    client = serve(app, outer=outer, inner=lambda: add("inner"))
    with client.session_transaction() as session:
        session["_user_id"] = "7"
    client.get("/outer")
    about = told("/outer", user="7")
    assert seen() == [
        ("before", about),
        ("inner", told("/inner")),
        ("after", {**about, "done": True}),
    ]


def test_threads_that_a_view_starts_have_its_context_if_they_are_given_a_copy(
    app: flask.Flask, db: SQLAlchemy, with_login: Any, add: Add, seen: Seen
) -> None:
    """With a copy of the request's context they are linked to it; else they are not."""
    responded = threading.Event()

    def late() -> None:
        add("copy")
        responded.wait(10)
        add("copy, after the response")

    def alone() -> None:
        with app.app_context():
            add("alone")

    threads = []

    def view() -> str:
        add(f"view of {current_user.id}")
        other = threading.Thread(target=alone)
        other.start()
        other.join()
        threads.append(
            threading.Thread(target=flask.copy_current_request_context(late))
        )
        threads[0].start()
        return add("view")

    serve(app, view=view).get("/view", headers={"X-User": "7"})
    responded.set()
    threads[0].join()
    with app.app_context():
        add("nobody")
    about = told("/view", user="7")
    assert sorted(seen(), key=str) == sorted(
        [
            ("view of 7", about),
            ("alone", None),
            ("copy", about),
            ("view", about),
            ("copy, after the response", about),
            ("nobody", None),
        ],
        key=str,
    )


def test_a_thread_that_goes_on_with_the_session_of_a_view(
    db: SQLAlchemy, note: Any, new_app: NewApp, seen: Seen
) -> None:
    """It has what was known of the request then."""
    app = new_app(db, History(db, context=lambda: {"tenant": flask.g.tenant}))
    with app.app_context():
        db.create_all()

    def view() -> str:
        flask.g.tenant = "north"
        session = db.session()
        session.add(note(body="view"))
        session.flush()

        def go_on() -> None:
            with app.app_context():
                session.add(note(body="thread"))
                session.commit()

        thread = threading.Thread(target=go_on)
        thread.start()
        thread.join()
        return ""

    serve(app, view=view).get("/view")
    about = told("/view", tenant="north")
    assert seen() == [("view", about), ("thread", about)]


def test_concurrent_requests_record_each_its_own_user(
    db: SQLAlchemy,
    note: Any,
    history: History,
    new_app: NewApp,
    pg_engine: Engine,
) -> None:
    """50 users, 1,000 requests and 5,000 writes; some requests fail."""
    app = new_app(
        db,
        history,
        TESTING=False,
        PROPAGATE_EXCEPTIONS=False,
        SQLALCHEMY_ENGINE_OPTIONS={"pool_size": 20, "max_overflow": 40},
    )
    app.logger.disabled = True
    with app.app_context():
        db.create_all()
    manager = LoginManager(app)

    class Guest(UserMixin):
        def __init__(self, id: str) -> None:
            self.id = id

    manager.request_loader(lambda request: Guest(request.headers["X-User"]))

    @app.post("/<user>/<int:number>")
    def write(user: str, number: int) -> str:
        assert current_user.is_authenticated
        for part in range(5):
            db.session.add(note(body=f"{user} {number} {part}"))
            db.session.flush()
        db.session.commit()
        if number % 5 == 0:
            raise ValueError
        return ""

    statuses: list[int] = []

    def be(user: str) -> None:
        connection = HTTPConnection(LOCAL, server.port)
        for number in range(20):
            connection.request("POST", f"/{user}/{number}", headers={"X-User": user})
            with connection.getresponse() as response:
                response.read()
                statuses.append(response.status)
        connection.close()

    server = make_server(LOCAL, 0, app, threaded=True)
    server.log = lambda *args: None  # type: ignore[method-assign, assignment]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    users = [f"user{number}" for number in range(50)]
    try:
        with ThreadPoolExecutor(50) as pool:
            list(pool.map(be, users))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

    assert (statuses.count(200), statuses.count(500)) == (800, 200)
    events = sa_history.events(note).table
    contexts = note.metadata.tables["pghistory_context"]
    with pg_engine.connect() as connection:
        rows = connection.execute(
            select(
                events.c.body,
                contexts.c.metadata["user"].astext,
                contexts.c.metadata["path"].astext,
                contexts.c.id,
            ).outerjoin_from(events, contexts, events.c.pgh_context_id == contexts.c.id)
        ).all()
    assert len(rows) == 5000
    wrong = [
        (body, user, path)
        for body, user, path, _ in rows
        if (user, path) != (body.split()[0], "/{}/{}".format(*body.split()))
    ]
    assert wrong == []
    assert len({context_id for *_, context_id in rows}) == 1000
    assert all(isinstance(context_id, uuid.UUID) for *_, context_id in rows)
