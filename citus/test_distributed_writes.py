"""Events of a distributed table are those that a model foretells."""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sa_history import track
from sa_history.install import check

from .conftest import Cluster
from .distributed_oracle import TENANTS, DistributedWriter
from .oracle import Model, transactions

ROUNDS = int(os.environ.get("CITUS_ROUNDS", "25"))


def model(level: str) -> type[DeclarativeBase]:
    class Base(DeclarativeBase):
        pass

    @track(level=level, context="inline", distribute="tenant")
    class Account(Base):
        __tablename__ = "account"
        tenant: Mapped[str] = mapped_column(primary_key=True)
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        balance: Mapped[int]
        note: Mapped[str]

    return Base


@pytest.fixture(scope="module", params=["workers", "coordinator too"])
def nodes(request: Any, cluster: Cluster) -> None:
    """Shards are on the workers only, or on the coordinator as well."""
    coordinator = cluster.servers[0]
    has_shards = request.param != "workers"
    with cluster.connect() as connection:
        connection.execute(
            "SELECT citus_set_node_property(%s, %s, 'shouldhaveshards', %s)",
            (coordinator.host, coordinator.port, has_shards),
        )


@pytest.fixture(scope="module", autouse=True, params=["statement", "row"])
def tables(request: Any, nodes: None, engine: Engine) -> Any:
    base = model(request.param)
    base.metadata.create_all(engine)
    yield
    assert check(engine, base) == []
    base.metadata.drop_all(engine)


def rows(cluster: Cluster, statement: str) -> list[tuple[Any, ...]]:
    with cluster.connect() as connection:
        return connection.execute(statement).fetchall()


def compare(cluster: Cluster, model: Model, in_blocks: bool = True) -> None:
    found = rows(cluster, "SELECT tenant, id, balance, note FROM account")
    assert {row[:2]: row[2:] for row in found} == model.rows
    events: dict[Any, list[Any]] = {}
    made_by: dict[tuple[Any, Any], set[Any]] = {}
    foretold = {key: list(of_row) for key, of_row in model.events.items() if of_row}
    for tenant, number, transaction, time, *event in rows(
        cluster,
        "SELECT tenant, id, pgh_xact_id, pgh_created_at,"
        " pgh_op, balance, note, pgh_context ->> 'user'"
        " FROM account_event ORDER BY pgh_id",
    ):
        of_row = events.setdefault((tenant, number), [])
        *_, (_, by) = foretold[tenant, number][len(of_row)]
        made_by.setdefault((transaction, time), set()).add(by)
        of_row.append((*event[:-1], (event[-1], by)))
    assert events == foretold
    # Each transaction has one number and one time on all nodes, and no other has them.
    assert all(len(transactions) == 1 for transactions in made_by.values())
    if in_blocks:  # else executemany() makes several
        assert len(made_by) == len({by for found in made_by.values() for by in found})
    assert len(made_by) == len({number for number, _ in made_by})
    print(f"{model.count()} events of {len(model.events)} rows")


def empty(cluster: Cluster) -> None:
    with cluster.connect() as connection:
        connection.execute("DELETE FROM account")
        connection.execute("DELETE FROM account_event")


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
@pytest.mark.parametrize("seed", range(3))
def test_random_transactions(is_async: bool, seed: int, cluster: Cluster) -> None:
    write_and_compare(cluster, is_async, random.Random(f"{seed} {is_async}"), [0])


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_clients_of_all_nodes_write(is_async: bool, cluster: Cluster) -> None:
    """A worker knows the tables, too, and writes to its own shards by itself."""
    rng = random.Random(f"nodes {is_async}")
    write_and_compare(cluster, is_async, rng, [1, 2, 0, 1])


def write_and_compare(
    cluster: Cluster, is_async: bool, rng: random.Random, nodes: list[int]
) -> None:
    """Write in turn by clients of some nodes, each twice.

    The second time there are other connections.
    """
    empty(cluster)
    model, last = Model(), 0

    def work(connection: Connection) -> None:
        nonlocal last
        writer = DistributedWriter(connection, model, rng, "account")
        writer.transaction = last
        transactions(writer, TENANTS, ROUNDS)
        last = writer.transaction

    for node in [*nodes, *nodes]:
        run(cluster.servers[node], is_async, work)
    compare(cluster, model)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("node", [0, 1])
def test_random_statements_in_autocommit(
    node: int, is_async: bool, cluster: Cluster
) -> None:
    empty(cluster)
    model, rng = Model(), random.Random(f"{is_async}")

    def work(connection: Connection) -> None:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        writer = DistributedWriter(connection, model, rng, "account")
        for _ in range(ROUNDS):
            writer.transaction += 1
            with writer.context(rng.choice(["ada", "ben"])):
                writer.write(rng.choice(TENANTS))
            writer.transaction += 1
            writer.write(rng.choice(TENANTS))

    run(cluster.servers[node], is_async, work)
    compare(cluster, model, in_blocks=False)
