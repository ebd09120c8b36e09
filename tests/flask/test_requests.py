"""What a request tells about itself, and what is linked to it."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import click
import flask
import pytest
from flask_sqlalchemy import SQLAlchemy
from flask_sqlalchemy_lite import SQLAlchemy as SQLAlchemyLite
from sqlalchemy import (
    Engine,
    create_engine,
    event,
    func,
    insert,
    literal,
    select,
    text,
)
from sqlalchemy.exc import DataError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)
from werkzeug.middleware.proxy_fix import ProxyFix

import sa_history
from sa_history.exc import ContextError, DefinitionError, UndoError
from sa_history.flask import History
from sa_history.flask.requests import about_request
from tests.flask.views import Add, NewApp, Seen, serve, told


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


def test_an_object_that_a_view_changes_in_place_is_recorded_as_it_was_each_time(
    db: SQLAlchemy, note: Any, new_app: NewApp, add: Add, seen: Seen
) -> None:
    app = new_app(db, History(db, context=lambda: {"steps": flask.g.steps}))
    with app.app_context():
        db.create_all()

    def write() -> str:
        flask.g.steps = []
        for step in ("first", "second"):
            flask.g.steps.append({"name": step})
            add(step)
            flask.g.steps[0]["name"] = "renamed"
        return add("again")

    serve(app, write=write).get("/write")
    first, second, renamed = ({"name": n} for n in ("first", "second", "renamed"))
    assert seen() == [
        ("first", told("/write", steps=[first])),
        ("second", told("/write", steps=[renamed, second])),
        ("again", told("/write", steps=[renamed, second])),
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


def test_blocks_and_annotations_in_a_view_add_keys(
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
    with pytest.raises(DataError):
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


def test_a_command_is_a_context_with_its_name(
    app: flask.Flask, history: History, add: Add, seen: Seen
) -> None:
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
    about = {"command": "orders import"}
    assert seen() == [
        ("a", about),
        ("request", told("/write")),
        ("b", {**about, "path": "x.csv"}),
        ("c", {**about, "rows": 2}),
        ("d", {"command": "alone"}),
        ("e", None),
    ]


def test_a_command_is_a_context_in_an_application_context_that_is_older(
    app: flask.Flask, history: History, add: Add, seen: Seen
) -> None:
    """As that of a fixture, which Flask does not push again for a command."""

    @app.cli.command("import")
    def import_() -> None:
        add("a")
        history.annotate(rows=1)
        add("b")

    runner = app.test_cli_runner()
    with app.app_context():
        add("before")
        assert runner.invoke(args=["import"]).exit_code == 0
        add("between")
        assert runner.invoke(args=["import"]).exit_code == 0
        add("after")
    about = {"command": "import"}
    told = [("a", about), ("b", {**about, "rows": 1})]
    nothing = [(when, None) for when in ("before", "between", "after")]
    assert seen() == [nothing[0], *told, nothing[1], *told, nothing[2]]


def test_a_command_is_none_of_an_application_without_a_history(
    db: Any, note: Any, add: Add, seen: Seen, new_app: NewApp
) -> None:
    app = new_app(db)
    with app.app_context():
        db.create_all()
        app.cli.command("import")(lambda: add("a"))
        assert app.test_cli_runner().invoke(args=["import"]).exit_code == 0
    assert seen() == [("a", None)]


def test_history_is_read_in_the_database_of_the_bind_key(
    db: SQLAlchemy, note: Any, new_app: NewApp, pg_server: Any
) -> None:
    url = pg_server.create_database(f"other_{uuid.uuid4().hex[:8]}")

    @sa_history.track()
    class Visit(db.Model):  # type: ignore[name-defined, misc]
        __bind_key__ = "other"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    app = new_app(db, SQLALCHEMY_BINDS={"other": url})
    with app.app_context():
        db.create_all()
        for name in ("old", "new"):
            db.session.merge(Visit(id=1, name=name))
            db.session.add(note(body=name))
            db.session.commit()
        visit = db.session.get_one(Visit, 1)
        for target in (visit, Visit):
            rows = db.session.execute(sa_history.AggregateEvent.select(target)).all()
            assert [row.pgh_data["name"] for row in rows] == ["old", "new"]
        changes = db.session.execute(sa_history.changes(visit, "name")).all()
        assert [row.after for row in changes] == ["old", "new"]
        assert len(db.session.execute(sa_history.feed(note)).all()) <= 2
        now = datetime.datetime.now(datetime.timezone.utc)
        with sa_history.as_of(db.session, now) as past:
            assert past.get_one(Visit, 1).name == "new"
            assert past.get_one(note, 1).body == "old"
        last = db.session.scalars(visit.events.last()).one()
        sa_history.undo(db.session, Visit, transaction=last)
        assert visit.name == "old"
        assert last.revert(db.session).name == "new"
        with pytest.raises(UndoError, match="undo got Visit and Note, which the"):
            sa_history.undo(db.session, note, transaction=last)
        db.session.remove()
        db.engines["other"].dispose()
    pg_server.drop_database(url.database)


def test_the_database_of_models_is_that_of_the_sessions(
    base: type[DeclarativeBase], new_app: NewApp, pg_engine: Engine
) -> None:
    """Also of a sessionmaker, or of -Lite, that has several."""

    @sa_history.track()
    class Visit(base):  # type: ignore[misc, valid-type]
        __tablename__ = "visit"
        id: Mapped[int] = mapped_column(primary_key=True)

    @sa_history.track()
    class Guest(base):  # type: ignore[misc, valid-type]
        __tablename__ = "guest"
        id: Mapped[int] = mapped_column(primary_key=True)

    binds: dict[Any, Any] = {base: pg_engine}
    app = flask.Flask("maker")
    History(sessionmaker(binds=binds), models=base).init_app(app)
    state = app.extensions["sa_history"]
    assert state.databases() == [(pg_engine, base.metadata)]
    lite = SQLAlchemyLite(session_options={"binds": binds})
    app = new_app(lite, History(lite, models=base))
    with app.app_context():
        state = app.extensions["sa_history"]
        assert state.databases() == [(pg_engine, base.metadata)]
    app = flask.Flask("two")
    other = create_engine(pg_engine.url)
    apart = sessionmaker(binds={Visit: pg_engine, Guest: other})
    History(apart, models=base).init_app(app)
    with pytest.raises(DefinitionError, match="History got Visit and Guest, which the"):
        app.extensions["sa_history"].databases()
    base.registry.dispose()
