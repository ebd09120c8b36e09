"""PgBouncer in transaction mode, before 1.21: without prepared statements."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import URL, NullPool, create_engine
from sqlalchemy.orm import Session

from companions.poolers import walk_through
from tests.attribution.test_savepoints import DRIVERS, Driver
from tests.pgbouncer import PgBouncer


class Unprepared(Driver):
    """Prepares nothing, as the pooler has no prepared statements."""

    def run(self, url: URL, function: Callable[[Session], None]) -> None:
        connect_args = PgBouncer.connect_args if self.name == "psycopg" else {}
        drivername = f"postgresql+{self.name}"
        engine = create_engine(
            url.set(drivername=drivername),
            poolclass=NullPool,
            connect_args=connect_args,
        )
        with Session(engine, expire_on_commit=False) as session:
            function(session)


WALKED = {
    "psycopg": Unprepared("psycopg", has_savepoints=True),
    "psycopg2": Unprepared("psycopg2"),
}


@pytest.fixture
def pooled_url(pg_url: URL) -> Iterator[URL]:
    with PgBouncer(pg_url, servers=1) as pooler:
        yield pooler.url


@pytest.mark.parametrize("name", WALKED)
def test_savepoints_and_errors_change_nothing_in_who_has_written_what(
    name: str, pooled_url: URL, pg_url: URL, entry: Any
) -> None:
    assert WALKED[name].name == DRIVERS[name].name
    walk_through(pooled_url, name, WALKED[name], pg_url, entry)


def test_documentation(
    documentation: Callable[[], None],
    pooled_url: URL,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = pooled_url.render_as_string(hide_password=False)
    monkeypatch.setenv("PGBOUNCER_URL", url)
    documentation()
