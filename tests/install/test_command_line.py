"""``sa-history`` and ``python -m sa_history``."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import pytest
from sqlalchemy import URL, Engine, MetaData, text

from sa_history.cli import main
from sa_history.testing.binaries import find_bindir

MODELS = """
from sqlalchemy import CheckConstraint, Column, Integer, MetaData, Table, Text, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sa_history import AfterUpdate, Delete, Protect, Snapshot, attach, new, track, view
from sa_history.triggers.custom import Trigger
from sa_history.definition.operations import Update


class Base(DeclarativeBase):
    pass


@track(Snapshot, AfterUpdate(new.name.like("50% :off\\\\n'x'"), label="100%"))
@attach(Protect(Delete), Trigger("late", "after", Update, deferrable="deferred",
    body="RAISE NOTICE '%', ':x'; RETURN NULL;"))
class Account(Base):
    __tablename__ = "account"
    __table_args__ = (CheckConstraint("name <> '5%' AND '1:00'::time > '0:00'"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(server_default="100% 'free' :x", comment="5%")


short = view("short", Base.metadata, select(Account.id).where(Account.name != "5%"))

metadata = MetaData()
odd = track(Snapshot, append_only=True)(Table(
    'O\\'dd "Täble" 100% :x',
    metadata,
    Column('I"d %s', Integer, primary_key=True),
    Column("Größe %(x)s", Text),
    comment="a 5% : comment",
))

tenant = MetaData()
track(Snapshot, context_columns=[Column("tenant", Integer, nullable=False)])(
    Table("visit", tenant, Column("id", Integer, primary_key=True))
)

sealed = MetaData()
track(Snapshot, ignorable=False)(
    Table("seal", sealed, Column("id", Integer, primary_key=True))
)

empty = MetaData()
Table("plain", empty, Column("id", Integer, primary_key=True))


class Unused(DeclarativeBase):
    pass


only_protected = MetaData()
attach(Protect(Delete))(
    Table("vault", only_protected, Column("id", Integer, primary_key=True))
)

nothing = 5
"""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with models, in which the commands run."""
    (tmp_path / "shop.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    return tmp_path


@pytest.fixture
def pg_engine(
    pg_engine: Engine, pg_url: URL, monkeypatch: pytest.MonkeyPatch
) -> Engine:
    """The test's own database, which the environment names."""
    monkeypatch.setenv("DATABASE_URL", pg_url.render_as_string(hide_password=False))
    return pg_engine


def metadata_of(name: str) -> MetaData:
    import shop

    found = getattr(shop, name)
    return found if isinstance(found, MetaData) else found.metadata


def create(name: str, engine: Engine) -> None:
    metadata_of(name).create_all(engine)


Run = Callable[..., None]
Capture = pytest.CaptureFixture[str]


def test_drift_is_told_with_the_command_that_mends_it(
    pg_engine: Engine, run: Run, capsys: Capture
) -> None:
    create("Base", pg_engine)

    assert main(["check", "shop:Base"]) == 0
    assert capsys.readouterr().out == "all is as the models say\n"

    run(
        "DROP TRIGGER account_event_insert ON account",
        "CREATE TRIGGER again AFTER INSERT ON account FOR EACH ROW"
        " EXECUTE FUNCTION account_protect_delete()",
        "COMMENT ON TRIGGER again ON account IS 'sa_history:'",
    )
    assert main(["check", "shop:Base"]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told == [
        "missing trigger account_event_insert on public.account: "
        "run sa-history install shop:Base",
        "duplicated trigger again on public.account: "
        "run sa-history install --prune shop:Base",
    ]
    assert main(["check", "shop:Base", "--allow", "missing"]) == 1
    allowed = ["--allow", "missing", "--allow", "duplicated"]
    assert main(["check", "shop:Base", *allowed]) == 0
    capsys.readouterr()

    for finding in told:
        assert main(finding.rpartition("run sa-history ")[2].split()) == 0
    assert capsys.readouterr().out.splitlines() == [
        "create trigger account_event_insert on public.account",
        "drop trigger again on public.account",
    ]
    assert main(["check", "shop:Base"]) == 0
    assert main(["install", "shop:Base"]) == 0
    assert capsys.readouterr().out == "all is as the models say\nnothing to do\n"


def test_everything_is_listed_and_taken_away(
    pg_engine: Engine, capsys: Capture
) -> None:
    create("metadata", pg_engine)
    assert main(["ls", "shop:metadata"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in listed} == {"installed"}
    assert 'installed  function public.O\'dd "Täble" 100% :x_event_record' in listed

    assert main(["uninstall", "shop:metadata"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(listed) - 1
    assert main(["uninstall", "shop:metadata"]) == 0
    assert capsys.readouterr().out == "nothing to do\n"
    assert main(["ls", "shop:metadata"]) == 0
    states = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert [kind for state, kind in states if state == "installed"] == ["sequence"]


def test_several_models_are_separated_by_commas(
    pg_engine: Engine, capsys: Capture
) -> None:
    create("Base", pg_engine)
    create("metadata", pg_engine)
    # What belongs to the other models is not told from what nobody needs.
    assert main(["check", "shop:metadata"]) == 1
    assert main(["check", "shop:Base,shop:metadata"]) == 0


COMMANDS = {
    "check": [],
    "ls": [],
    "install": ["--prune"],
    "uninstall": [],
    "ddl": [],
    "baseline": [],
    "harden": ["--app-role", "app"],
    "log": [],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("target", ["shop:empty", "shop:Unused"])
def test_models_that_track_nothing_are_refused(
    command: str, target: str, pg_engine: Engine, run: Run, capsys: Capture
) -> None:
    """Most likely nobody has imported them, and all would seem to be well."""
    create("metadata", pg_engine)
    create("empty", pg_engine)
    refused = f"{target} tracks nothing; import its models, or name a module that "
    refused += "imports them"
    if command == "install":
        refused += "; if all are imported and nothing is tracked any more, give "
        refused += "--tracks-nothing"
    for models in (target, f"shop:metadata,{target}"):
        assert main([command, models, *COMMANDS[command]]) == 2
        told = capsys.readouterr()
        assert told.err == f"sa-history: {refused}\n"
        if models != target or command not in ("check", "ls"):
            assert told.out == ""
            continue
        advice = ": import the models that have it"
        lines = told.out.splitlines()
        assert all(x.startswith("orphaned ") and x.endswith(advice) for x in lines)
        assert f"orphaned sequence public.pghistory_id_seq{advice}" in lines
        function = 'public.O\'dd "Täble" 100% :x_event_record'
        assert f"orphaned function {function}{advice}" in lines
        assert sum(line.startswith("orphaned trigger ") for line in lines) == 3
    assert main(["check", "shop:metadata"]) == 0


def test_several_models_that_track_nothing_are_all_named(
    pg_engine: Engine, capsys: Capture
) -> None:
    assert main(["install", "shop:empty,shop:metadata,shop:Unused"]) == 2
    assert capsys.readouterr().err == (
        "sa-history: shop:empty, shop:Unused track nothing; import their models, or "
        "name a module that imports them\n"
    )


def test_models_with_triggers_alone_need_no_history(
    pg_engine: Engine, capsys: Capture
) -> None:
    create("only_protected", pg_engine)
    assert main(["check", "shop:only_protected"]) == 0
    assert capsys.readouterr().out == "all is as the models say\n"


def psql(url: URL, sql: str) -> None:
    subprocess.run(
        [
            find_bindir() / "psql",
            "--no-psqlrc",
            "--quiet",
            "--single-transaction",
            "--set=ON_ERROR_STOP=1",
            url.set(drivername="postgresql").render_as_string(hide_password=False),
        ],
        input=sql,
        text=True,
        capture_output=True,
        check=True,
    )


@pytest.mark.parametrize("name", ["Base", "metadata"])
def test_ddl_is_what_create_all_runs(
    name: str,
    pg_engine: Engine,
    pg_url: URL,
    capsys: Capture,
    run: Run,
    dump: Callable[[URL], str],
) -> None:
    create(name, pg_engine)
    expected = dump(pg_url)
    assert main(["uninstall", f"shop:{name}"]) == 0
    run("DROP VIEW IF EXISTS short")
    assert dump(pg_url) != expected
    capsys.readouterr()

    assert main(["ddl", f"shop:{name}", "--without-tables"]) == 0
    psql(pg_url, capsys.readouterr().out)
    assert dump(pg_url) == expected

    metadata_of(name).drop_all(pg_engine)
    assert main(["ddl", f"shop:{name}"]) == 0
    printed = capsys.readouterr().out
    psql(pg_url, printed)
    assert dump(pg_url) == expected
    indexes = re.findall(r"^CREATE INDEX (\S+) ON (\S+)", printed, re.MULTILINE)
    assert len(indexes) > len({table for _, table in indexes})
    for _, of_table in groupby(indexes, key=itemgetter(1)):
        names = [index for index, _ in of_table]
        assert names == sorted(names), "the same in each run"


def test_ddl_needs_no_database(capsys: Capture) -> None:
    assert main(["ddl", "shop:Base", "--without-tables"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(
        'CREATE SEQUENCE IF NOT EXISTS "public"."pghistory_id_seq"'
    )
    assert "CREATE TABLE" not in printed


def test_baseline_tells_how_far_it_is(
    pg_engine: Engine, run: Run, capsys: Capture
) -> None:
    create("Base", pg_engine)
    create("metadata", pg_engine)
    rows = "SELECT n FROM generate_series(1, 5) AS n"
    run(
        "ALTER TABLE account DISABLE TRIGGER USER",
        f"INSERT INTO account (id) {rows}",
        "ALTER TABLE account ENABLE TRIGGER USER",
    )

    assert main(["baseline", "shop:Base,shop:metadata", "account", "--batch", "2"]) == 0
    told = capsys.readouterr()
    assert told.out == "account_event: 5 first events\n"
    assert told.err == ""
    assert main(["baseline", "shop:Base,shop:metadata"]) == 0
    assert capsys.readouterr().out == (
        'account_event: 0 first events\nO\'dd "Täble" 100% :x_event: 0 first events\n'
    )


def test_a_baseline_that_is_refused_names_the_table_and_shows_no_sql(
    pg_engine: Engine, run: Run, capsys: Capture
) -> None:
    assert main(["baseline", "shop:Base", "acount"]) == 2
    assert capsys.readouterr().err == (
        "sa-history: there is no tracked table acount; there is account\n"
    )
    create("tenant", pg_engine)
    run(
        "ALTER TABLE visit DISABLE TRIGGER USER",
        "INSERT INTO visit VALUES (1)",
        "ALTER TABLE visit ENABLE TRIGGER USER",
    )
    assert main(["baseline", "shop:tenant"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("sa-history: ")
    assert "tenant" in told
    assert "Traceback" not in told
    assert "[SQL" not in told


WRONG_MODELS = {
    "shop": "'shop' names no models; write module:Base or module:metadata",
    ":Base": "':Base' names no models; write module:Base or module:metadata",
    ".shop:Base": "'.shop:Base' cannot be imported: TypeError: the 'package' argument",
    "shopp:Base": "'shopp:Base' cannot be imported: ModuleNotFoundError: No module "
    "named 'shopp'",
    "shop:Bass": "'shop:Bass' cannot be imported: AttributeError: module 'shop' has no "
    "attribute 'Bass'",
    "shop:nothing": "'shop:nothing' is 5, which is no declarative base and no MetaData",
    "shop:Base,": "'' names no models; write module:Base or module:metadata",
    "raising:Base": "'raising:Base' cannot be imported: ZeroDivisionError: division by "
    "zero (",
    "broken:Base": "'broken:Base' cannot be imported: SyntaxError: '(' was never",
}


@pytest.mark.parametrize("models", WRONG_MODELS)
def test_models_that_cannot_be_loaded_are_an_error_in_one_line(
    models: str, directory: Path, capsys: Capture
) -> None:
    (directory / "raising.py").write_text("import shop\n1 / 0\n")
    (directory / "broken.py").write_text("x = (\n")

    assert main(["check", models, "--url", "postgresql://"]) == 2

    told = capsys.readouterr()
    assert told.err.startswith(f"sa-history: {WRONG_MODELS[models]}")
    assert told.out == ""
    assert len(told.err.splitlines()) == 1


WRONG_URLS = {
    "": "no database; give --url, or set DATABASE_URL",
    "nonsense": "the URL of the database cannot be used: Could not parse",
    "mydb://x/y": "the URL of the database cannot be used: Can't load plugin",
    "sqlite://": "needs PostgreSQL, got an engine for sqlite; use a postgresql:// URL",
    "postgresql://nobody@/x?host=/nowhere": "the database cannot be reached: ",
}


@pytest.mark.parametrize("url", WRONG_URLS)
def test_a_url_that_leads_to_no_postgresql_is_an_error_in_one_line(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    for command in ("check", "install", "baseline"):
        assert main([command, "shop:Base"]) == 2
        told = capsys.readouterr()
        assert told.err.startswith("sa-history: ")
        assert WRONG_URLS[url] in told.err
        assert "Traceback" not in told.err
        assert told.out == ""


@pytest.mark.parametrize("driver", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_any_url_of_the_application_will_do(
    driver: str, pg_engine: Engine, pg_url: URL
) -> None:
    create("Base", pg_engine)
    url = pg_url.render_as_string(hide_password=False)
    url = url.replace("postgresql+psycopg", driver)
    assert main(["check", "shop:Base", "--url", url]) == 0


def test_options_of_asyncpg_are_those_of_libpq_or_none(
    pg_engine: Engine, pg_url: URL, capsys: Capture
) -> None:
    create("Base", pg_engine)
    url = pg_url.set(drivername="postgresql+asyncpg").update_query_dict(
        {
            "ssl": "prefer",
            "prepared_statement_cache_size": "0",
            "command_timeout": "60",
        }
    )
    text = url.render_as_string(hide_password=False)
    assert main(["check", "shop:Base", "--url", text]) == 0
    # What ssl says is heeded, and so is what libpq knows nothing of.
    wrong = text.replace("ssl=prefer", "ssl=perhaps")
    assert main(["check", "shop:Base", "--url", wrong]) == 2
    assert "sslmode" in capsys.readouterr().err
    libpq = text.replace("+asyncpg", "")
    assert main(["check", "shop:Base", "--url", libpq]) == 2
    assert "invalid connection option" in capsys.readouterr().err


def test_a_command_about_all_models_says_how_one_table_is_named(
    pg_url: URL, capsys: Capture
) -> None:
    url = ["--url", pg_url.render_as_string(hide_password=False)]
    assert main(["baseline", "shop:Account", *url]) == 2
    assert "app.models:Base, and then the name of a table" in capsys.readouterr().err
    assert main(["check", "shop:Account", *url]) == 2
    assert "name of a table" not in capsys.readouterr().err


def test_a_role_is_hardened_and_a_dry_run_only_prints_it(
    pg_engine: Engine, pg_url: URL, run: Run, capsys: Capture
) -> None:
    create("sealed", pg_engine)
    role = f'app "x" % {pg_url.database}'
    quoted = '"' + role.replace('"', '""') + '"'
    run(f"CREATE ROLE {quoted}")

    def may_read() -> bool:
        query = text("SELECT has_table_privilege(:role, 'seal_event', 'SELECT')")
        with pg_engine.connect() as connection:
            return bool(connection.scalar(query, {"role": role}))

    try:
        command = ["harden", "shop:sealed", "--app-role", role]
        assert main([*command, "--dry-run"]) == 0
        printed = capsys.readouterr().out
        assert not may_read()
        assert main(command) == 0
        assert capsys.readouterr().out == printed
        assert may_read()
        run(f"DROP OWNED BY {quoted}")
        psql(pg_url, printed)
        assert may_read()
        run(f"GRANT pg_write_all_data TO {quoted}")
        assert main(command) == 2
        assert "DELETE on seal_event as pg_write_all_data" in capsys.readouterr().err
        assert main(["harden", "shop:Base", "--app-role", role]) == 2
        assert capsys.readouterr().err == (
            "sa-history: any client may have the tracking of account ignored; give "
            "track(..., ignorable=False), and migrate\n"
        )
    finally:
        run(f"DROP OWNED BY {quoted}", f"DROP ROLE {quoted}")


@pytest.mark.usefixtures("english")
def test_without_the_right_to_create_objects_nothing_is_installed(
    pg_engine: Engine, pg_url: URL, capsys: Capture
) -> None:
    create("Base", pg_engine)
    assert main(["uninstall", "shop:Base"]) == 0
    role = f"reader_{pg_url.database}"
    with pg_engine.begin() as connection:
        connection.execute(text(f"CREATE ROLE {role} LOGIN"))
    url = pg_url.set(username=role).render_as_string(hide_password=False)
    capsys.readouterr()
    try:
        assert main(["install", "shop:Base", "--url", url]) == 2
        assert capsys.readouterr().err == (
            "sa-history: nothing was changed: permission denied for schema public; do "
            "it as the role that owns the tables\n"
        )
        assert main(["check", "shop:Base", "--url", url]) == 1
        assert main(["install", "shop:Base"]) == 0
    finally:
        with pg_engine.begin() as connection:
            connection.execute(text(f"DROP ROLE {role}"))


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["mend", "shop:Base"],
        ["check"],
        ["check", "shop:Base", "--allow", "rain"],
        ["baseline", "shop:Base", "--batch", "0"],
        ["harden", "shop:Base"],
    ],
    ids=" ".join,
)
def test_arguments_that_a_command_does_not_take_print_its_usage(
    arguments: list[str], capsys: Capture
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("usage: sa-history")


def test_models_are_found_in_the_working_directory(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (directory / "elsewhere").mkdir()
    (directory / "elsewhere" / "warehouse.py").write_text("from shop import Base\n")
    monkeypatch.chdir("elsewhere")
    monkeypatch.delitem(sys.modules, "warehouse", raising=False)
    for _ in range(2):
        assert main(["ddl", "warehouse:Base"]) == 0
        assert "CREATE TABLE account (" in capsys.readouterr().out
    assert sys.path.count(os.getcwd()) == 1


def test_an_interruption_is_told_in_a_word(directory: Path, capsys: Capture) -> None:
    (directory / "slow.py").write_text("raise KeyboardInterrupt\n")
    assert main(["ddl", "slow:Base"]) == 2
    assert capsys.readouterr() == ("", "sa-history: interrupted\n")


def test_sigterm_leaves_no_statement_that_waits_for_a_lock(
    pg_engine: Engine, capsys: Capture
) -> None:
    create("Base", pg_engine)
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND wait_event_type = 'Lock'"
    )

    def send_once_it_waits() -> None:
        with pg_engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            while not connection.scalar(waiting):
                time.sleep(0.01)
        if signal.getsignal(signal.SIGTERM) == signal.default_int_handler:
            os.kill(os.getpid(), signal.SIGTERM)  # or else it would end the tests

    # Of the command alone, should it not be interrupted.
    url = pg_engine.url.update_query_dict({"options": "-c lock_timeout=10s"})
    with pg_engine.connect() as connection:
        connection.execute(text("LOCK TABLE account IN ACCESS EXCLUSIVE MODE"))
        sender = threading.Thread(target=send_once_it_waits)
        sender.start()
        command = ["uninstall", "shop:Base", "--url", url.render_as_string(False)]
        assert main(command) == 2
        sender.join()
        assert connection.scalar(waiting) == 0
    assert capsys.readouterr() == ("", "sa-history: interrupted\n")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_an_unforeseen_error_is_not_taken_for_drift(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    assert main(["ddl", "shop:metadata"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("Traceback (most recent call last):\n")
    assert told.splitlines()[-1].startswith("UnicodeEncodeError: 'ascii' codec can't")


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start the program, in a process of its own, whose output is buffered."""
    path = os.pathsep.join(filter(None, sys.path))
    return subprocess.Popen(
        [sys.executable, "-m", "sa_history", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": ""},
    )


def test_it_runs_as_a_module(pg_engine: Engine) -> None:
    create("Base", pg_engine)
    with start("check", "shop:Base") as program:
        assert program.communicate() == ("all is as the models say\n", "")
    assert program.returncode == 0


def test_nothing_is_said_to_who_has_stopped_reading() -> None:
    # What is printed fits into the buffer, which Python would write at its exit.
    with start("ddl", "shop:sealed") as program:
        assert program.stdout is not None
        assert program.stderr is not None
        program.stdout.close()
        assert program.stderr.read() == ""
    assert program.returncode == 2


def test_without_libpq_the_driver_that_is_missing_is_named(
    pg_engine: Engine, pg_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    create("Base", pg_engine)
    monkeypatch.setenv("PSYCOPG_IMPL", "none")  # psycopg cannot be imported
    with start("check", "shop:Base") as program:
        assert program.communicate() == (
            "",
            "sa-history: the driver of the database cannot be imported: requested "
            "psycopg implementation 'none' unknown; install it, such as "
            "psycopg[binary]\n",
        )
    assert program.returncode == 2
    # Other drivers, and commands without a database, need none.
    url = pg_url.set(drivername="postgresql+psycopg2")
    text_ = url.render_as_string(hide_password=False)
    for arguments in (["check", "shop:Base", "--url", text_], ["ddl", "shop:Base"]):
        with start(*arguments) as program:
            printed, errors = program.communicate()
        assert errors == ""
        assert program.returncode == 0
        assert printed


def test_without_libpq_other_drivers_send_contexts(
    pg_engine: Engine, pg_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    create("Base", pg_engine)
    url = pg_url.set(drivername="postgresql+psycopg2")
    code = f"""
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session
from shop import Account
import sa_history
with Session(create_engine({url.render_as_string(hide_password=False)!r})) as session:
    with sa_history.context(session, user=7):
        session.add(Account(id=1, name="a"))
        session.commit()
    print(session.scalars(Account.events.select()).one().pgh_context)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "PSYCOPG_IMPL": "none",
            "PYTHONPATH": os.pathsep.join([os.getcwd(), *filter(None, sys.path)]),
        },
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("<Context {'user': 7}>\n", "")
