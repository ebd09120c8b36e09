"""What a request or a command changes is linked to it, and nothing else is."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

import click
import flask
import pytest
from flask_login import (
    LoginManager,
    UserMixin,
    current_user,
    login_user,
    logout_user,
)
from flask_sqlalchemy import SQLAlchemy
from flask_sqlalchemy_lite import SQLAlchemy as SQLAlchemyLite
from sqlalchemy import Engine, event, func, insert, literal, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Mapped, Session, mapped_column, scoped_session, sessionmaker
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.serving import make_server

import sa_history
from sa_history.exc import ContextError, DefinitionError
from sa_history.flask import History
from sa_history.flask.requests import about_request

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


# Set up


def test_an_application_is_set_up_once(app: flask.Flask, history: History) -> None:
    with pytest.raises(DefinitionError, match="call init_app once for each app"):
        history.init_app(app)
    with pytest.raises(DefinitionError, match="has a History already"):
        History().init_app(app)


@pytest.mark.parametrize("kind", ["lite", "scoped_session", "sessionmaker"])
def test_any_session_of_a_request_is_linked_to_it(
    kind: str, pg_engine: Engine, new_app: NewApp, note: Any, seen: Seen
) -> None:
    note.metadata.create_all(pg_engine)
    sessions: Any = sessionmaker(pg_engine)
    if kind == "lite":
        db = SQLAlchemyLite()
        history = History(db, models=note)
        app = new_app(db, history)
    else:
        db = scoped_session(sessions) if kind == "scoped_session" else sessions
        history = History(db, models=note)
        app = flask.Flask("shop", root_path="/")
        history.init_app(app)

    def write() -> str:
        session = db.session if kind == "lite" else db()
        with session, history.context(reason="view"):
            session.add(note(body="a"))
            session.commit()
        return ""

    assert serve(app, write=write).get("/write").status_code == 200
    assert seen() == [("a", told("/write", reason="view"))]
    with app.app_context():
        state = app.extensions["sa_history"]
        assert [e.url.database for e, _ in state.databases()] == [
            pg_engine.url.database
        ]


def test_several_applications_and_databases_in_a_process(
    db: SQLAlchemy, note: Any, new_app: NewApp, add: Add, seen: Seen, pg_url: Any
) -> None:
    """One request within another, of another application, has a context of its own."""

    @sa_history.track()
    class Visit(db.Model):  # type: ignore[name-defined, misc]
        __bind_key__ = "other"
        id: Mapped[int] = mapped_column(primary_key=True)

    history = History(context=lambda: {"app": flask.current_app.config["WHO"]})
    binds = {"other": pg_url.set(query={"application_name": "other"})}
    apps = []
    for name in ("one", "two"):
        app = new_app(db, WHO=name, SQLALCHEMY_BINDS=binds)
        history.init_app(app, db)
        apps.append(app)
    one, two = apps
    # Both have a context table of this name, in one database here.
    db.metadatas["other"].schema = None
    with one.app_context():
        db.create_all(bind_key=None)

    inner = serve(two, inner=lambda: add("inner"))

    def outer() -> str:
        flask.current_app.extensions["sa_history"].extension.annotate(secret="outer")
        add("before")
        inner.get("/inner")
        return add("after")

    serve(one, outer=outer).get("/outer")
    assert seen() == [
        ("before", told("/outer", app="one", secret="outer")),
        ("inner", told("/inner", app="two")),
        ("after", told("/outer", app="one", secret="outer")),
    ]


# What is recorded


def test_what_a_request_tells_about_itself(
    app: flask.Flask, add: Add, seen: Seen
) -> None:
    app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
    trace = "0af7651916cd43dd8448eb211c80319c"
    serve(app, write=lambda: add("a")).post(
        "/write?password=hunter2",
        data={"card": "4111"},
        headers={
            "X-Forwarded-For": "203.0.113.7",
            "X-Request-ID": "req-7.a/b",
            "traceparent": f"00-{trace}-b7ad6b7169203331-01",
            "Cookie": "tracker=1",
            "Authorization": "Bearer secret",
        },
    )
    assert seen() == [
        (
            "a",
            told(
                "/write",
                "POST",
                remote="203.0.113.7",
                request_id="req-7.a/b",
                trace_id=trace,
            ),
        )
    ]


def test_requests_of_every_method_are_recorded(
    app: flask.Flask, add: Add, seen: Seen
) -> None:
    """One that writes nothing, as of OPTIONS and HEAD mostly, leaves nothing anyway."""
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

    def write() -> str:
        return add(flask.request.method)

    app.add_url_rule("/write", "write", write, methods=methods)
    app.add_url_rule("/idle", "idle", lambda: "", methods=["GET"])
    client = app.test_client()
    for method in methods:
        assert client.open("/write", method=method).status_code == 200
        assert client.options("/idle").status_code == 200
    assert seen() == [(method, told("/write", method)) for method in methods]


def test_what_is_no_id_is_left_out(app: flask.Flask, add: Add, seen: Seen) -> None:
    client = serve(app, write=lambda: add("a"))
    headers = [("X-Request-ID", "x" * 129), ("X-Request-ID", "<script>")]
    headers += [("X-Request-ID", ""), ("traceparent", f"00-{'X' * 32}-{'b' * 16}-01")]
    headers += [("traceparent", f"00-{'a' * 32}")]
    for header in headers:
        client.get("/write", headers=[header])
    assert seen() == [("a", told("/write"))] * 5


def test_an_application_says_what_is_recorded(
    db: SQLAlchemy, note: Any, new_app: NewApp, add: Add, seen: Seen
) -> None:
    """``request`` once for all, ``context`` whenever something is written."""

    def about(request: flask.Request) -> dict[str, Any]:
        return {k: v for k, v in about_request(request).items() if k != "remote"}

    steps = iter(range(9))
    history = History(db, request=about, context=lambda: {"step": flask.g.step})
    app = new_app(db, history)
    with app.app_context():
        db.create_all()

    def write() -> str:
        for flask.g.step in ("first", "second"):
            add(f"{flask.g.step} {next(steps)}")
        return ""

    serve(app, write=write).get("/write")
    about_it = {"method": "GET", "path": "/write", "endpoint": "write"}
    assert seen() == [
        ("first 0", {**about_it, "step": "first"}),
        ("second 1", {**about_it, "step": "second"}),
    ]


def test_a_value_that_is_not_json_is_refused_each_time(
    db: SQLAlchemy, note: Any, new_app: NewApp, add: Add, seen: Seen
) -> None:
    app = new_app(db, History(db, context=lambda: {"who": object()}))
    with app.app_context():
        db.create_all()

    def write() -> str:
        for body in ("a", "b"):
            with pytest.raises(ContextError, match="'who'"):
                add(body)
            db.session.rollback()
        return "refused"

    assert serve(app, write=write).get("/write").text == "refused"
    assert seen() == []


def test_a_request_that_writes_nothing_leaves_nothing(
    app: flask.Flask, db: SQLAlchemy, note: Any, pg_engine: Engine
) -> None:
    def read() -> str:
        return str(db.session.scalar(select(func.count()).select_from(note)))

    client = serve(app, read=read, idle=lambda: "idle")
    sent: list[str] = []
    with app.app_context():
        event.listen(
            db.engine, "before_cursor_execute", lambda *args: sent.append(args[2])
        )
        contexts = db.metadata.tables["pghistory_context"]
    assert client.get("/idle").text == "idle"
    assert sent == []
    assert client.get("/read").text == "0"
    assert ["set_config" in statement for statement in sent] == [False]
    with Session(pg_engine) as session:
        assert session.scalar(select(func.count()).select_from(contexts)) == 0


# Flask-Login


@pytest.fixture
def with_login(app: flask.Flask, db: SQLAlchemy) -> Any:
    """The application, with users in its database."""

    class User(UserMixin, db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    manager = LoginManager(app)
    manager.user_loader(lambda key: db.session.get(User, int(key)))
    manager.request_loader(
        lambda request: (
            db.session.get(User, int(request.headers["X-User"]))
            if "X-User" in request.headers
            else None
        )
    )
    with app.app_context():
        db.create_all()
        db.session.add_all([User(id=7), User(id=8)])
        db.session.commit()
    return User


def test_login_and_logout_within_a_request(
    app: flask.Flask, db: SQLAlchemy, with_login: Any, add: Add, seen: Seen
) -> None:
    """What was written under one user stays theirs."""

    def view() -> str:
        add("nobody")
        login_user(db.session.get(with_login, 7))
        add("7")
        add("7, who was expired by the commit")
        with app.extensions["sa_history"].extension.context(reason="block"):
            add("7 in a block")
            login_user(db.session.get(with_login, 8))
            add("8 in the block")
        add("8")
        logout_user()
        return add("nobody again")

    client = serve(app, view=view, later=lambda: add("later"))
    client.get("/view")
    in_block = {"reason": "block"}
    assert seen() == [
        # It has learned of its user in the same context.
        ("nobody", told("/view", user="7")),
        ("7", told("/view", user="7")),
        ("7, who was expired by the commit", told("/view", user="7")),
        ("7 in a block", told("/view", user="7", **in_block)),
        ("8 in the block", told("/view", user="8", **in_block)),
        ("8", told("/view", user="8")),
        ("nobody again", told("/view")),
    ]


def test_login_of_another_user_within_a_transaction(
    app: flask.Flask, db: SQLAlchemy, note: Any, with_login: Any, seen: Seen
) -> None:
    def write(body: str) -> None:
        db.session.add(note(body=body))
        db.session.flush()

    def view() -> str:
        login_user(db.session.get(with_login, 7))
        write("7")
        with app.extensions["sa_history"].extension.context(reason="block"):
            write("7 in a block")
            login_user(db.session.get(with_login, 8))
            write("8 in the block")
        write("8")
        db.session.commit()
        return ""

    serve(app, view=view).get("/view")
    assert seen() == [
        ("7", told("/view", user="7")),
        ("7 in a block", told("/view", user="7", reason="block")),
        ("8 in the block", told("/view", user="8", reason="block")),
        ("8", told("/view", user="8")),
    ]


@pytest.mark.parametrize("how", ["session", "header"])
def test_the_user_is_known_without_the_database(
    how: str, app: flask.Flask, db: SQLAlchemy, with_login: Any, add: Add, seen: Seen
) -> None:
    """Whether it was loaded or not, expired by a commit, or has deleted itself."""

    def leave() -> str:
        add(f"{current_user.id} is here")
        db.session.delete(current_user._get_current_object())
        db.session.commit()
        return add("gone")

    client = serve(app, leave=leave, write=lambda: add("not loaded"))
    headers = {}
    if how == "session":
        with client.session_transaction() as session:
            session["_user_id"] = "7"
        client.get("/write")
        assert seen().pop() == ("not loaded", told("/write", user="7"))
    else:
        headers["X-User"] = "7"
    assert client.get("/leave", headers=headers).text == "gone"
    assert seen()[-2:] == [
        ("7 is here", told("/leave", user="7")),
        ("gone", told("/leave", user="7")),
    ]


def test_the_user_is_known_though_it_was_expired_before_anything_is_written(
    app: flask.Flask, db: SQLAlchemy, with_login: Any, add: Add, seen: Seen
) -> None:
    def write() -> str:
        name = f"{current_user.id} is here"
        db.session.commit()
        return add(name)

    serve(app, write=write).get("/write", headers={"X-User": "7"})
    assert seen() == [("7 is here", told("/write", user="7"))]


def test_a_response_does_not_vary_by_the_cookie(
    app: flask.Flask, add: Add, seen: Seen
) -> None:
    """Flask-Login has it do so; the extension does not, and looks into the session."""
    client = serve(app, write=lambda: add("a"))
    with client.session_transaction() as session:
        session["_user_id"] = "7"
    app.login_manager = "of another kind"  # type: ignore[attr-defined]
    response = client.get("/write")
    assert (response.text, response.headers.get("Vary")) == ("a", None)
    assert seen() == [("a", told("/write", user="7"))]


def test_the_users_of_the_callable_and_of_annotate_win(
    db: SQLAlchemy, note: Any, new_app: NewApp, add: Add, seen: Seen
) -> None:
    history = History(db, context=lambda: {"user": "callable"})
    app = new_app(db, history)
    manager = LoginManager(app)
    manager.user_loader(lambda key: None)
    with app.app_context():
        db.create_all()

    def annotated() -> str:
        history.annotate(user="annotated")
        return add("b")

    client = serve(app, write=lambda: add("a"), annotated=annotated)
    with client.session_transaction() as session:
        session["_user_id"] = "7"
    client.get("/write")
    client.get("/annotated")
    assert seen() == [
        ("a", told("/write", user="callable")),
        ("b", told("/annotated", user="annotated")),
    ]


# Views


def test_blocks_and_annotations_in_a_view(
    app: flask.Flask, history: History, add: Add, seen: Seen
) -> None:
    def view() -> str:
        with history.context(step="block"):
            add("a")
        history.annotate(order=5)
        sa_history.annotate(more=True)
        return add("b")

    serve(app, view=view).get("/view")
    about = told("/view", order=5, more=True)
    assert seen() == [("a", {**told("/view"), "step": "block"}), ("b", about)]
    with pytest.raises(ContextError, match="no request and no command"):
        history.annotate(order=6)


def test_the_keys_of_a_block_around_the_client_are_added(
    app: flask.Flask, add: Add, seen: Seen
) -> None:
    client = serve(app, write=lambda: add("a"))
    with sa_history.context(suite="smoke"):
        client.get("/write")
    assert seen() == [("a", told("/write", suite="smoke"))]


def test_async_views(
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
        async with pg_async_engine.begin() as connection:
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


def test_a_coroutine_outside_of_the_application(
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
def test_streaming(
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


def test_core_connections_and_the_driver_in_a_view(
    app: flask.Flask, db: SQLAlchemy, note: Any, seen: Seen
) -> None:
    def core() -> str:
        with db.engine.begin() as connection:
            connection.execute(insert(note).values(body="a"))
        with db.engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            driver.execute("INSERT INTO note (body) VALUES ('b')")
            driver.commit()
        return ""

    serve(app, core=core).get("/core")
    assert seen() == [("a", told("/core")), ("b", told("/core"))]


# Errors


def test_after_errors_nothing_leaks_and_nothing_is_hidden(
    app: flask.Flask, db: SQLAlchemy, add: Add, seen: Seen
) -> None:
    def fails() -> str:
        add("before the error")
        raise ValueError("the application's own")

    def fails_in_sql() -> str:
        db.session.execute(text("SELECT 1/0"))
        return ""

    client = serve(app, fails=fails, sql=fails_in_sql, write=lambda: add("fine"))
    with pytest.raises(ValueError, match="the application's own"):
        client.get("/fails")
    with pytest.raises(Exception, match="division by zero"):
        client.get("/sql")
    with app.app_context():
        add("no request")
    client.get("/write")
    assert seen() == [
        ("before the error", told("/fails")),
        ("no request", None),
        ("fine", told("/write")),
    ]


def test_a_context_that_cannot_be_had_does_not_hide_an_error(
    db: SQLAlchemy, note: Any, new_app: NewApp
) -> None:
    def context() -> dict[str, Any]:
        raise LookupError("of the callable")

    app = new_app(db, History(db, context=context))

    def view() -> str:
        raise ValueError("of the view")

    with pytest.raises(ValueError, match="of the view"):
        serve(app, view=view).get("/view")


def test_handlers_around_the_view_have_the_context(
    app: flask.Flask, add: Add, seen: Seen
) -> None:
    @app.before_request
    def gate() -> None:
        if flask.request.path == "/closed":
            add("refused")
            flask.abort(403)

    @app.errorhandler(KeyError)
    def on_key_error(error: KeyError) -> tuple[str, int]:
        return add("handled"), 500

    @app.errorhandler(404)
    def on_missing(error: Exception) -> tuple[str, int]:
        return add("not there"), 404

    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        add(f"after {response.status_code}")
        return response

    @app.teardown_request
    def ends(error: BaseException | None) -> None:
        add("torn down")

    client = serve(app, closed=lambda: "", broken=lambda: {}["x"])
    for path in ("/closed", "/broken", "/nowhere"):
        client.get(path)
    missing = {k: v for k, v in told("/nowhere").items() if k != "endpoint"}
    expected = []
    for about, body, status in (
        (told("/closed"), "refused", 403),
        (told("/broken"), "handled", 500),
        (missing, "not there", 404),
    ):
        bodies = (body, f"after {status}", "torn down")
        expected += [(b, about) for b in bodies]
    assert seen() == expected


# Where a request ends


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


def test_a_request_within_a_request(
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
    about = told("/outer", user="7", done=True)
    assert seen() == [("before", about), ("inner", told("/inner")), ("after", about)]


def test_threads_that_a_view_starts(
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


def test_a_callable_is_not_asked_for_what_it_reads_itself(
    db: SQLAlchemy, note: Any, new_app: NewApp, add: Add, seen: Seen
) -> None:
    """It must not use the database; if it does, it is not asked forever."""

    def count() -> dict[str, Any]:
        asked.append(None)
        with db.engine.connect() as connection:
            return {"one": connection.scalar(select(literal(1)))}

    asked: list[None] = []
    app = new_app(db, History(db, context=count))
    with app.app_context():
        db.create_all()
    serve(app, write=lambda: add("a")).get("/write")
    assert seen() == [("a", told("/write", one=1))]
    assert 1 <= len(asked) <= 10


# Commands


def test_commands(app: flask.Flask, history: History, add: Add, seen: Seen) -> None:
    group = flask.cli.AppGroup("orders")
    client = serve(app, write=lambda: add("request"))

    @group.command("import")
    @click.argument("path")
    def import_(path: str) -> None:
        add("a")
        client.get("/write")
        with history.context(path=path):
            add("b")
        history.annotate(rows=2)
        add("c")

    app.cli.add_command(group)
    runner = app.test_cli_runner()
    assert runner.invoke(args=["orders", "import", "x.csv"]).exit_code == 0
    add_alone = click.command("alone")(flask.cli.with_appcontext(lambda: add("d")))
    app.cli.add_command(add_alone)
    assert runner.invoke(args=["alone"], prog_name="python -m flask").exit_code == 0
    with app.app_context():
        add("e")
    about = {"command": "orders import", "rows": 2}
    assert seen() == [
        ("a", about),
        ("request", told("/write")),
        ("b", {"command": "orders import", "path": "x.csv"}),
        ("c", about),
        ("d", {"command": "alone"}),
        ("e", None),
    ]


# Many at once


def test_concurrent_requests_of_different_users(
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
