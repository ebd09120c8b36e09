"""Models with all that is installed beside tables, and what a database has of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Table, Text, select, text

from sa_history import (
    AfterDelete,
    Delete,
    Protect,
    Snapshot,
    Trigger,
    attach,
    track,
    view,
)
from sa_history.definition.operations import Update


@pytest.fixture
def metadata() -> MetaData:
    """A tracked table with attached triggers, and a view."""
    metadata = MetaData()
    account = Table(
        "account",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("name", Text, nullable=False),
    )
    track(Snapshot, AfterDelete, append_only=True)(account)
    checked = Trigger(
        "checked", "after", Update, deferrable="deferred", body="RETURN NULL;"
    )
    attach(Protect(Delete), checked)(account)
    view("short", metadata, select(account.c.id).where(account.c.id < 10))
    return metadata


@pytest.fixture
def installed(metadata: MetaData, pg_engine: Engine) -> MetaData:
    """The models, in a database that has them."""
    metadata.create_all(pg_engine)
    return metadata


@pytest.fixture
def run(pg_engine: Engine) -> Callable[..., None]:
    """Run statements as somebody with psql would."""

    def execute(*statements: str) -> None:
        with pg_engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement.replace("%", "%%"))

    return execute


@pytest.fixture
def objects(pg_engine: Engine) -> Callable[[], list[str]]:
    """Return every function, trigger and view, with its comment."""

    def read() -> list[str]:
        with pg_engine.connect() as connection:
            return list(connection.scalars(text(_OBJECTS)))

    return read


_OBJECTS = """
SELECT what || coalesce(' -- ' || description, '') FROM (
  SELECT 'pg_proc'::regclass AS catalog, oid, pg_get_functiondef(oid) AS what
  FROM pg_proc
  WHERE pronamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema')
    AND prokind = 'f'
  UNION ALL
  SELECT 'pg_trigger'::regclass, oid, tgenabled::text || ' ' || pg_get_triggerdef(oid)
  FROM pg_trigger WHERE NOT tgisinternal
  UNION ALL
  SELECT 'pg_class'::regclass, oid,
    oid::regclass::text || coalesce(pg_get_viewdef(oid), '')
  FROM pg_class
  WHERE relnamespace::regnamespace::text NOT LIKE 'pg\\_%'
    AND relnamespace::regnamespace::text <> 'information_schema'
    AND relkind IN ('r', 'p', 'v', 'S')
) AS made LEFT JOIN pg_description AS d
  ON d.classoid = catalog AND d.objoid = oid AND d.objsubid = 0
ORDER BY 1
"""
