"""PgBouncer in transaction mode, from 1.21 on: it knows prepared statements."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import URL

from companions.poolers import walk_through
from tests.attribution.test_savepoints import DRIVERS
from tests.pgbouncer import PgBouncer


@pytest.fixture
def pooled_url(pg_url: URL, monkeypatch: pytest.MonkeyPatch) -> Iterator[URL]:
    folder = os.environ["PGBOUNCER_BINDIR"]
    monkeypatch.setenv("PATH", folder, prepend=os.pathsep)
    with PgBouncer(pg_url, servers=1) as pooler:
        yield pooler.url


@pytest.mark.parametrize("name", DRIVERS)
def test_savepoints_and_errors_change_nothing_in_who_has_written_what(
    name: str, pooled_url: URL, pg_url: URL, entry: Any
) -> None:
    walk_through(pooled_url, name, DRIVERS[name], pg_url, entry)


def test_documentation(
    documentation: Callable[[], None],
    pooled_url: URL,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = pooled_url.render_as_string(hide_password=False)
    monkeypatch.setenv("PGBOUNCER_URL", url)
    documentation()
