"""Triggers of the application that write to tracked tables, on their shards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from .conftest import Cluster
from .models import Distributed, Sharded

TABLES = ["public.account", "public.item", "north.orders", "north.part"]


@pytest.fixture(autouse=True)
def tables(cluster: Cluster, engine: Engine) -> Iterator[None]:
    cluster.create_tenant("north")
    sharded = engine.execution_options(schema_translate_map={None: "north"})
    Distributed.metadata.create_all(engine)
    Sharded.metadata.create_all(sharded)
    yield
    Distributed.metadata.drop_all(engine)
    with cluster.connect() as connection:
        connection.execute("DROP SCHEMA north CASCADE")
        connection.execute("DROP FUNCTION IF EXISTS own CASCADE")


def own_trigger(cluster: Cluster, table: str, write: str) -> None:
    """Create a trigger that fires before the one which records."""
    body = f"BEGIN IF NEW.note = 'new' THEN {write}; END IF; RETURN NULL; END"
    with cluster.connect() as connection:
        connection.execute("SET citus.enable_unsafe_triggers = on")
        connection.execute(
            "CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql"
            f" AS $own$ {body} $own$"
        )
        connection.execute(
            f"CREATE TRIGGER a_first AFTER INSERT ON {table}"
            " FOR EACH ROW EXECUTE FUNCTION own()"
        )


def events(engine: Engine, table: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        read = f"SELECT pgh_op, id, note FROM {table}_event ORDER BY pgh_id"
        return [tuple(row) for row in connection.execute(text(read))]


@pytest.mark.parametrize("table", TABLES)
def test_row_that_is_written_again_is_refused(
    table: str, cluster: Cluster, engine: Engine
) -> None:
    """It would be recorded in the wrong order."""
    write = f"UPDATE {table} SET note = 'again' WHERE tenant = NEW.tenant"
    own_trigger(cluster, table, f"{write} AND id = NEW.id")
    with engine.begin() as connection, pytest.raises(DBAPIError) as refused:
        connection.execute(
            text(f"INSERT INTO {table} (tenant, id, note) VALUES ('t1', 1, 'new')")
        )
    assert "was written again, and that is recorded before this change" in str(
        refused.value
    )
    assert events(engine, table) == []


@pytest.mark.parametrize("table", TABLES)
def test_other_row_is_recorded(table: str, cluster: Cluster, engine: Engine) -> None:
    write = f"UPDATE {table} SET note = 'other' WHERE tenant = NEW.tenant"
    own_trigger(cluster, table, f"{write} AND id = NEW.id - 1")
    with engine.begin() as connection:
        connection.execute(
            text(f"INSERT INTO {table} (tenant, id, note) VALUES ('t1', 1, 'old')")
        )
        connection.execute(
            text(f"INSERT INTO {table} (tenant, id, note) VALUES ('t1', 2, 'new')")
        )
        connection.execute(text(f"DELETE FROM {table} WHERE tenant = 't1' AND id = 1"))
        connection.execute(
            text(f"INSERT INTO {table} (tenant, id, note) VALUES ('t1', 1, 'old')")
        )
    assert events(engine, table) == [
        ("I", 1, "old"),
        ("U", 1, "other"),
        ("I", 2, "new"),
        ("D", 1, "other"),
        ("I", 1, "old"),
    ]
