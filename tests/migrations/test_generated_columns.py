"""A revision makes a generated column STORED or VIRTUAL, as in the model."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Column, Computed, Engine, Integer, MetaData, Table, insert, text
from sqlalchemy.exc import CompileError

from sa_history import Delete, Protect, attach, track
from sa_history.install import check


@pytest.fixture(autouse=True)
def _has_virtual_columns(pg_engine: Engine) -> None:
    with pg_engine.connect() as connection:
        version = connection.dialect.server_version_info or ()
    if version < (18,):
        pytest.skip("PostgreSQL has VIRTUAL columns since 18")


def tile(persisted: bool | None, **options: Any) -> Table:
    return Table(
        "tile",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("side", Integer),
        Column(
            "area", Integer, Computed("side * side", persisted=persisted), **options
        ),
    )


def create(engine: Engine, kind: str) -> None:
    """Make the table as somebody with psql would."""
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE tile (id integer PRIMARY KEY, side integer,"
            f" area integer GENERATED ALWAYS AS (side * side) {kind})"
        )


def kind_in(engine: Engine) -> str:
    statement = text(
        "SELECT attgenerated::text FROM pg_attribute"
        " WHERE attrelid = 'tile'::regclass AND attname = 'area'"
    )
    with engine.connect() as connection:
        return {"s": "STORED", "v": "VIRTUAL"}[connection.scalar(statement) or ""]


def test_a_virtual_column_is_added_again_where_the_model_stores_it(
    migrations: Any, pg_engine: Engine
) -> None:
    create(pg_engine, "VIRTUAL")
    table = tile(True, index=True)
    track()(table)
    migrations.metadata = table.metadata
    migrations.revise()
    migrations.upgrade()
    assert kind_in(pg_engine) == "STORED"
    assert migrations.check() == []
    assert check(pg_engine, table.metadata) == []
    with pg_engine.begin() as connection:
        connection.execute(insert(table).values(id=1, side=3))
        assert connection.scalar(text("SELECT area FROM tile_event")) == 9


def test_a_stored_column_is_added_again_where_the_model_does_not_store_it(
    migrations: Any, pg_engine: Engine
) -> None:
    stored = tile(True)
    attach(Protect(Delete))(stored)
    stored.metadata.create_all(pg_engine)
    virtual = tile(False)
    attach(Protect(Delete))(virtual)
    migrations.metadata = virtual.metadata
    migrations.revise()
    if sqlalchemy.__version__ < "2.1":  # which creates no VIRTUAL columns
        with pytest.raises(CompileError, match="'virtual' persistence"):
            migrations.upgrade()
        assert kind_in(pg_engine) == "STORED"
        assert check(pg_engine, stored.metadata) == []
        return
    migrations.upgrade()
    assert kind_in(pg_engine) == "VIRTUAL"
    assert migrations.check() == []
    migrations.downgrade()
    assert kind_in(pg_engine) == "STORED"
    assert check(pg_engine, stored.metadata) == []


@pytest.mark.parametrize("kind", ["STORED", "VIRTUAL"])
def test_a_kind_that_the_model_leaves_to_the_database_is_right(
    migrations: Any, pg_engine: Engine, kind: str
) -> None:
    create(pg_engine, kind)
    table = tile(None)
    attach(Protect(Delete))(table)
    migrations.metadata = table.metadata
    migrations.revise()
    migrations.upgrade()
    assert kind_in(pg_engine) == kind
    assert check(pg_engine, table.metadata) == []


def test_a_table_without_triggers_is_left_to_alembic(
    migrations: Any, pg_engine: Engine
) -> None:
    create(pg_engine, "VIRTUAL")
    migrations.metadata = tile(True).metadata
    assert migrations.check() == []
