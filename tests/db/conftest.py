"""psql, and what the table of contexts holds."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

import pytest
from sqlalchemy import URL, Engine

from sa_history.testing.binaries import find_bindir
from sa_history.testing.errors import EmbeddedPostgresError


def _find_psql() -> str:
    try:
        program = find_bindir() / "psql"
    except EmbeddedPostgresError:  # DATABASE_URL names a server elsewhere
        return shutil.which("psql") or "psql"
    return str(program) if program.exists() else "psql"


@pytest.fixture
def psql(pg_url: URL) -> Callable[[str], str]:
    """Run a script with psql on the test's database, and return what it prints."""
    url = pg_url.set(drivername="postgresql").render_as_string(hide_password=False)

    def run(script: str) -> str:
        result = subprocess.run(
            [_find_psql(), "-XqAt", "-v", "ON_ERROR_STOP=1", url],
            input=script,
            capture_output=True,
            encoding="utf-8",
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


@pytest.fixture
def contexts(pg_engine: Engine) -> Callable[[], list[object]]:
    """Return the metadata of the context rows that are committed."""

    def read() -> list[object]:
        with pg_engine.connect() as connection:
            rows = connection.exec_driver_sql(
                "SELECT metadata FROM pghistory_context ORDER BY created_at"
            )
            return list(rows.scalars())

    return read
