"""Two servers, and what one of them sends to the other."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, NullPool, create_engine
from sqlalchemy.orm import DeclarativeBase

from sa_history.testing import EmbeddedPostgres, PgServer

SETTINGS = {"wal_level": "logical", "wal_retrieve_retry_interval": "100"}

_WAIT = """
SET statement_timeout = '20s';
DO $$ BEGIN
  WHILE ({}) IS NOT TRUE LOOP PERFORM pg_sleep(0.005); END LOOP;
END $$
"""


class LaterEpoch(EmbeddedPostgres):
    """A server whose transactions have greater numbers than those of other servers."""

    def _initialise(self, bindir: Path, account: Any, *more: Any) -> None:
        super()._initialise(bindir, account, *more)
        reset = [bindir / "pg_resetwal", "--epoch=1", "-D", self.directory / "data"]
        assert account.run(*reset).returncode == 0


@pytest.fixture(scope="session")
def servers() -> Iterator[tuple[PgServer, PgServer]]:
    """The publisher's server, and the subscriber's."""
    with LaterEpoch(**SETTINGS) as one, EmbeddedPostgres(**SETTINGS) as other:
        yield (
            PgServer.from_url(one.url(), embedded=True),
            PgServer.from_url(other.url(), embedded=True),
        )


def execute(engine: Engine, *statements: str) -> None:
    """Run statements as somebody with psql would."""
    options = {"isolation_level": "AUTOCOMMIT"}
    with engine.connect().execution_options(**options) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement.replace("%", "%%"))


@dataclass
class Pair:
    """A database, and one on another server that subscribes to it."""

    publisher: Engine
    subscriber: Engine
    sent: int = 0

    @property
    def both(self) -> tuple[Engine, Engine]:
        """The engines."""
        return self.publisher, self.subscriber

    def publish(self, tables: str, options: str = "") -> None:
        """Have the subscriber follow tables, and wait until it has what is in them."""
        execute(
            self.publisher,
            "CREATE TABLE sent (number int PRIMARY KEY)",
            f"CREATE PUBLICATION history FOR TABLE sent, {tables} {options}",
        )
        url = self.publisher.url
        execute(
            self.subscriber,
            "CREATE TABLE sent (number int PRIMARY KEY)",
            f"CREATE SUBSCRIPTION history CONNECTION 'host={url.query['host']}"
            f" user={url.username} dbname={url.database}' PUBLICATION history"
            # Names of slots are the server's.
            f" WITH (slot_name = {url.database})",
        )
        self.wait(
            "NOT EXISTS (SELECT FROM pg_subscription_rel WHERE srsubstate <> 'r')"
        )

    def catch_up(self) -> None:
        """Wait until the subscriber has done all that the publisher has done."""
        # Transactions are applied in the order of their commits.
        self.sent += 1
        execute(self.publisher, f"INSERT INTO sent VALUES ({self.sent})")
        self.wait(f"EXISTS (SELECT FROM sent WHERE number = {self.sent})")

    def wait(self, condition: str) -> None:
        """Wait until something holds in the subscriber's database."""
        execute(self.subscriber, _WAIT.format(condition))

    def part(self) -> None:
        """End the subscription."""
        execute(self.subscriber, "DROP SUBSCRIPTION IF EXISTS history")


@pytest.fixture
def pair(servers: tuple[PgServer, PgServer]) -> Iterator[Pair]:
    """Two databases, which are empty."""
    name = f"db_{uuid.uuid4().hex[:8]}"
    with ExitStack() as cleanup:
        engines = []
        for server in servers:
            engine = create_engine(server.create_database(name), poolclass=NullPool)
            cleanup.callback(server.drop_database, name)
            engines.append(engine)
        made = Pair(*engines)
        cleanup.callback(made.part)
        yield made


@pytest.fixture
def run() -> Callable[..., None]:
    """Run statements by an engine."""
    return execute


@pytest.fixture
def create_both(
    pair: Pair, base: type[DeclarativeBase]
) -> Iterator[Callable[[], None]]:
    """Create the tables of ``base`` in both databases."""

    def create() -> None:
        for engine in (pair.publisher, pair.subscriber):
            base.metadata.create_all(engine)

    yield create
    base.registry.dispose()
