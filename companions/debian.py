"""PostgreSQL 15 of Debian, which has extensions that no wheel has."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import URL

from sa_history.testing import EmbeddedPostgres, PgServer

BINDIR = Path("/usr/lib/postgresql/15/bin")


@contextlib.contextmanager
def debian_server(**settings: str) -> Iterator[PgServer]:
    """Start a server of it.

    :param settings: the settings of the server.
    """
    with EmbeddedPostgres(bindir=BINDIR, **settings) as server:
        yield PgServer.from_url(server.url(), embedded=True)


def run(program: str, url: URL, *arguments: str) -> str:
    """Run one of its programs on a database, and return what it prints."""
    command = [str(BINDIR / program), "-h", str(url.query["host"]), "-U", "postgres"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr
