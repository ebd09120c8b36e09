"""Each driver over the walk of savepoints, errors and blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import URL, NullPool, create_engine, text
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import Session

from tests.attribution.test_savepoints import DRIVERS, Driver, Walk, compare_walk


class Pg8000(Driver):
    """Takes a socket by its path."""

    def run(self, url: URL, function: Callable[[Session], None]) -> None:
        path = f"{url.query['host']}/.s.PGSQL.5432"
        super().run(url.set(query={"unix_sock": path}), function)


class Pg8000Walk(Walk):
    """Without what pg8000 does not do: see the page."""

    def _with_comments(self, sql: str) -> str:
        return sql + self._luck.choice(["", "", ";", " /* end */", " -- end"])

    def _end(self, way: str) -> None:
        # A COMMIT of what has failed is an error, and no rollback.
        super()._end("rollback" if self._has_failed and way == "commit" else way)

    def _refused_by_the_driver(self) -> None:
        # It makes text of any object.
        with pytest.raises(StatementError):
            self._session.execute(text("INSERT INTO entry VALUES (:missing)"))


ALL = {
    **{name: (driver, Walk) for name, driver in DRIVERS.items()},
    "pg8000": (Pg8000("pg8000", has_scripts=False), Pg8000Walk),
}


@pytest.mark.parametrize("name", ALL)
def test_savepoints_and_errors_change_nothing_in_who_has_written_what(
    name: str, pg_url: URL, entry: Any
) -> None:
    driver, kind = ALL[name]
    engine = create_engine(pg_url, poolclass=NullPool)
    walk = compare_walk(driver, pg_url, engine, entry, kind)
    print(f"{name}: {len(walk.steps)} steps, {len(walk.kept)} writes committed")


def test_documentation(documentation: Callable[[], None]) -> None:
    documentation()
