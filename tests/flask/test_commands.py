"""``flask history``: the commands, inside the application's configuration."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flask
import pytest
from click.testing import Result
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    URL,
    Column,
    Engine,
    Integer,
    MetaData,
    Table,
    create_engine,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from sa_history import Snapshot, context, seal, track
from sa_history.cli import main
from sa_history.exc import DefinitionError
from sa_history.flask import History

Invoke = Callable[..., Result]


@pytest.fixture
def invoke(app: flask.Flask) -> Invoke:
    """Run a command of the application."""
    return lambda *args: app.test_cli_runner().invoke(args=["history", *args])


def test_an_application_in_the_place_of_the_database_is_refused() -> None:
    app = flask.Flask("shop")
    with pytest.raises(DefinitionError, match=r"<Flask 'shop'>; write History\(db\)"):
        History(app)
    with pytest.raises(DefinitionError, match=r"write History\(db\)"):
        History().init_app(app, app)


def test_functions_of_the_package_are_not_those_of_the_extension(
    history: History,
) -> None:
    attribute = "as_of"
    with pytest.raises(AttributeError, match=r"of the package: sa_history\.as_of$"):
        getattr(history, attribute)
    attribute = "asof"
    with pytest.raises(
        AttributeError, match="'History' object has no attribute 'asof'$"
    ):
        getattr(history, attribute)


def test_check_exits_with_1_where_something_is_wrong(
    invoke: Invoke, pg_engine: Engine
) -> None:
    assert invoke("check").output == "all is as the models say\n"

    with pg_engine.begin() as connection:
        connection.execute(text("DROP TRIGGER note_event_insert ON note"))
    found = invoke("check")
    assert found.exit_code == 1
    assert found.output == (
        "missing trigger note_event_insert on public.note: run flask history install\n"
    )
    assert invoke("check", "--allow", "missing").exit_code == 0
    assert invoke("check", "--allow", "nonsense").exit_code == 2
    assert "missing" in invoke("ls").output

    assert (
        invoke("install").output == "create trigger note_event_insert on public.note\n"
    )
    assert invoke("install", "--prune").output == "nothing to do\n"
    assert invoke("check").exit_code == 0


def test_ls_and_ddl_print_what_belongs_in_the_database(invoke: Invoke) -> None:
    listed = invoke("ls")
    assert listed.exit_code == 0
    assert "installed  trigger  note_event_insert on public.note\n" in listed.output
    assert "CREATE TABLE note_event (" in invoke("ddl").output
    without = invoke("ddl", "--without-tables").output
    assert "CREATE TABLE" not in without
    assert "CREATE OR REPLACE TRIGGER" in without or "CREATE TRIGGER" in without


def test_every_command_of_sa_history_is_one_of_flask(
    invoke: Invoke, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the same arguments, but for the models and the database's URL."""
    with pytest.raises(SystemExit):
        main(["--help"])
    names = re.findall(r"^    ([a-z-]+)", capsys.readouterr().out, re.MULTILINE)
    assert re.findall(r"^  ([a-z]\S*)  ", invoke().output, re.MULTILINE) == sorted(
        names
    )
    for name in names:
        with pytest.raises(SystemExit):
            main([name, "--help"])
        own = set(re.findall(r"--[\w-]+", capsys.readouterr().out)) - {"--url"}
        assert set(re.findall(r"--[\w-]+", invoke(name, "--help").output)) == own


def test_uninstall_and_harden_work_inside_the_application(
    db: SQLAlchemy, new_app: Callable[..., flask.Flask], pg_engine: Engine
) -> None:
    @track(Snapshot, ignorable=False)
    class Visit(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    app = new_app(db, History(db))
    with app.app_context():
        db.create_all()
    role = f"app_{pg_engine.url.database}"[-63:]
    with pg_engine.begin() as connection:
        connection.execute(text(f'CREATE ROLE "{role}"'))

    def may_read() -> bool:
        query = text("SELECT has_table_privilege(:role, 'visit_event', 'SELECT')")
        with pg_engine.connect() as connection:
            return bool(connection.scalar(query, {"role": role}))

    def run(*args: str) -> Result:
        return app.test_cli_runner().invoke(args=["history", *args])

    try:
        assert run("harden").exit_code == 2
        printed = run("harden", "--app-role", role, "--dry-run")
        assert printed.exit_code == 0
        assert not may_read()
        assert run("harden", "--app-role", role).output == printed.output
        assert may_read()
    finally:
        with pg_engine.begin() as connection:
            connection.execute(text(f'DROP OWNED BY "{role}"'))
            connection.execute(text(f'DROP ROLE "{role}"'))
    assert "drop trigger visit_event_insert on public.visit" in run("uninstall").output
    assert run("uninstall").output == "nothing to do\n"
    assert run("check").exit_code == 1


def test_an_interruption_is_not_taken_for_drift(
    app: flask.Flask, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> Any:
        raise KeyboardInterrupt

    with app.app_context():
        state = app.extensions["sa_history"]
    monkeypatch.setattr(type(state), "databases", lambda _: interrupt())
    result = invoke("check")
    assert (result.exit_code, result.stderr) == (2, "flask history: interrupted\n")


def test_first_events_tell_the_command(
    app: flask.Flask,
    db: SQLAlchemy,
    note: Any,
    invoke: Invoke,
    recorded: Callable[..., list[tuple[Any, ...]]],
) -> None:
    with app.app_context():
        db.session.add(note(body="a"))
        db.session.commit()
        db.session.execute(text("TRUNCATE note_event"))
        db.session.commit()
    done = invoke("baseline", "note", "--batch", "1")
    assert done.exit_code == 0
    assert done.stdout == "note_event: 1 first events\n"
    assert [(op, body, context) for _, op, body, context in recorded(note, "body")] == [
        ("B", "a", {"command": "history baseline"})
    ]


def test_the_history_of_a_row_is_told_by_the_name_of_its_class_or_table(
    app: flask.Flask, db: SQLAlchemy, note: Any, invoke: Invoke
) -> None:
    with app.app_context():
        with context(user="ada"):
            db.session.add(note(id=1, body="a"))
            db.session.commit()
        db.session.get_one(note, 1).body = "b"
        db.session.commit()
    for name in ("Note", "note"):
        printed = invoke("log", name, "1", "--user", "ada").stdout
        assert "Note 1 created\nUser:        ada\n" in printed
        assert printed.count("event ") == 1
    assert invoke("log").stdout.count("event ") == 2
    first, last = (
        str(json.loads(line)["id"])
        for line in reversed(invoke("log", "--json").stdout.splitlines())
    )
    for options in (["--between", first, last], []):
        printed = invoke("diff", "Note", "1", *options).stdout
        assert printed.splitlines()[2:] == ["-body: a", "+body: b"]
    assert invoke("as-of", "Note", "0s", "--csv").stdout == "id,body\n1,b\n"
    assert invoke("as-of", "note", "0s", "1", "--csv").stdout == "id,body\n1,b\n"


def test_a_model_that_the_application_has_not_is_refused(invoke: Invoke) -> None:
    for command in (["log"], ["diff"], ["as-of"]):
        result = invoke(*command, "Noet", "1h")
        assert (result.exit_code, result.stderr) == (
            2,
            "flask history: the application has no tracked model 'Noet'; did you mean "
            "'Note'? it has Note\n",
        )
    for arguments in (["diff"], ["as-of"], ["as-of", "Note"]):
        assert "Missing argument" in invoke(*arguments).stderr


def test_a_name_of_several_models_is_refused(
    db: SQLAlchemy, new_app: Callable[..., flask.Flask]
) -> None:
    other = MetaData()
    track(Snapshot)(Table("Note", other, Column("id", Integer, primary_key=True)))

    class Base(DeclarativeBase):
        pass

    @track(Snapshot)
    class Note(Base):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)

    app = new_app(db)
    History(
        sessionmaker(create_engine("postgresql+psycopg://")), models=[Base, other]
    ).init_app(app)
    result = app.test_cli_runner().invoke(args=["history", "log", "Note"])
    assert (result.exit_code, result.stderr) == (
        2,
        "flask history: 'Note' is the name of several models; give that of a table: "
        "note, Note\n",
    )


@pytest.fixture
def two(
    db: SQLAlchemy, note: Any, new_app: Callable[..., flask.Flask], other_url: URL
) -> Iterator[flask.Flask]:
    """An application with two databases."""

    @track(Snapshot)
    class Visit(db.Model):  # type: ignore[name-defined, misc]
        __bind_key__ = "other"
        id: Mapped[int] = mapped_column(primary_key=True)

    app = new_app(db, History(db), SQLALCHEMY_BINDS={"other": other_url})
    with app.app_context():
        db.create_all()
    yield app
    with app.app_context():
        db.engines["other"].dispose()


def test_the_commands_are_for_all_databases(two: flask.Flask) -> None:
    def invoke(*args: str) -> Result:
        return two.test_cli_runner().invoke(args=["history", *args])

    assert invoke("check").output == (
        "-- db.Model\nall is as the models say\n"
        "-- db.Model of the bind 'other'\nall is as the models say\n"
    )
    assert invoke("check", "--json").output == ""
    listed = invoke("ls").output
    assert "note_event_insert" in listed
    assert "visit_event_insert" in listed
    # A table that only one of them has.
    assert invoke("baseline", "visit").stdout == "visit_event: 0 first events\n"
    unknown = invoke("baseline", "visit", "vsit")
    assert unknown.exit_code == 2
    assert unknown.stderr == (
        "flask history: there is no tracked table vsit; there is note, visit\n"
    )
    with two.app_context():
        other = two.extensions["sqlalchemy"].engines["other"]
        with other.begin() as connection:
            connection.execute(text("ALTER TABLE visit DISABLE TRIGGER ALL"))
    assert invoke("check").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["ls"], "name"),
        (["check"], "problem"),
        (["install"], "step"),
        (["ddl"], "statement"),
        (["baseline"], "events"),
        (["size"], "rows"),
        (["log"], "operation"),
        (["partitions", "--convert", "--dry-run"], "done"),
        (["seal"], "root"),
        (["verify"], "problem"),
        (["uninstall"], "step"),
    ],
    ids=lambda given: given[0] if isinstance(given, list) else "",
)
def test_objects_of_json_name_their_database_where_there_are_several(
    arguments: list[str],
    key: str,
    db: SQLAlchemy,
    new_app: Callable[..., flask.Flask],
    other_url: URL,
) -> None:
    for bind in (None, "other"):
        key_column = mapped_column(Integer, primary_key=True)
        names = {"__tablename__": f"trip_{bind}", "__bind_key__": bind}
        trip = type(f"Trip_{bind}", (db.Model,), {**names, "id": key_column})
        track(Snapshot, sealed=True, partition_by="month")(trip)
    app = new_app(db, History(db), SQLALCHEMY_BINDS={"other": other_url})
    metadatas = [db.metadatas[None], db.metadatas["other"]]
    with app.app_context():
        db.create_all()
        for engine, name in (
            (db.engine, "trip_None"),
            (db.engines["other"], "trip_other"),
        ):
            with engine.begin() as connection:
                for statement in (
                    f'INSERT INTO "{name}" VALUES (1)',
                    f'DROP TRIGGER "{name}_event_update" ON "{name}"',
                ):
                    connection.execute(text(statement))
            if arguments == ["verify"]:
                seal(engine, metadatas.pop(0))
                with engine.begin() as connection:
                    forged = f"UPDATE \"{name}_event\" SET pgh_label = 'x'"
                    connection.execute(text(forged))
    invoked = app.test_cli_runner().invoke(args=["history", *arguments, "--json"])
    found = [json.loads(line) for line in invoked.stdout.splitlines()]
    assert {each["database"] for each in found} == {
        "db.Model",
        "db.Model of the bind 'other'",
    }
    assert all(key in each and next(iter(each)) == "database" for each in found)
    with app.app_context():
        db.engines["other"].dispose()


def visit_of(db: SQLAlchemy, bind: str) -> type[Any]:
    """Return a model of a database that is named."""
    key = mapped_column(Integer, primary_key=True)
    attributes = {"__tablename__": f"visit_{bind}", "__bind_key__": bind, "id": key}
    return type(f"Visit_{bind}", (db.Model,), attributes)


@pytest.fixture
def two_kept(
    db: SQLAlchemy, new_app: Callable[..., flask.Flask], other_url: URL
) -> Iterator[flask.Flask]:
    """An application with two databases, one of which has seals and partitions."""

    @track(Snapshot, sealed=True, partition_by="month")
    class Order(db.Model):  # type: ignore[name-defined, misc]
        __tablename__ = "orders"
        id: Mapped[int] = mapped_column(primary_key=True)

    @track(Snapshot)
    class Visit(db.Model):  # type: ignore[name-defined, misc]
        __bind_key__ = "other"
        id: Mapped[int] = mapped_column(primary_key=True)

    app = new_app(db, History(db), SQLALCHEMY_BINDS={"other": other_url})
    with app.app_context():
        db.create_all()
        db.session.add(Order(id=1))
        db.session.commit()
    yield app
    with app.app_context():
        db.engines["other"].dispose()


def test_a_database_in_which_a_command_has_nothing_to_do_is_left_out(
    two_kept: flask.Flask, db: SQLAlchemy, tmp_path: Path
) -> None:
    def invoke(*args: str) -> tuple[int, str]:
        result = two_kept.test_cli_runner().invoke(args=["history", *args])
        return result.exit_code, result.output

    digest = str(tmp_path / "digest.json")
    status, told = invoke("seal", "--to", digest)
    assert (status, told.startswith("pghistory_seal: seal 1, root ")) == (0, True)
    assert invoke("verify", "--digest", digest)[0] == 0
    assert invoke("archive", "--to", str(tmp_path / "archive")) == (
        0,
        "public.orders_event\n  nothing to do\n"
        "public.pghistory_context\n  nothing to do\n",
    )
    with two_kept.app_context():
        db.session.execute(text("ALTER TABLE orders_event DISABLE TRIGGER USER"))
        db.session.execute(text("UPDATE orders_event SET id = 2"))
        db.session.commit()
    status, told = invoke("verify")
    assert (status, told.startswith("changed ")) == (1, True)


def test_commands_refuse_if_no_database_has_what_they_are_for(
    two: flask.Flask, tmp_path: Path
) -> None:
    for options in ([], ["--to", str(tmp_path / "digest.json")]):
        result = two.test_cli_runner().invoke(args=["history", "seal", *options])
        assert result.exit_code == 2
        for name in ("db.Model", "db.Model of the bind 'other'"):
            refused = f"flask history: {name}: no model asks for seals; give track("
            assert refused in result.stderr


def test_what_was_found_counts_more_than_what_could_not_be_done(
    db: SQLAlchemy, note: Any, new_app: Callable[..., flask.Flask], other_url: URL
) -> None:
    nowhere: Any = "postgresql+psycopg://localhost:1/nowhere"
    binds = {"here": other_url, "nowhere": nowhere}
    for bind in binds:
        track(Snapshot)(visit_of(db, bind))
    app = new_app(db, History(db), SQLALCHEMY_BINDS=binds)
    with app.app_context():
        db.create_all([None])
    result = app.test_cli_runner().invoke(args=["history", "check"])
    assert result.exit_code == 1
    assert "-- db.Model\nall is as the models say\n" in result.stdout
    assert "missing trigger visit_here_event_insert" in result.stdout
    told = "flask history: db.Model of the bind 'nowhere': the database cannot be reac"
    assert result.stderr.startswith(told)


@pytest.mark.parametrize(
    ("stopped", "status", "told"),
    [
        (KeyboardInterrupt(), 2, "flask history: interrupted\n"),
        (BrokenPipeError(errno.EPIPE, "broken"), 1, ""),
    ],
    ids=["interrupted", "not_read"],
)
def test_what_reads_no_further_ends_the_command_of_all_databases(
    two: flask.Flask,
    monkeypatch: pytest.MonkeyPatch,
    stopped: BaseException,
    status: int,
    told: str,
) -> None:
    ran = []

    def stop(*_: Any) -> Any:
        ran.append(1)
        raise stopped

    monkeypatch.setattr("sa_history.install.api.check", stop)
    result = two.test_cli_runner().invoke(args=["history", "check"])
    assert (result.exit_code, result.stderr) == (status, told)
    assert ran == [1]


def test_a_file_is_not_written_for_several_databases(
    db: SQLAlchemy, new_app: Callable[..., flask.Flask], tmp_path: Path
) -> None:
    """The second database would take the place of the first."""
    for bind in ("one", "other"):
        track(Snapshot, sealed=True, partition_by="month")(visit_of(db, bind))
    nowhere = "postgresql+psycopg://localhost:1/nowhere"
    binds = {"one": nowhere, "other": nowhere}
    app = new_app(db, History(db), SQLALCHEMY_BINDS=binds)
    path = str(tmp_path / "x")
    for arguments in (
        ["seal", "--to", path],
        ["verify", "--digest", path],
        ["verify", "--archive", path],
        ["archive", "--to", path],
    ):
        command, option, _ = arguments
        result = app.test_cli_runner().invoke(args=["history", *arguments])
        assert (result.exit_code, result.stderr) == (
            2,
            f"flask history: {option} is for one database, and {command} would be done "
            "in 2 of them: db.Model of the bind 'one', db.Model of the bind 'other'; "
            f"call sa_history.{command}(engine, models, ...) for each\n",
        )


def test_events_are_told_of_all_databases_and_of_that_of_a_model(
    two: flask.Flask, db: SQLAlchemy, note: Any
) -> None:
    with two.app_context():
        db.session.add(note(id=1, body="a"))
        db.session.execute(text("SELECT 1"))
        db.session.commit()

    def invoke(*args: str) -> Result:
        return two.test_cli_runner().invoke(args=["history", *args])

    result = invoke("log")
    assert result.stdout.count("event ") == 1
    other = "db.Model of the bind 'other': no event was found\n"
    assert result.stderr == other
    assert invoke("log", "Visit").stderr == other
    assert invoke("log", "Note").stderr == ""


def test_models_that_track_nothing_are_refused(
    app: flask.Flask, pg_url: URL, pg_engine: Engine, note: Any
) -> None:
    """Most likely nobody has imported them, and all would seem to be well."""

    class Nothing(DeclarativeBase):
        pass

    empty, lone = SQLAlchemy(), MetaData()
    makers = sessionmaker(pg_engine)
    for extension, target, shows in [
        (History(empty), "db.Model", True),
        (History(makers, models=[note, lone]), "MetaData()", False),
        (History(makers, models=[lone]), "MetaData()", True),
        (History(makers, models=Nothing), "Nothing", True),
    ]:
        other = flask.Flask("shop", root_path="/")
        other.config["SQLALCHEMY_DATABASE_URI"] = pg_url
        if target == "db.Model":
            empty.init_app(other)
        extension.init_app(other)
        for command in ("check", "ls", "install", "uninstall", "ddl", "baseline"):
            result = other.test_cli_runner().invoke(args=["history", command])
            assert (result.exit_code, result.stderr) == (
                2,
                f"flask history: {target} tracks nothing; import its models, or name "
                "a module that imports them\n",
            )
            shown = "orphaned trigger note_event_insert on public.note: import"
            assert (shown in result.stdout) == (shows and command in ("check", "ls"))
        if target == "db.Model":
            with other.app_context():
                empty.engine.dispose()


def test_several_models_that_track_nothing_are_named_and_looked_for_once(
    app: flask.Flask, pg_engine: Engine
) -> None:
    class Nothing(DeclarativeBase):
        pass

    other = flask.Flask("shop", root_path="/")
    History(sessionmaker(pg_engine), models=[MetaData(), Nothing]).init_app(other)
    result = other.test_cli_runner().invoke(args=["history", "check"])
    assert result.exit_code == 2
    assert result.stderr == (
        "flask history: MetaData(), Nothing track nothing; import their models, or "
        "name a module that imports them\n"
    )
    assert result.stdout.count("orphaned trigger note_event_insert ") == 1


def test_a_configured_database_need_not_track_anything(
    db: SQLAlchemy,
    note: Any,
    new_app: Callable[..., flask.Flask],
    pg_engine: Engine,
    pg_server: Any,
) -> None:
    name = f"{pg_server.url.database}_plain"
    url: URL = pg_server.create_database(name)
    app = new_app(db, History(db), SQLALCHEMY_BINDS={"plain": url})
    try:
        with app.app_context():
            db.create_all()
            plain = db.engines["plain"]

        def invoke(*args: str) -> Result:
            return app.test_cli_runner().invoke(args=["history", *args])

        assert invoke("check").output == "all is as the models say\n"
        # But the history of models that nobody has imported is found.
        lost = MetaData()
        track(Snapshot)(Table("visit", lost, Column("id", Integer, primary_key=True)))
        lost.create_all(plain)
        result = invoke("check")
        assert result.exit_code == 2
        assert "orphaned trigger visit_event_insert on public.visit" in result.stdout
        assert result.stderr.startswith(
            "flask history: db.Model of the bind 'plain' tracks nothing; import its "
        )
        # Another application may have a history there.
        for arguments in (["check", "--allow", "orphaned"], ["ls"]):
            result = invoke(*arguments)
            assert result.exit_code == 0
            assert "orphaned trigger visit_event_insert" in result.stdout
        assert invoke("install").exit_code == 0
        assert "CREATE TABLE note (" in invoke("ddl").stdout
    finally:
        with app.app_context():
            db.engines["plain"].dispose()
        pg_server.drop_database(name)


def test_models_of_a_database_that_is_not_configured(
    two: flask.Flask, db: SQLAlchemy, new_app: Callable[..., flask.Flask]
) -> None:
    app = new_app(db, History(db))
    result = app.test_cli_runner().invoke(args=["history", "check"])
    assert result.exit_code == 2
    assert result.stderr == (
        "flask history: models are bound to 'other', which is no database of <Flask "
        "'shop'>; add it to SQLALCHEMY_BINDS\n"
    )


@pytest.mark.usefixtures("english")
def test_an_error_of_the_database_is_told_without_a_traceback(
    invoke: Invoke, pg_engine: Engine
) -> None:
    with pg_engine.begin() as connection:
        connection.execute(text("DROP TABLE note_event"))
    result = invoke("baseline")
    assert result.exit_code == 2
    assert result.stderr == (
        'flask history: relation "note_event" does not exist; run the migrations, or '
        "create_all()\n"
    )


def test_an_unforeseen_error_is_not_taken_for_drift(db: SQLAlchemy, note: Any) -> None:
    app = flask.Flask("shop", root_path="/")
    History(db).init_app(app)  # and db.init_app is forgotten
    result = app.test_cli_runner().invoke(args=["history", "check"])
    assert result.exit_code == 2
    assert result.stderr.startswith("Traceback (most recent call last):\n")
    assert "RuntimeError: The current Flask app is not registered" in result.stderr


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: History(sessionmaker()), "give History(..., models=Base)"),
        (lambda: History(sessionmaker(), models=[]), "give History(..., models=Base)"),
        (lambda: History(models=MetaData()), "takes Flask-SQLAlchemy's"),
        (lambda: History(), "was given no database"),
        (lambda: History(object(), models=MetaData()), "takes Flask-SQLAlchemy's"),
        (
            lambda: History(sessionmaker(), models=MetaData()),
            "is not bound to a single Engine",
        ),
        (lambda: History(sessionmaker(), models=5), "5 is no declarative base"),
    ],
    ids=[
        "no models",
        "empty models",
        "no db",
        "nothing",
        "odd db",
        "no engine",
        "odd models",
    ],
)
def test_a_wrong_configuration_is_not_taken_for_drift(
    make: Callable[[], History], message: str
) -> None:
    app = flask.Flask("shop", root_path="/")
    make().init_app(app)
    result = app.test_cli_runner().invoke(args=["history", "check"])
    assert result.exit_code == 2
    assert result.stderr.startswith("flask history: ")
    assert message in result.stderr


def test_a_database_that_cannot_be_reached(
    db: SQLAlchemy, note: Any, new_app: Callable[..., flask.Flask]
) -> None:
    nowhere = "postgresql+psycopg://localhost:1/nowhere"
    app = new_app(db, History(db), SQLALCHEMY_DATABASE_URI=nowhere)
    result = app.test_cli_runner().invoke(args=["history", "check"])
    assert result.exit_code == 2
    assert result.stderr.startswith("flask history: the database cannot be reached: ")
