"""A PgBouncer of our own before a server, in transaction mode."""

from __future__ import annotations

import contextlib
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from sqlalchemy import URL

from sa_history.testing.account import choose_account
from sa_history.testing.guard import Guard
from tests.programs import PGBOUNCER

_START_TIMEOUT = 20.0


class PgBouncerError(RuntimeError):
    """A PgBouncer could not be found or started."""


class PgBouncer:
    """Gives the clients of a database some few connections to the server.

    >>> with PgBouncer(server_url, servers=4) as pgbouncer:
    ...     engine = sqlalchemy.create_engine(
    ...         pgbouncer.url, connect_args=pgbouncer.connect_args
    ...     )

    Like PostgreSQL it refuses to run as root, and runs as the account that
    :class:`~sa_history.testing.EmbeddedPostgres` has. It listens on a Unix socket in a
    directory of its own, and ends with our process.

    :param server: the URL of the database.
    :param servers: how many connections to the server it has for each database and
        user.
    """

    connect_args = {"prepare_threshold": None}
    """What psycopg has to know: before 1.21, PgBouncer cannot do with prepared
    statements in transaction mode."""

    def __init__(self, server: URL, *, servers: int) -> None:
        self._server = server
        self._servers = servers
        self._cleanup = contextlib.ExitStack()
        self.directory = Path(
            tempfile.gettempdir(), f"pgbouncer-{secrets.token_hex(8)}"
        )
        # It knows us by no password; it has that of the server.
        self.url = server.set(
            host=None,
            port=None,
            password=None,
            query={"host": str(self.directory), "port": "5432"},
        )

    def __enter__(self) -> PgBouncer:
        account = choose_account()
        with contextlib.ExitStack() as cleanup:
            guard = Guard(self.directory)
            cleanup.callback(guard.release)
            account.own(self.directory)
            settings = self.directory / "pgbouncer.ini"
            settings.write_text(self._settings())
            account.own(settings)
            log = self.directory / "log"
            process = guard.launch(
                account, _find(), "-q", settings, log=log, environment={"LC_ALL": "C"}
            )
            cleanup.callback(guard.forget)
            cleanup.callback(_end, process)
            deadline = time.monotonic() + _START_TIMEOUT
            while not self._answers():
                if process.poll() is not None or time.monotonic() > deadline:
                    said = log.read_text() if log.exists() else "(nothing)"
                    raise PgBouncerError(f"PgBouncer has not started; it said:\n{said}")
                time.sleep(0.01)
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._cleanup.close()

    def _settings(self) -> str:
        query = self._server.query
        server = {
            "host": self._server.host or query.get("host") or "localhost",
            "port": self._server.port or query.get("port") or 5432,
            "user": self._server.username or "postgres",
            "password": self._server.password,
        }
        quoted = " ".join(
            f"{name}='{str(value).replace(chr(39), chr(39) * 2)}'"
            for name, value in server.items()
            if value is not None
        )
        lines = [
            "[databases]",
            f"* = {quoted}",
            "[pgbouncer]",
            "listen_port = 5432",
            f"unix_socket_dir = {self.directory}",
            "auth_type = any",
            "pool_mode = transaction",
            f"default_pool_size = {self._servers}",
            "max_client_conn = 200",
            # Else it waits for 15 s before it connects again to a server that was
            # not there.
            "server_login_retry = 1",
        ]
        return "\n".join(lines) + "\n"

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.directory / ".s.PGSQL.5432")) == 0


def _find() -> str:
    if found := PGBOUNCER.find():
        return found
    raise PgBouncerError(
        "there is no pgbouncer in PATH or /usr/sbin; install it, on Debian by"
        " 'apt-get install pgbouncer'"
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    for each in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            process.send_signal(each)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
