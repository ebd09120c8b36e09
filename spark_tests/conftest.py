"""Apache Spark with two workers on this machine, and an archive to ask.

``nox -s spark`` runs these tests. They need PySpark from the package index, without any
jar, and Java 17.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.orm import DeclarativeBase

import sa_history as history
from benchmarks.archive import local_cluster
from benchmarks.archive_data import fill
from benchmarks.partitions import models
from sa_history.testing import PgServer

pytest_plugins = ["sa_history.testing.plugin"]

EVENTS = 20_000
"""How many events there are, of 500 rows; some of these rows changed their key."""


@pytest.fixture(scope="session")
def spark() -> Iterator[Any]:
    """A session of Spark, whose workers are processes of their own."""
    # PySpark makes naive datetimes of times, in the zone of the process.
    os.environ["TZ"] = "UTC"
    time.tzset()
    session = local_cluster(memory=1024)
    yield session
    session.stop()


@dataclass(frozen=True)
class Archive:
    """An archive, and the database that it is of.

    :param engine: the database, with all events.
    :param folder: the files of all closed partitions, and of the open one.
    :param base: the declarative base.
    :param account: the tracked class.
    """

    engine: Engine
    folder: str
    base: Any
    account: Any


@pytest.fixture(scope="session")
def archive(
    pg_server: PgServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Archive]:
    """The archive of two years, and their database."""
    engine = create_engine(pg_server.create_database("spark_archive"))
    base, account = models(10**9)
    fill(engine, base, EVENTS)
    folder = str(tmp_path_factory.mktemp("spark") / "archive")
    history.archive(engine, base, to=folder, open=True)
    yield Archive(engine, folder, base, account)
    engine.dispose()
    pg_server.drop_database("spark_archive")


@pytest.fixture
def engine(pg_url: URL) -> Iterator[Engine]:
    """A database of the test's own."""
    engine = create_engine(pg_url)
    yield engine
    engine.dispose()


@pytest.fixture
def base() -> type[DeclarativeBase]:
    """A declarative base of the test's own."""

    class Base(DeclarativeBase):
        pass

    return Base


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """A folder to archive to."""
    return str(tmp_path / "archive")
