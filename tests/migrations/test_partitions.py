"""Partitioned event tables in revisions."""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL, Column, Engine, Integer, MetaData, Table, inspect

from sa_history import AfterDelete, Snapshot, track
from tests.migrations.models import migrate, run, scalars


def _models(**options: Any) -> MetaData:
    metadata = MetaData()
    table = Table("post", metadata, Column("id", Integer, primary_key=True))
    track(Snapshot, AfterDelete, append_only=True, **options)(table)
    return metadata


def test_a_revision_creates_what_create_all_does(
    migrations: Any, pg_engine: Engine, pg_url: URL, other_url: URL, dump: Any
) -> None:
    from sqlalchemy import create_engine

    migrate(migrations, _models(partition_by="month"))
    other = create_engine(other_url)
    _models(partition_by="month").create_all(other)
    other.dispose()
    assert dump(pg_url) == dump(other_url)
    assert migrations.check() == []


def test_partitions_that_are_made_later_are_no_difference(
    migrations: Any, pg_engine: Engine
) -> None:
    migrate(migrations, _models(partition_by="month"))
    run(
        pg_engine,
        "ALTER TABLE post_event DETACH PARTITION post_event_p1",
        "ALTER TABLE post_event ATTACH PARTITION post_event_p1"
        " FOR VALUES FROM (1) TO (9)",
        "CREATE TABLE post_event_p9 PARTITION OF post_event"
        " FOR VALUES FROM (9) TO (MAXVALUE)",
        "INSERT INTO post VALUES (1)",
    )
    assert migrations.check() == []
    migrations.options = {"history_keep": False}
    assert migrations.check() == []
    assert scalars(pg_engine, "SELECT id FROM post_event") == [1]


def test_a_downgrade_drops_them_with_their_table(
    migrations: Any, pg_engine: Engine
) -> None:
    migrations.options = {"history_keep": False}
    migrate(migrations, _models(partition_by=5))
    migrations.downgrade("base")
    assert inspect(pg_engine).get_table_names() == ["alembic_version"]
    migrations.upgrade("head")
    assert migrations.check() == []
