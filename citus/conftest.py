"""A coordinator and two workers of Citus, with a new database for each module.

They are the servers that ``CITUS_URL`` names, with commas between: the coordinator and
two workers. Or they are started on loopback, from the folder of programs that
``CITUS_BINDIR`` names, whose PostgreSQL has the extension.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL, Engine, create_engine, make_url

from sa_history.testing import EmbeddedPostgres

SETTINGS: dict[str, Any] = {
    "listen_addresses": "127.0.0.1",
    "shared_preload_libraries": "citus",
    "wal_level": "logical",
    "max_prepared_transactions": 200,
    "synchronous_commit": "on",
    "citus.node_conninfo": "sslmode=prefer",
}


@dataclass(frozen=True)
class Cluster:
    """The servers, each by its URL; the coordinator comes first.

    :param own: the same servers, if they are our own.
    """

    servers: tuple[URL, ...]
    own: tuple[EmbeddedPostgres, ...] = ()

    def connect(self, node: int = 0) -> psycopg.Connection[Any]:
        """Connect to a node, in autocommit."""
        url = self.servers[node].set(drivername="postgresql")
        dsn = url.render_as_string(hide_password=False)
        return psycopg.connect(dsn, autocommit=True)

    @contextlib.contextmanager
    def database(self, workers: int = 2) -> Iterator[Cluster]:
        """Create a database of the same name on all of them, and join the nodes.

        :param workers: how many workers join; the others may do so later.
        """
        name = f"sa_history_{uuid.uuid4().hex[:8]}"
        urls = tuple(url.set(database=name) for url in self.servers)
        created = Cluster(urls, self.own)
        for node in range(len(self.servers)):
            with self.connect(node) as connection:
                connection.execute(f"CREATE DATABASE {name}")
            with created.connect(node) as connection:
                connection.execute("CREATE EXTENSION citus")
        coordinator = self.servers[0]
        with created.connect() as connection:
            connection.execute(
                "SELECT citus_set_coordinator_host(%s, %s)",
                (coordinator.host, coordinator.port),
            )
        for node in range(1, 1 + workers):
            created.join(node)
        yield created
        for node in range(len(self.servers)):
            with self.connect(node) as connection:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def join(self, node: int) -> None:
        """Have a worker join the cluster."""
        worker = self.servers[node]
        with self.connect() as connection:
            connection.execute(
                "SELECT citus_add_node(%s, %s)", (worker.host, worker.port)
            )

    def create_tenant(self, schema: str) -> None:
        """Create a schema that is distributed."""
        with self.connect() as connection:
            connection.execute("SET citus.enable_schema_based_sharding = on")
            connection.execute(f"CREATE SCHEMA {schema}")

    def node_of(self, schema: str) -> int:
        """Return the index of the server that has a tenant's schema."""
        with self.connect() as connection:
            (port,) = connection.execute(
                "SELECT n.nodeport FROM pg_dist_schema AS d"
                " JOIN pg_dist_partition AS p USING (colocationid)"
                " JOIN pg_dist_shard AS s USING (logicalrelid)"
                " JOIN pg_dist_placement AS pl USING (shardid)"
                " JOIN pg_dist_node AS n USING (groupid)"
                " WHERE d.schemaid = %s::regnamespace LIMIT 1",
                (schema,),
            ).fetchone() or (None,)
        return [url.port for url in self.servers].index(port)

    def move(self, schema: str, mode: str = "block_writes") -> None:
        """Move a tenant's schema to the other worker."""
        worker = self.servers[3 - self.node_of(schema)]
        with self.connect() as connection:
            connection.execute(
                "SELECT citus_schema_move(%s, %s, %s, %s)",
                (schema, worker.host, worker.port, mode),
            )

    def restart(self, node: int) -> None:
        """Stop a server of our own at once, as if it failed, and start it again."""
        self.pg_ctl(node, "restart", "-l", str(self.own[node].directory / "log"))

    def pg_ctl(self, node: int, *command: str) -> None:
        """Run pg_ctl in the immediate mode, as the account that the server has."""
        bindir, data = os.environ["CITUS_BINDIR"], self.own[node].directory / "data"
        subprocess.run(
            [f"{bindir}/pg_ctl", "-D", data, "-m", "immediate", "-w", *command],
            user=data.stat().st_uid,
            group=data.stat().st_gid,
            env={"LD_LIBRARY_PATH": f"{bindir}/../lib"},
            stdout=subprocess.DEVNULL,
            check=True,
        )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def servers() -> Iterator[Cluster]:
    """The cluster, with its own databases as they are."""
    if named := os.environ.get("CITUS_URL"):
        urls = [make_url(each) for each in named.split(",")]
        yield Cluster(tuple(u.set(drivername="postgresql+psycopg") for u in urls))
        return
    bindir = os.environ.get("CITUS_BINDIR")
    if bindir is None:
        pytest.exit("set CITUS_URL or CITUS_BINDIR; see docs/citus.md", returncode=4)
    with started(bindir) as cluster:
        yield cluster


@contextlib.contextmanager
def started(bindir: str) -> Iterator[Cluster]:
    """Start three servers of our own."""
    url = make_url("postgresql+psycopg://postgres@127.0.0.1/postgres")
    with contextlib.ExitStack() as stack:
        urls, own = [], []
        for _ in range(3):
            port = _free_port()
            server = EmbeddedPostgres(bindir=bindir, port=port, **SETTINGS)
            own.append(stack.enter_context(server))
            urls.append(url.set(port=port))
        yield Cluster(tuple(urls), tuple(own))


@pytest.fixture(scope="module")
def cluster(servers: Cluster) -> Iterator[Cluster]:
    """A database of the module's own on all nodes."""
    with servers.database() as created:
        yield created


@pytest.fixture(scope="module")
def engine(cluster: Cluster) -> Iterator[Engine]:
    """An engine on the coordinator."""
    engine = create_engine(cluster.servers[0])
    yield engine
    engine.dispose()


@pytest.fixture
def tenant(cluster: Cluster, engine: Engine) -> Callable[[str], Engine]:
    """Create a tenant's schema, and return an engine that has its tables there."""

    def create(schema: str) -> Engine:
        cluster.create_tenant(schema)
        return engine.execution_options(schema_translate_map={None: schema})

    return create
