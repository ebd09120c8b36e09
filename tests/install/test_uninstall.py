"""Uninstalling: what goes, and what stays for others."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Table

from sa_history import Snapshot, track
from sa_history.install import check, install, uninstall
from tests.install.models import Objects, Run, briefly


def test_uninstalling_leaves_other_models_working(
    pg_engine: Engine, run: Run, metadata: MetaData
) -> None:
    run("CREATE SCHEMA other")
    neighbour, gone = MetaData(), MetaData()
    for models, schema, name in ((neighbour, "other", "beside"), (gone, None, "was")):
        table = Table(
            name, models, Column("id", Integer, primary_key=True), schema=schema
        )
        track(Snapshot, append_only=True)(table)
    for models in (metadata, neighbour, gone):
        models.create_all(pg_engine)

    uninstall(pg_engine, metadata)

    run("INSERT INTO other.beside VALUES (1)", "INSERT INTO was VALUES (1)")
    assert briefly(check(pg_engine, neighbour, gone)) == [
        ("orphaned", "view", "public.short", "install --prune")
    ]
    uninstall(pg_engine, neighbour, gone)
    install(pg_engine, metadata, neighbour, gone)
    assert check(pg_engine, metadata, neighbour, gone) == []


def test_triggers_without_their_comments_go_with_their_function(
    installed: MetaData, pg_engine: Engine, run: Run
) -> None:
    """Citus makes them so where it makes a table anew."""
    with pg_engine.connect() as connection:
        named = connection.exec_driver_sql(
            "SELECT tgname, tgrelid::regclass FROM pg_trigger WHERE NOT tgisinternal"
        ).all()
    run(*(f"COMMENT ON TRIGGER {name} ON {table} IS NULL" for name, table in named))
    uninstall(pg_engine, installed)
    install(pg_engine, installed)
    assert check(pg_engine, installed) == []


@pytest.mark.contrib
def test_foreign_objects_are_never_touched(
    installed: MetaData, pg_engine: Engine, run: Run, objects: Objects
) -> None:
    run(
        "CREATE EXTENSION citext",
        "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN RETURN NEW; END'",
        "COMMENT ON FUNCTION stamp() IS 'not of sa_history:'",
        "CREATE TRIGGER stamp BEFORE INSERT ON account"
        " FOR EACH ROW EXECUTE FUNCTION stamp()",
        "CREATE TRIGGER stamp BEFORE INSERT ON account_event"
        " FOR EACH ROW EXECUTE FUNCTION stamp()",
        "CREATE VIEW long AS SELECT * FROM account",
        "CREATE SEQUENCE numbers",
    )
    before = objects()
    foreign = [o for o in before if re.search(r"\b(stamp|long|citext)\b", o)]
    assert len(foreign) >= 4

    assert check(pg_engine, installed) == []
    uninstall(pg_engine, installed)
    assert set(foreign) <= set(objects())
    install(pg_engine, installed, prune=True)
    assert objects() == before
