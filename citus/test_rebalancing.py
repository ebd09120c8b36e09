"""The rebalancer of Citus, as a whole, while somebody writes."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sa_history import track
from sa_history.install import check

from .conftest import Cluster
from .distributed_oracle import TENANTS, DistributedWriter
from .oracle import Model, Writer, transactions

SCHEMAS = ["north", "east", "south", "west"]


class Distributed(DeclarativeBase):
    pass


class Sharded(DeclarativeBase):
    pass


class Row:
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    balance: Mapped[int]
    note: Mapped[str]


@track(context="inline", distribute="tenant")
class Account(Row, Distributed):
    __tablename__ = "account"
    tenant: Mapped[str] = mapped_column(primary_key=True, sort_order=-1)


@track(distribute=True, context="inline")
class Part(Row, Sharded):
    __tablename__ = "part"


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


WAYS = [by_job, by_function, by_draining]


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
            transactions(made, tenants, 1)
            connection.rollback()
        thread.join()
        transactions(made, tenants, 10)
    assert errors == []
    return model


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_distributed_tables_keep_order(
    way: Any, cluster: Cluster, engine: Engine, uneven: None
) -> None:
    Distributed.metadata.create_all(engine)
    before = placements(cluster)
    assert set(before) == {1}
    set_shards(cluster, 2, True)
    model = while_somebody_writes(
        engine,
        lambda c, m: DistributedWriter(c, m, random.Random(1), "account"),
        TENANTS,
        lambda: way(cluster),
    )
    assert placements(cluster).get(2, 0) > 0
    events: dict[Any, list[Any]] = {}
    with cluster.connect() as connection:
        for tenant, number, *event in connection.execute(
            "SELECT tenant, id, pgh_op, balance, note, pgh_context ->> 'user'"
            " FROM account_event ORDER BY pgh_id"
        ):
            events.setdefault((tenant, number), []).append(tuple(event))
    assert events == {
        key: [(*event, user) for *event, (user, _) in found]
        for key, found in model.events.items()
        if found
    }
    print(f"{way.__name__}: {model.count()} events, {placements(cluster)}")
    assert check(engine, Distributed) == []
    Distributed.metadata.drop_all(engine)


@pytest.mark.parametrize("way", WAYS[:2], ids=lambda way: way.__name__)
def test_sharded_schemas_keep_order(
    way: Any, cluster: Cluster, engine: Engine, uneven: None
) -> None:
    of_tenant = {}
    for schema in SCHEMAS:
        cluster.create_tenant(schema)
        options = {"schema_translate_map": {None: schema}}
        of_tenant[schema] = engine.execution_options(**options)
        Sharded.metadata.create_all(of_tenant[schema])
    assert set(placements(cluster)) == {1}
    set_shards(cluster, 2, True)
    model = while_somebody_writes(
        engine,
        lambda c, m: Writer(c, m, random.Random(2), "part"),
        SCHEMAS,
        lambda: way(cluster),
    )
    assert placements(cluster).get(2, 0) > 0
    events: dict[Any, list[Any]] = {}
    with cluster.connect() as connection:
        for schema in SCHEMAS:
            for number, *event in connection.execute(
                "SELECT id, pgh_op, balance, note, pgh_context ->> 'user'"
                f" FROM {schema}.part_event ORDER BY pgh_id"
            ):
                events.setdefault((schema, number), []).append(tuple(event))
    assert events == {key: found for key, found in model.events.items() if found}
    print(f"{way.__name__}: {model.count()} events, {placements(cluster)}")
    for schema, shop in of_tenant.items():
        assert check(shop, Sharded) == []
        with cluster.connect() as connection:
            connection.execute(f"DROP SCHEMA {schema} CASCADE")
