"""Events are those that a model foretells, each with its author."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

import sa_history.install as installed

from .conftest import Cluster
from .models import OneTenant
from .oracle import Model, Writer, transactions

TENANTS = ["north", "east", "south", "west"]
ROUNDS = int(os.environ.get("CITUS_ROUNDS", "25"))


TABLES = ["account", "entry", "part", "item"]


@pytest.fixture(scope="module", autouse=True)
def tables(cluster: Cluster, engine: Engine) -> None:
    for schema in TENANTS:
        cluster.create_tenant(schema)
        options = {"schema_translate_map": {None: schema}}
        OneTenant.metadata.create_all(engine.execution_options(**options))
    nodes = {cluster.node_of(schema) for schema in TENANTS}
    assert nodes == {1, 2}


BY_REFERENCE = (
    "SELECT e.id, pgh_op, balance, note, c.metadata ->> 'user'"
    " FROM {0}.{1}_event AS e"
    " LEFT JOIN {0}.pghistory_context AS c ON c.id = e.pgh_context_id"
    " ORDER BY pgh_id"
)
INLINE = (
    "SELECT id, pgh_op, balance, note, pgh_context ->> 'user'"
    " FROM {0}.{1}_event ORDER BY pgh_id"
)


def compare(cluster: Cluster, model: Model, table: str) -> None:
    rows, events = {}, {}
    read_events = INLINE if table in ("part", "item") else BY_REFERENCE
    with cluster.connect() as connection:
        for tenant in TENANTS:
            read = f"SELECT id, balance, note FROM {tenant}.{table}"
            for number, *row in connection.execute(read):
                rows[tenant, number] = tuple(row)
            for number, *event in connection.execute(read_events.format(tenant, table)):
                events.setdefault((tenant, number), []).append(tuple(event))
    assert rows == model.rows
    assert events == {key: found for key, found in model.events.items() if found}
    print(f"{table}: {model.count()} events of {len(model.events)} rows")


def empty(cluster: Cluster, table: str) -> None:
    with cluster.connect() as connection:
        for tenant in TENANTS:
            for name in (table, f"{table}_event"):
                connection.execute(f"DELETE FROM {tenant}.{name}")
            connection.execute(f"DELETE FROM {tenant}.{table}_event")


def run(url: Any, is_async: bool, work: Any) -> None:
    if not is_async:
        engine = create_engine(url)
        with engine.connect() as connection:
            work(connection)
        engine.dispose()
        return

    async def main() -> None:
        engine = create_async_engine(url)
        async with engine.connect() as connection:
            await connection.run_sync(work)
        await engine.dispose()

    asyncio.run(main())


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("seed", range(3))
def test_random_transactions(
    table: str, is_async: bool, seed: int, cluster: Cluster
) -> None:
    empty(cluster, table)
    model, rng = Model(), random.Random(f"{seed} {table} {is_async}")

    def work(connection: Connection) -> None:
        transactions(Writer(connection, model, rng, table), TENANTS, ROUNDS)

    for node in (0, 1, 2):  # a worker knows the tables of all nodes, too
        run(cluster.servers[node], is_async, work)
    compare(cluster, model, table)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("table", TABLES)
def test_random_statements_in_autocommit(
    table: str, is_async: bool, cluster: Cluster
) -> None:
    empty(cluster, table)
    model, rng = Model(), random.Random(f"{table} {is_async}")

    def work(connection: Connection) -> None:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        writer = Writer(connection, model, rng, table)
        for _ in range(ROUNDS):
            with writer.context(rng.choice(["ada", "ben"])):
                writer.write(rng.choice(TENANTS))
            writer.write(rng.choice(TENANTS))

    run(cluster.servers[0], is_async, work)
    compare(cluster, model, table)


@pytest.mark.parametrize("table", TABLES)
def test_events_stay_in_order_while_schemas_move(
    table: str, cluster: Cluster, engine: Engine
) -> None:
    """They have the clock of the node, and no number of a sequence of its own."""
    empty(cluster, table)
    model, rng = Model(), random.Random(table)
    is_done, moves, errors = threading.Event(), [], []

    def move_some() -> None:
        while not is_done.is_set():
            schema = random.choice(TENANTS)
            try:
                cluster.move(schema, random.choice(["block_writes", "force_logical"]))
                moves.append(schema)
            except psycopg.Error as error:
                errors.append(error)

    mover = threading.Thread(target=move_some)
    mover.start()
    try:
        with engine.connect() as connection:
            writer = Writer(connection, model, rng, table)
            while len(moves) < 4:
                transactions(writer, TENANTS, 2)
                connection.rollback()
    finally:
        is_done.set()
        mover.join()
    print(f"{len(moves)} moves, {len(errors)} that had to wait")
    compare(cluster, model, table)
    for schema in TENANTS:
        options = {"schema_translate_map": {None: schema}}
        assert installed.check(engine.execution_options(**options), OneTenant) == []


def test_setting_is_not_left_to_others(cluster: Cluster, engine: Engine) -> None:
    with engine.connect() as connection:
        propagates = text("SHOW citus.propagate_set_commands")
        assert connection.scalar(propagates) == "none"
