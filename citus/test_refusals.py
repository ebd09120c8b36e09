"""Tables that Citus distributes in a way that was not shown to be right are refused."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Table, insert, text

import sa_history as history
from sa_history import Delete, Protect, attach, track
from sa_history.exc import DistributionError
from sa_history.install import check, install

from .conftest import Cluster

NUMBERS = iter(range(100))


def model(level: str = "row", schema: str | None = None, **options: Any) -> MetaData:
    metadata = MetaData(schema=schema)
    columns = [
        Column(name, Integer, primary_key=True, autoincrement=False)
        for name in ("tenant", "id")
    ]
    track(level=level, **options)(Table("account", metadata, *columns))
    return metadata


@pytest.fixture
def schema(cluster: Cluster) -> str:
    """An ordinary schema of the test's own."""
    name = f"plain_{next(NUMBERS)}"
    with cluster.connect() as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    return name


@pytest.mark.parametrize("level", ["statement", "row"])
def test_local_table_has_its_history_as_on_any_server(
    level: str, engine: Engine, schema: str
) -> None:
    metadata = model(level, schema)
    metadata.create_all(engine)
    assert check(engine, metadata) == []
    table = metadata.tables[f"{schema}.account"]
    with engine.begin() as connection, history.context(connection, user=7):
        connection.execute(insert(table), [{"tenant": 1, "id": 1}])
    with engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {schema}.account"))
        read = f"SELECT pgh_op, metadata FROM {schema}.account_event LEFT JOIN"
        read += f" {schema}.pghistory_context AS c ON c.id = pgh_context_id"
        events = connection.execute(text(f"{read} ORDER BY pgh_id"))
        assert [tuple(row) for row in events] == [("I", {"user": 7}), ("T", None)]


DISTRIBUTE = {
    "a distributed table": "SELECT create_distributed_table('{}.account', 'tenant')",
    "a reference table": "SELECT create_reference_table('{}.account')",
    "a local table that Citus manages": (
        "SELECT citus_add_local_table_to_metadata('{}.account')"
    ),
}


@pytest.mark.parametrize("kind", DISTRIBUTE)
def test_table_that_is_distributed_is_not_tracked(
    kind: str, cluster: Cluster, engine: Engine, schema: str
) -> None:
    with cluster.connect() as connection:
        columns = "(tenant int, id int, PRIMARY KEY (tenant, id))"
        connection.execute(f"CREATE TABLE {schema}.account {columns}")
        connection.execute(DISTRIBUTE[kind].format(schema))
    metadata = model(schema=schema)
    with pytest.raises(DistributionError, match=f"account is {kind} of Citus"):
        metadata.create_all(engine)


@pytest.mark.parametrize("kind", DISTRIBUTE)
def test_check_finds_a_table_that_was_distributed_after_it_was_tracked(
    kind: str, cluster: Cluster, engine: Engine, schema: str
) -> None:
    metadata = model(schema=schema)
    metadata.create_all(engine)
    with cluster.connect() as connection:
        connection.execute("SET citus.enable_unsafe_triggers = on")
        connection.execute(DISTRIBUTE[kind].format(schema))
    finding = check(engine, metadata)[-1]
    assert f"{schema}.account is {kind} of Citus" in str(finding)
    with pytest.raises(DistributionError):
        install(engine, metadata)


@pytest.fixture
def sharded(cluster: Cluster) -> str:
    name = f"sharded_{next(NUMBERS)}"
    cluster.create_tenant(name)
    return name


@pytest.mark.parametrize("level", ["statement", "row"])
def test_models_that_do_not_say_so_are_refused_in_a_sharded_schema(
    level: str, engine: Engine, sharded: str
) -> None:
    with pytest.raises(DistributionError, match=r"give track\(distribute=True\)"):
        model(level, sharded).create_all(engine)


def test_models_that_say_so_are_refused_elsewhere(engine: Engine, schema: str) -> None:
    with pytest.raises(DistributionError, match="account is a local table of Citus"):
        model("row", schema, distribute=True).create_all(engine)


def test_context_table_in_another_schema_is_refused(
    engine: Engine, sharded: str
) -> None:
    metadata = MetaData()
    columns = [Column("id", Integer, primary_key=True, autoincrement=False)]
    track(distribute=True)(Table("account", metadata, *columns, schema=sharded))
    with pytest.raises(DistributionError, match="pghistory_context is a local table"):
        metadata.create_all(engine)


def test_partitioned_table_is_refused_in_a_sharded_schema(
    engine: Engine, sharded: str
) -> None:
    metadata = MetaData(schema=sharded)
    column = Column("id", Integer, primary_key=True, autoincrement=False)
    table = Table("account", metadata, column, postgresql_partition_by="RANGE (id)")
    track(distribute=True)(table)
    with pytest.raises(DistributionError, match="partitioned table of a sharded"):
        metadata.create_all(engine)


def test_attached_trigger_is_refused_in_a_sharded_schema(
    engine: Engine, sharded: str
) -> None:
    metadata = MetaData(schema=sharded)
    column = Column("id", Integer, primary_key=True, autoincrement=False)
    attach(Protect(Delete))(Table("account", metadata, column))
    with pytest.raises(DistributionError, match=r"take attach\(\) off"):
        metadata.create_all(engine)
