"""The feed, read while others write: nothing is missed, and nothing comes twice."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

import sa_history as history
from sa_history import cursor_of, feed_page

from .conftest import Cluster
from .distributed_oracle import TENANTS
from .models import Account, Distributed, Item, Order, Part, Sharded


def write(connection: Connection, schema: str, tables: list[str], user: int) -> None:
    """Commit one transaction, or roll it back: short or slow, of one node or more."""
    rng = random.Random()
    with history.context(connection, user=user):
        for _ in range(rng.choice([1, 1, 2, 3])):
            table, tenant = rng.choice(tables), rng.choice(TENANTS)
            number, of_one = rng.randrange(20), rng.random() < 0.7
            change = f'UPDATE {schema}."{table}" SET balance = balance + 1'
            where = f"tenant = '{tenant}' AND id = {number}"
            where = where if of_one else f"id = {number} AND tenant < '{tenant}'"
            connection.execute(text(f"{change} WHERE {where}"))
            time.sleep(rng.choice([0, 0, 0, 0.01, 0.3]))
        if rng.random() < 0.1:
            connection.rollback()
        else:
            connection.commit()


def keep_writing(
    cluster: Cluster, node: int, schema: str, tables: list[str], until: float
) -> None:
    """Write from one client, in turn in a transaction and in autocommit."""
    engine = create_engine(cluster.servers[node])
    with engine.connect() as connection, engine.connect() as alone:
        alone.execution_options(isolation_level="AUTOCOMMIT")
        while time.monotonic() < until:
            for each in (connection, alone):
                try:
                    write(each, schema, tables, node)
                except DBAPIError:  # a deadlock, or a table that is being moved
                    each.rollback()
    engine.dispose()


def all_pages(engine: Engine, models: list[Any], until: float) -> list[Any]:
    """Read pages until some time, and then to the end, each page when it comes."""
    found: list[Any] = []
    while True:
        is_last = time.monotonic() > until
        with Session(engine) as session:
            after = cursor_of(found[-1]) if found else None
            rows = feed_page(session, *models, after=after, limit=40)
        if not rows and is_last:
            return found
        found += rows
        time.sleep(0.01)


@pytest.fixture
def distributed(engine: Engine) -> Iterator[tuple[Engine, str, list[Any]]]:
    Distributed.metadata.create_all(engine)
    yield engine, "public", [Account, Item]
    Distributed.metadata.drop_all(engine)


@pytest.fixture
def sharded(
    cluster: Cluster, engine: Engine
) -> Iterator[tuple[Engine, str, list[Any]]]:
    cluster.create_tenant("north")
    engine = engine.execution_options(schema_translate_map={None: "north"})
    Sharded.metadata.create_all(engine)
    yield engine, "north", [Order, Part]
    Sharded.metadata.drop_all(engine)


@pytest.mark.parametrize("kind", ["distributed", "sharded"])
def test_feed_with_four_writers_misses_nothing(
    kind: str, request: pytest.FixtureRequest, cluster: Cluster
) -> None:
    """Two on the coordinator, one on each worker, and shards that move meanwhile."""
    engine, schema, models = request.getfixturevalue(kind)
    tables = [model.__tablename__ for model in models]
    with cluster.connect() as connection:
        for table in tables:
            connection.execute(
                f"INSERT INTO {schema}.\"{table}\" SELECT 't' || n % 12, n / 12, 0"
                " FROM generate_series(0, 239) AS n"
            )
    until = time.monotonic() + 15
    writers = [
        threading.Thread(
            target=keep_writing, args=(cluster, node, schema, tables, until)
        )
        for node in (0, 0, 1, 2)
    ]
    for writer in writers:
        writer.start()
    mover = threading.Thread(target=keep_moving, args=(cluster, schema, until))
    mover.start()
    found = all_pages(engine, models, until + 3)
    for thread in (*writers, mover):
        thread.join()
    positions = [cursor_of(row) for row in found]
    assert positions == sorted(set(positions))
    with cluster.connect() as connection:
        for model in models:
            table = model.events.table.name
            read = f'SELECT pgh_id FROM {schema}."{table}"'
            written = Counter(number for (number,) in connection.execute(read))
            of_model = [r for r in found if r.pgh_obj_model == model.__name__]
            assert Counter(row.pgh_id for row in of_model) == written
            balances: dict[Any, int] = {}
            for row in sorted(of_model, key=lambda row: row.pgh_id):
                key = (row.pgh_data["tenant"], row.pgh_data["id"])
                assert row.pgh_data["balance"] == balances.get(key, -1) + 1
                balances[key] = row.pgh_data["balance"]
            print(f"{model.__name__}: {len(of_model)} events")


def keep_moving(cluster: Cluster, schema: str, until: float) -> None:
    """Move what can be moved, in turn there and back."""
    moves = 0
    while time.monotonic() < until:
        try:
            if schema == "public":
                with cluster.connect() as connection:
                    connection.execute(
                        "SELECT citus_move_shard_placement(s.shardid, n.nodename,"
                        " n.nodeport, to_.nodename, to_.nodeport, 'block_writes')"
                        " FROM pg_dist_shard AS s"
                        " JOIN pg_dist_placement USING (shardid)"
                        " JOIN pg_dist_node AS n USING (groupid)"
                        " JOIN pg_dist_node AS to_ ON to_.groupid = 3 - n.groupid"
                        " WHERE s.logicalrelid = 'account'::regclass"
                        " ORDER BY random() LIMIT 1"
                    )
            else:
                cluster.move(schema)
            moves += 1
        except psycopg.Error:
            pass
        time.sleep(0.5)
    print(f"{moves} moves")


def test_transaction_that_a_server_has_left_behind_holds_the_feed_back(
    cluster: Cluster, distributed: tuple[Engine, str, list[Any]]
) -> None:
    """It is prepared on a node, and its session has ended."""
    engine, *_ = distributed
    with cluster.connect() as connection:
        connection.execute("INSERT INTO account VALUES ('t1', 1, 1), ('t2', 1, 1)")
    time.sleep(1.1)
    with cluster.connect(1) as worker:
        for statement in (
            "BEGIN",
            "SELECT txid_current()",
            "PREPARE TRANSACTION 'citus_0_999999999_1_0'",
        ):
            worker.execute(statement)
        with Session(engine) as session:
            assert feed_page(session, Account) == []
        worker.execute("ROLLBACK PREPARED 'citus_0_999999999_1_0'")
    with Session(engine) as session:
        assert len(feed_page(session, Account)) == 2
