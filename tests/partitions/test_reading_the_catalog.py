"""The partitions of one table, as they are read from the catalog."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine

from sa_history.ddl.partitions import RangePartition, read_partitions_of
from sa_history.sql.compose import Qualified


def read(engine: Engine, name: str, schema: str = "public") -> Any:
    with engine.connect() as connection:
        return read_partitions_of(connection, Qualified(schema, name))


def test_a_table_that_is_not_partitioned_has_none(pg_engine: Engine, run: Any) -> None:
    run("CREATE TABLE plain (id bigint)")
    assert read(pg_engine, "plain") is None
    assert read(pg_engine, "nothing") is None


def test_a_partitioned_table_may_be_without_a_partition(
    pg_engine: Engine, run: Any
) -> None:
    run("CREATE TABLE bare (id bigint) PARTITION BY RANGE (id)")
    assert read(pg_engine, "bare") == []


def test_it_is_told_from_one_of_the_same_name_in_another_schema(
    pg_engine: Engine, run: Any
) -> None:
    run("CREATE SCHEMA other")
    for schema, lower in (("public", 1), ("other", 7)):
        run(
            f"CREATE TABLE {schema}.note (id bigint) PARTITION BY RANGE (id)",
            f"CREATE TABLE other.of_{schema} PARTITION OF {schema}.note"
            f" FOR VALUES FROM ({lower}) TO (MAXVALUE)",
        )
    assert read(pg_engine, "note", "other") == [
        RangePartition(Qualified("other", "of_other"), "r", 7, None)
    ]
    (partition,) = read(pg_engine, "note")
    assert (partition.name, partition.lower) == (Qualified("other", "of_public"), 1)


def test_they_are_in_the_order_of_their_bounds_with_a_default_last(
    pg_engine: Engine, run: Any
) -> None:
    run("CREATE TABLE note (id bigint) PARTITION BY RANGE (id)")
    for name, bounds in (
        ("a", "DEFAULT"),
        ("b", "FOR VALUES FROM (20) TO (MAXVALUE)"),
        ("c", "FOR VALUES FROM (-3) TO (9)"),
        ("d", "FOR VALUES FROM (9) TO (20)"),
        ("e", "FOR VALUES FROM (MINVALUE) TO (-3)"),
    ):
        run(f"CREATE TABLE {name} PARTITION OF note {bounds}")
    assert [
        (p.name.name, p.lower, p.upper, p.is_default) for p in read(pg_engine, "note")
    ] == [
        ("e", None, -3, False),
        ("c", -3, 9, False),
        ("d", 9, 20, False),
        ("b", 20, None, False),
        ("a", None, None, True),
    ]
