"""Start a throw-away PostgreSQL server that leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

from sqlalchemy import URL

from sa_history.testing.account import Account, choose_account
from sa_history.testing.binaries import check_bindir, find_bindir, make_reachable
from sa_history.testing.errors import EmbeddedPostgresError
from sa_history.testing.guard import Guard

# Fast and careless: the data need not survive a crash of the machine.
THROW_AWAY = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "listen_addresses": "",
    "port": "5432",
    "max_connections": "100",
    "max_prepared_transactions": "10",
    "max_wal_size": "512MB",
    "shared_buffers": "64MB",
    "jit": "off",
    "timezone": "UTC",
    "log_min_messages": "warning",
}

# A socket's path must fit into sockaddr_un: 108 bytes on Linux, 104 on macOS.
_LONGEST_SOCKET = 100
_STOP_TIMEOUT = 20.0


class EmbeddedPostgres:
    """A PostgreSQL server of our own, for tests and demonstrations.

    >>> with EmbeddedPostgres(wal_level="logical") as server:
    ...     engine = sqlalchemy.create_engine(server.url())

    It works as root, which PostgreSQL itself does not, and as an ordinary user.
    It listens on a Unix socket in a directory only its account may enter, and on no
    TCP port. When our process ends in whatever way, the server stops and its
    directory goes away. Never keep data in it that matters: it does not sync.

    POSIX only.

    :param bindir: where ``initdb`` and ``postgres`` are; by default they are looked
        for, see :func:`~sa_history.testing.binaries.find_bindir`.
    :param timeout: the seconds that creating and starting the server may take.
    :param settings: server settings, as in ``postgresql.conf``.
    """

    def __init__(
        self,
        *,
        bindir: str | Path | None = None,
        timeout: float = 60.0,
        **settings: str | int | bool,
    ) -> None:
        self._bindir = None if bindir is None else Path(bindir)
        self._timeout = timeout
        self._settings = THROW_AWAY | {k: _as_text(v) for k, v in settings.items()}
        self._cleanup = contextlib.ExitStack()
        self._directory: Path | None = None
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def directory(self) -> Path:
        """The server's private directory: socket, data and log."""
        if self._directory is None:
            raise EmbeddedPostgresError(
                "the server is not running; call start() or use it in a with statement"
            )
        return self._directory

    @property
    def pid(self) -> int:
        """The process id of the server."""
        if self._server is None:
            raise EmbeddedPostgresError(
                "the server is not running; call start() or use it in a with statement"
            )
        return self._server.pid

    def url(self, database: str = "postgres") -> str:
        """Return the SQLAlchemy URL of a database on the server.

        The scheme is ``postgresql+psycopg``, for ``create_engine()`` as well as for
        ``create_async_engine()``.
        """
        url = URL.create(
            "postgresql+psycopg",
            username="postgres",
            database=database,
            # With a port, or it would be that of PGPORT.
            query={"host": str(self.directory), "port": self._settings["port"]},
        )
        return url.render_as_string(hide_password=False)

    def start(self) -> EmbeddedPostgres:
        """Create a database cluster and start the server on it."""
        if self._directory is not None:
            raise EmbeddedPostgresError(
                f"the server in {str(self._directory)!r} is already running;"
                " use a second EmbeddedPostgres for a second server"
            )
        deadline = time.monotonic() + self._timeout
        account = choose_account()
        bindir = self._bindir and check_bindir(self._bindir, "bindir")
        bindir = bindir or find_bindir()
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(self._forget)
            self._directory, guard = _private_directory(account)
            # For the case that somebody has killed the guard.
            cleanup.callback(shutil.rmtree, self._directory, ignore_errors=True)
            cleanup.callback(guard.release)
            bindir = make_reachable(bindir, account, self._directory)
            self._initialise(bindir, account, guard, deadline)
            self._serve(bindir, account, guard, deadline, cleanup)
            self._cleanup = cleanup.pop_all()
        return self

    def stop(self) -> None:
        """Stop the server and remove its directory; nothing if it is not running."""
        self._cleanup.close()

    def __enter__(self) -> EmbeddedPostgres:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _forget(self) -> None:
        self._directory = self._server = None

    @property
    def _log(self) -> Path:
        return self.directory / "log"

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _initialise(
        self, bindir: Path, account: Account, guard: Guard, deadline: float
    ) -> None:
        process = guard.launch(
            account,
            bindir / "initdb",
            "--pgdata",
            self._data,
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
            log=self._log,
            environment=_environment(bindir),
        )
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            pass
        finally:
            _end(process, signal.SIGQUIT)
            guard.forget()
        if process.returncode != 0:
            raise self._failure(f"{str(bindir / 'initdb')!r} failed")

    def _serve(
        self,
        bindir: Path,
        account: Account,
        guard: Guard,
        deadline: float,
        cleanup: contextlib.ExitStack,
    ) -> None:
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        process = guard.launch(
            account,
            bindir / "postgres",
            "-D",
            self._data,
            "-k",
            self.directory,
            *options,
            log=self._log,
            environment=_environment(bindir),
        )
        # Unwound from the last: first the server ends, then the guard forgets it.
        cleanup.callback(guard.forget)
        cleanup.callback(_end, process, signal.SIGINT)
        self._server = process
        while not self._is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise self._failure(f"{str(bindir / 'postgres')!r} did not start")
            time.sleep(0.01)

    def _is_ready(self) -> bool:
        # The eighth line is the server's state; PostgreSQL's own pg_ctl reads it too.
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready"

    def _failure(self, what: str) -> EmbeddedPostgresError:
        log = self._log.read_text(errors="replace") if self._log.exists() else ""
        said = "\n".join(log.splitlines()[-20:]) or "(nothing)"
        return EmbeddedPostgresError(
            f"{what} within {self._timeout:g} s; check the settings given, or set"
            f" PG_BINDIR or DATABASE_URL to use another PostgreSQL; it said:\n{said}"
        )


def _private_directory(account: Account) -> tuple[Path, Guard]:
    """Make a guarded directory that only *account* may enter, with a short path."""
    tried = []
    # The second is for a TMPDIR that is long, or lies where the account cannot go.
    for parent in (tempfile.gettempdir(), "/tmp"):
        directory = Path(parent, f"sa-history-{secrets.token_hex(8)}")
        if len(os.fsencode(directory / ".s.PGSQL.5432")) <= _LONGEST_SOCKET:
            guard = Guard(directory)
            account.own(directory)
            if account.can_enter(directory):
                return directory, guard
            guard.release()
        tried.append(parent)
    raise EmbeddedPostgresError(
        f"account {account.name!r} can use none of the directories {tried!r} for a"
        " server; set TMPDIR to one with a short path that all users can enter"
    )


def _as_text(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def _environment(bindir: Path) -> dict[str, str]:
    # Nothing of the caller's PG* variables or locale may change the server.
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C",
        "TZ": "UTC",
    }
    libraries = bindir.parent / "lib"
    # Some relocated builds name a wrong path for libpq in their extensions.
    if sys.platform == "linux" and (libraries / "libpq.so.5").exists():
        environment["LD_LIBRARY_PATH"] = str(libraries)
    return environment


def _end(process: subprocess.Popen[bytes], sig: signal.Signals) -> None:
    """End *process*, politely first, and reap it."""
    for each in (sig, signal.SIGQUIT, signal.SIGKILL):
        if process.poll() is None:
            process.send_signal(each)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_TIMEOUT)
