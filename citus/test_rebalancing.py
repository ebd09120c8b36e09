"""The rebalancer of Citus, as a whole, while somebody writes."""

from __future__ import annotations

import contextlib
import copy
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase

from sa_history.install import check

from .conftest import Cluster
from .distributed_oracle import TENANTS, DistributedWriter
from .models import Distributed, OneTenant
from .oracle import Model, Writer, transactions

SCHEMAS = ["north", "east", "south", "west"]


@pytest.fixture
def uneven(cluster: Cluster) -> Iterator[None]:
    """The second worker gets no shards, until it may have some."""
    set_shards(cluster, 2, False)
    yield
    set_shards(cluster, 2, True)


def set_shards(cluster: Cluster, node: int, has_shards: bool) -> None:
    server = cluster.servers[node]
    with cluster.connect() as connection:
        connection.execute(
            "SELECT citus_set_node_property(%s, %s, 'shouldhaveshards', %s)",
            (server.host, server.port, has_shards),
        )


def placements(cluster: Cluster) -> dict[int, int]:
    """Return how many shards each worker has."""
    with cluster.connect() as connection:
        return dict(
            connection.execute(
                "SELECT groupid, count(*) FROM pg_dist_placement"
                " WHERE groupid > 0 GROUP BY groupid"
            ).fetchall()
        )


def by_job(cluster: Cluster) -> None:
    with cluster.connect() as connection:
        connection.execute("SELECT citus_rebalance_start()")
        connection.execute("SELECT citus_rebalance_wait()")


def by_function(cluster: Cluster) -> None:
    with cluster.connect() as connection:
        connection.execute(
            "SELECT rebalance_table_shards(shard_transfer_mode := 'block_writes')"
        )


def by_draining(cluster: Cluster) -> None:
    """Move all that the first worker has."""
    server = cluster.servers[1]
    with cluster.connect() as connection:
        connection.execute(
            "SELECT citus_drain_node(%s, %s, 'block_writes')",
            (server.host, server.port),
        )
    set_shards(cluster, 1, True)


def by_moving(cluster: Cluster) -> None:
    """Move what the first worker has, one by one, as far as anything is there."""
    here, there = cluster.servers[1:]
    with cluster.connect() as connection:
        groups = connection.execute(
            "SELECT DISTINCT ON (s.shardminvalue, t.colocationid) s.shardid"
            " FROM pg_dist_shard AS s JOIN pg_dist_placement AS p USING (shardid)"
            " JOIN pg_dist_partition AS t USING (logicalrelid)"
            " WHERE p.groupid = (SELECT groupid FROM pg_dist_node WHERE nodeport = %s)",
            (here.port,),
        ).fetchall()
        for (shard,) in groups[:3]:
            connection.execute(
                "SELECT citus_move_shard_placement(%s, %s, %s, %s, %s, 'block_writes')",
                (shard, here.host, here.port, there.host, there.port),
            )


WAYS = [by_job, by_function, by_draining, by_moving]


def while_somebody_writes(
    engine: Engine, writer: Callable[[Any, Model], Any], tenants: list[str], work: Any
) -> Model:
    model, errors = Model(), []
    is_done = threading.Event()

    def run() -> None:
        try:
            work()
        except psycopg.Error as error:
            errors.append(error)
        finally:
            is_done.set()

    with engine.connect() as connection:
        made = writer(connection, model)
        transactions(made, tenants, 10)
        connection.rollback()
        thread = threading.Thread(target=run)
        thread.start()
        while not is_done.is_set():
            before = copy.deepcopy((model.rows, model.events))
            try:
                transactions(made, tenants, 1)
            except DBAPIError:  # an INSERT ... SELECT while a node joins
                model.rows, model.events = before
            connection.rollback()
        thread.join()
        transactions(made, tenants, 10)
    assert errors == []
    return model


@dataclass(frozen=True)
class Tables:
    """Tables of one kind, and who writes to them."""

    base: type[DeclarativeBase]
    engines: list[Engine]
    tenants: list[str]
    writer: Callable[[Any, Model], Any]
    read: Callable[[str], str]

    def create(self) -> None:
        for engine in self.engines:
            self.base.metadata.create_all(engine)

    def compare(self, cluster: Cluster, model: Model) -> None:
        """Compare the events, and look whether all objects are as they should be.

        Check comes first, right after what was done to the nodes.
        """
        assert [check(engine, self.base) for engine in self.engines] == (
            [[]] * len(self.engines)
        )
        events: dict[Any, list[Any]] = {}
        with cluster.connect() as connection:
            for tenant in self.tenants:
                for number, *event in connection.execute(self.read(tenant)):
                    events.setdefault((tenant, number), []).append(tuple(event))
        assert events == {
            key: [(*event, user) for *event, user in map(_by_user, found)]
            for key, found in model.events.items()
            if found
        }
        assert events


def _by_user(event: tuple[Any, ...]) -> tuple[Any, ...]:
    *values, user = event
    return (*values, user[0] if isinstance(user, tuple) else user)


def distributed(engine: Engine) -> Tables:
    return Tables(
        Distributed,
        [engine],
        TENANTS,
        lambda c, m: DistributedWriter(c, m, random.Random(1), "account"),
        lambda tenant: (
            "SELECT id, pgh_op, balance, note, pgh_context ->> 'user'"
            f" FROM account_event WHERE tenant = '{tenant}' ORDER BY pgh_id"
        ),
    )


def sharded(engine: Engine) -> Tables:
    return Tables(
        OneTenant,
        [
            engine.execution_options(schema_translate_map={None: schema})
            for schema in SCHEMAS
        ],
        SCHEMAS,
        lambda c, m: Writer(c, m, random.Random(2), "part"),
        lambda schema: (
            "SELECT id, pgh_op, balance, note, pgh_context ->> 'user'"
            f" FROM {schema}.part_event ORDER BY pgh_id"
        ),
    )


KINDS = [distributed, sharded]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_events_stay_in_order(
    way: Any, kind: Any, cluster: Cluster, engine: Engine, uneven: None
) -> None:
    tables: Tables = kind(engine)
    with schemas(cluster, tables):
        tables.create()
        assert set(placements(cluster)) == {1}
        set_shards(cluster, 2, True)
        model = while_somebody_writes(
            engine, tables.writer, tables.tenants, lambda: way(cluster)
        )
        assert placements(cluster).get(2, 0) > 0
        print(f"{way.__name__}: {model.count()} events, {placements(cluster)}")
        tables.compare(cluster, model)


@contextlib.contextmanager
def schemas(cluster: Cluster, tables: Tables) -> Iterator[None]:
    """Create the schemas of tenants, and drop all in the end."""
    names = [] if tables.base is Distributed else tables.tenants
    for schema in names:
        cluster.create_tenant(schema)
    yield
    for engine in tables.engines:
        tables.base.metadata.drop_all(engine)
    with cluster.connect() as connection:
        for schema in names:
            connection.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_node_joins_while_somebody_writes(kind: Any, servers: Cluster) -> None:
    """It gets shards then, of tables that have triggers."""

    def join(cluster: Cluster) -> None:
        cluster.join(2)
        by_job(cluster)

    with servers.database(workers=1) as cluster:
        engine = create_engine(cluster.servers[0])
        tables: Tables = kind(engine)
        with schemas(cluster, tables):
            tables.create()
            model = while_somebody_writes(
                engine, tables.writer, tables.tenants, lambda: join(cluster)
            )
            assert len(placements(cluster)) == 2
            print(f"{model.count()} events, {placements(cluster)}")
            tables.compare(cluster, model)
        engine.dispose()
