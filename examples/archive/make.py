"""Make two years of the shop's history, and archive them.

    python examples/archive/make.py FOLDER

PostgreSQL is a throw-away one, unless ``DATABASE_URL`` names an empty database.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import shop
import two_years
from sqlalchemy import Engine, create_engine, make_url

import sa_history as history
from sa_history.testing import EmbeddedPostgres


@contextmanager
def database() -> Iterator[Engine]:
    """Give an engine of an empty database."""
    if url := os.environ.get("DATABASE_URL"):
        engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
        yield engine
        engine.dispose()
        return
    with EmbeddedPostgres() as server:
        engine = create_engine(server.url())
        yield engine
        engine.dispose()


def main() -> None:
    """Make the history, and its archive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="where the archive is to be")
    parser.add_argument("--orders", type=int, default=300, help="how many to make")
    arguments = parser.parse_args()
    folder = Path(arguments.folder)
    if folder.is_dir() and any(folder.iterdir()):
        parser.error(f"{folder} has something in it; give a new folder, or remove it")
    with database() as engine:
        two_years.make(engine, arguments.orders)
        # With the part that is not closed, so that all is in the files.
        reports = history.archive(engine, shop.Base, to=arguments.folder, open=True)
    for report in reports:
        rows = sum(part.rows for part in report.archived)
        print(f"{report.table:24}{len(report.archived):4} files{rows:6} rows")


if __name__ == "__main__":
    main()
