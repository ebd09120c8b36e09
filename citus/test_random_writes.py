"""Events are those that a model foretells, each with its author."""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import sa_history.install as installed
from sa_history import track

from .conftest import Cluster
from .oracle import Model, Writer, transactions

TENANTS = ["north", "east", "south", "west"]
ROUNDS = int(os.environ.get("CITUS_ROUNDS", "25"))


class Base(DeclarativeBase):
    pass


@track(level="row")
class Account(Base):
    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]
    note: Mapped[str]


@track(level="row", context="inline")
class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]
    note: Mapped[str]


@pytest.fixture(scope="module", autouse=True)
def tables(cluster: Cluster, engine: Engine) -> None:
    for schema in TENANTS:
        cluster.create_tenant(schema)
        options = {"schema_translate_map": {None: schema}}
        Base.metadata.create_all(engine.execution_options(**options))
    nodes = {cluster.node_of(schema) for schema in TENANTS}
    assert nodes == {1, 2}


READ = {
    "account": "SELECT e.id, pgh_op, balance, note, c.metadata ->> 'user'"
    " FROM {0}.account_event AS e"
    " LEFT JOIN {0}.pghistory_context AS c ON c.id = e.pgh_context_id"
    " ORDER BY pgh_id",
    "item": "SELECT id, pgh_op, balance, note, pgh_context ->> 'user'"
    " FROM {0}.item_event ORDER BY pgh_id",
}


def compare(cluster: Cluster, model: Model, table: str, in_order: bool = True) -> None:
    rows, events = {}, {}
    with cluster.connect() as connection:
        for tenant in TENANTS:
            read = f"SELECT id, balance, note FROM {tenant}.{table}"
            for number, *row in connection.execute(read):
                rows[tenant, number] = tuple(row)
            for number, *event in connection.execute(READ[table].format(tenant)):
                events.setdefault((tenant, number), []).append(tuple(event))
    arranged: Any = list if in_order else lambda found: sorted(found, key=repr)
    assert rows == model.rows
    assert {key: arranged(found) for key, found in events.items()} == {
        key: arranged(found) for key, found in model.events.items() if found
    }
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
@pytest.mark.parametrize("table", ["account", "item"])
@pytest.mark.parametrize("seed", range(3))
def test_random_transactions(
    table: str, is_async: bool, seed: int, cluster: Cluster
) -> None:
    empty(cluster, table)
    model, rng = Model(), random.Random(f"{seed} {table} {is_async}")

    def work(connection: Connection) -> None:
        transactions(Writer(connection, model, rng, table), TENANTS, ROUNDS)

    for _ in range(2):  # the second has other connections
        run(cluster.servers[0], is_async, work)
    compare(cluster, model, table)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("table", ["account", "item"])
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


def test_schemas_that_move_lose_no_event_and_check_says_that_they_have_moved(
    cluster: Cluster, engine: Engine
) -> None:
    """A node has numbers of its own, so the order is not that of the changes."""
    model, rng = Model(), random.Random(7)
    empty(cluster, "account")

    def work(connection: Connection) -> None:
        transactions(Writer(connection, model, rng, "account"), TENANTS, ROUNDS)

    for schema in TENANTS[:3]:
        run(cluster.servers[0], False, work)
        cluster.move(schema)
    run(cluster.servers[0], False, work)
    compare(cluster, model, "account", in_order=False)
    options = {"schema_translate_map": {None: TENANTS[0]}}
    found = installed.check(engine.execution_options(**options), Base)
    moved = [finding for finding in found if finding.problem == "moved"]
    assert "move the schema back" in str(moved[0])
    options = {"schema_translate_map": {None: TENANTS[3]}}
    assert installed.check(engine.execution_options(**options), Base) == []


def test_setting_is_not_left_to_others(cluster: Cluster, engine: Engine) -> None:
    with engine.connect() as connection:
        propagates = text("SHOW citus.propagate_set_commands")
        assert connection.scalar(propagates) == "none"
