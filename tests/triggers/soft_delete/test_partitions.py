"""Rows of partitioned tables are marked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    delete,
    insert,
    select,
    text,
    types,
    update,
)
from sqlalchemy.exc import NotSupportedError

import sa_history as history
from sa_history import SoftDelete, attach
from sa_history.exc import DefinitionError

Stored = Callable[..., list[tuple[Any, ...]]]


def test_rows_of_a_partitioned_table_are_marked(pg_engine: Engine) -> None:
    thing = Table(
        "thing",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("is_active", types.Boolean),
        postgresql_partition_by="RANGE (id)",
    )
    attach(SoftDelete("is_active"))(thing)
    with pg_engine.begin() as connection:
        thing.metadata.create_all(connection)
        for low, high in ((0, 10), (10, 20)):
            connection.execute(
                text(
                    f"CREATE TABLE thing_{low} PARTITION OF thing"
                    f" FOR VALUES FROM ({low}) TO ({high})"
                )
            )
        connection.execute(insert(thing).values([(n, True) for n in (1, 2, 11, 12)]))
        connection.execute(delete(thing).where(thing.c.id.in_([1, 11])))
        connection.execute(text("DELETE FROM thing_10 WHERE id = 12"))
        assert connection.execute(select(thing).order_by("id")).all() == [
            (1, False),
            (2, True),
            (11, False),
            (12, False),
        ]


@pytest.fixture
def partitioned(pg_engine: Engine) -> Table:
    """A table with a partition for each region, which has committed rows."""
    thing = Table(
        "thing",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column('Re"gion', Text, primary_key=True, key="region"),
        Column("name", Text),
        Column("is_active", types.Boolean, server_default="true"),
        postgresql_partition_by='LIST ("Re""gion")',
    )
    attach(SoftDelete("is_active"))(thing)
    with pg_engine.begin() as connection:
        thing.metadata.create_all(connection)
        for region in ("north", "south"):
            connection.execute(
                text(
                    f"CREATE TABLE thing_{region} PARTITION OF thing"
                    f" FOR VALUES IN ('{region}')"
                )
            )
        rows = [{"id": n, "region": "north", "name": "a"} for n in (1, 2)]
        connection.execute(insert(thing), rows)
    return thing


def test_an_update_that_may_move_a_row_to_another_partition_is_refused(
    partitioned: Table, pg_engine: Engine, stored: Stored
) -> None:
    # PostgreSQL moves it by a DELETE, which would only mark it where it is.
    move = update(partitioned).where(partitioned.c.id == 1).values(region="south")
    with pytest.raises(NotSupportedError) as caught, pg_engine.begin() as connection:
        connection.execute(move)
    error: Any = caught.value.orig
    assert error.diag.message_primary == (
        "UPDATE of public.thing_north is refused: it may move the row"
    )
    assert error.diag.message_hint == (
        "To move a row to another partition is to delete it, and that marks it;"
        " insert another row."
    )
    with pg_engine.begin() as connection:
        connection.execute(update(partitioned).values(name="b", region="north"))
    assert stored(partitioned) == [
        (1, "north", "b", True),
        (2, "north", "b", True),
    ]


def test_ignored_it_lets_a_row_move_to_another_partition(
    partitioned: Table, pg_engine: Engine, stored: Stored
) -> None:
    move = update(partitioned).where(partitioned.c.id == 1).values(region="south")
    with pg_engine.begin() as connection:
        with history.ignore(connection, partitioned, "soft_delete"):
            connection.execute(move)
        connection.execute(delete(partitioned))
    assert stored(partitioned) == [
        (1, "south", "a", False),
        (2, "north", "a", False),
    ]


@pytest.mark.parametrize("key", ["LIST (is_active)", 'RANGE (id, "is_active")'])
def test_a_column_of_the_partition_key_marks_nothing(key: str) -> None:
    thing = Table(
        "thing",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("is_active", types.Boolean),
        postgresql_partition_by=key,
    )
    with pytest.raises(DefinitionError, match="is of the partition key"):
        attach(SoftDelete("is_active"))(thing)
