from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sa_history.testing import EmbeddedPostgres, PgServer


@pytest.fixture(scope="session")
def pg_server() -> Iterator[PgServer]:
    settings = {
        "shared_preload_libraries": "timescaledb",
        # Its workers look into each new database, of which copies are made then.
        "timescaledb.max_background_workers": "0",
    }
    bindir = Path(os.environ["TIMESCALEDB_BINDIR"])
    with EmbeddedPostgres(bindir=bindir, **settings) as server:
        yield PgServer.from_url(server.url(), embedded=True)


def test_documentation(documentation: Callable[[], None]) -> None:
    documentation()
