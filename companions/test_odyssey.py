"""Odyssey in transaction mode, with prepared statements."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import URL, NullPool, create_engine

from companions.odyssey import odyssey
from tests.attribution.test_savepoints import DRIVERS, compare_walk


@pytest.fixture
def pooled_url(pg_url: URL) -> Iterator[URL]:
    with odyssey(pg_url) as url:
        yield url


@pytest.mark.parametrize("name", DRIVERS)
def test_savepoints_and_errors_change_nothing_in_who_has_written_what(
    name: str, pooled_url: URL, pg_url: URL, entry: Any
) -> None:
    engine = create_engine(pg_url, poolclass=NullPool)
    walk = compare_walk(DRIVERS[name], pooled_url, engine, entry)
    print(f"{name}: {len(walk.steps)} steps, {len(walk.kept)} writes committed")


def test_documentation(
    documentation: Callable[[], None],
    pooled_url: URL,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = pooled_url.render_as_string(hide_password=False)
    monkeypatch.setenv("ODYSSEY_URL", url)
    documentation()
