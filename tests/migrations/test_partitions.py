"""Partitioned event tables in revisions."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from psycopg.errors import DuplicateObject
from sqlalchemy import (
    URL,
    Column,
    DateTime,
    Engine,
    Integer,
    MetaData,
    Table,
    cast,
    create_engine,
    func,
    inspect,
    text,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

import sa_history as history
from sa_history import AfterDelete, Snapshot, track
from sa_history.exc import InstallError
from sa_history.install import check
from tests.migrations.models import migrate, run, scalars


def _models(**options: Any) -> MetaData:
    metadata = MetaData()
    table = Table("post", metadata, Column("id", Integer, primary_key=True))
    track(Snapshot, AfterDelete, **{"append_only": True, **options})(table)
    return metadata


def test_a_revision_creates_what_create_all_does(
    migrations: Any, pg_engine: Engine, pg_url: URL, other_url: URL, dump: Any
) -> None:
    migrate(migrations, _models(partition_by="month"))
    other = create_engine(other_url)
    _models(partition_by="month").create_all(other)
    other.dispose()
    assert dump(pg_url) == dump(other_url)
    assert migrations.check() == []


def test_the_table_of_archived_partitions_comes_with_a_revision_and_stays(
    migrations: Any, pg_engine: Engine, pg_url: URL, dump: Any
) -> None:
    migrate(migrations, _models())
    before = dump(pg_url)
    partitioned = _models(partition_by="month")
    assert "op.create_table('pghistory_archive'" in migrate(migrations, partitioned)
    assert check(pg_engine, partitioned) == []
    assert "pghistory_archive" not in migrate(migrations, _models())
    run(pg_engine, "SELECT * FROM pghistory_archive")
    migrations.downgrade()
    migrations.downgrade()
    assert dump(pg_url) == before


def test_append_only_comes_and_goes_where_each_partition_has_its_trigger(
    migrations: Any, pg_engine: Engine
) -> None:
    guarded = _models(partition_by=2)
    unguarded = _models(partition_by=2, append_only=False)
    of_partitions = (
        "SELECT tgrelid::regclass::text FROM pg_trigger"
        " WHERE tgname = 'post_event_append_only' ORDER BY 1"
    )
    migrate(migrations, unguarded)
    run(pg_engine, "INSERT INTO post SELECT generate_series(1, 5)")
    for _ in range(2):
        history.partitions(pg_engine, unguarded)
        migrate(migrations, guarded)
        assert len(scalars(pg_engine, of_partitions)) >= 3
        assert check(pg_engine, guarded) == []
        migrate(migrations, unguarded)
        assert scalars(pg_engine, of_partitions) == []
        assert check(pg_engine, unguarded) == []
        migrations.downgrade()
        assert len(scalars(pg_engine, of_partitions)) >= 3
        assert check(pg_engine, guarded) == []
        migrations.downgrade()
        assert scalars(pg_engine, of_partitions) == []
        assert check(pg_engine, unguarded) == []
        migrations.upgrade()


ODD = "Aud\"it's \\%"
"""A schema whose name needs quotes in names, in strings, and as a format."""


def _odd(**options: Any) -> MetaData:
    metadata = MetaData()
    table = Table(
        "pö$tage",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        schema=ODD,
    )
    track(Snapshot, AfterDelete, partition_by=2, **options)(table)
    return metadata


def test_the_partitions_that_there_are_get_the_trigger_with_their_table(
    migrations: Any, pg_engine: Engine
) -> None:
    migrations.options = {"include_schemas": True}
    quoted = '"' + ODD.replace('"', '""').replace("%", "%%") + '"'
    run(pg_engine, f"CREATE SCHEMA {quoted}")
    migrate(migrations, _odd())
    for _ in range(2):
        run(
            pg_engine,
            f'INSERT INTO {quoted}."pö$tage" SELECT coalesce(max(id), 0) + 1'
            f' FROM {quoted}."pö$tage"',
        )
    guarded = _odd(append_only=True)
    migrations.metadata = guarded
    migrations.revise()
    # The revision was made before some of the partitions were.
    (report, _) = history.partitions(pg_engine, _odd())
    assert len(report.partitions) >= 2
    migrations.upgrade()
    assert check(pg_engine, guarded) == []
    for partition in report.partitions:
        name = partition.name.render(str)
        with pytest.raises(DBAPIError, match="append-only"):
            run(pg_engine, f"TRUNCATE {name}".replace("%", "%%"))


def test_another_trigger_of_that_name_on_a_partition_stays(
    migrations: Any, pg_engine: Engine
) -> None:
    migrate(migrations, _models(partition_by=2, append_only=False))
    run(
        pg_engine,
        "CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER post_event_append_only BEFORE TRUNCATE ON post_event_p1"
        " EXECUTE FUNCTION other()",
    )
    with pytest.raises(DBAPIError, match="post_event_p1") as refused:
        migrate(migrations, _models(partition_by=2))
    assert isinstance(refused.value.orig, DuplicateObject)
    find = "SELECT tgfoid::regproc::text FROM pg_trigger WHERE NOT tgisinternal"
    assert "other" in scalars(
        pg_engine, f"{find} AND tgname = 'post_event_append_only'"
    )


def test_a_renamed_table_with_partitions_stays_append_only(
    migrations: Any, pg_engine: Engine
) -> None:
    migrate(migrations, _models(partition_by=2))
    run(pg_engine, "INSERT INTO post VALUES (1), (2), (3)")
    history.partitions(pg_engine, _models(partition_by=2))
    renamed = MetaData()
    table = Table("letter", renamed, Column("id", Integer, primary_key=True))
    track(Snapshot, AfterDelete, append_only=True, partition_by=2)(table)
    migrations.metadata = renamed
    migrations.revise("rename_table=post:letter")
    migrations.upgrade()
    assert check(pg_engine, renamed) == []
    assert migrations.check() == []
    # A partition that somebody detaches is known by its comment.
    with pg_engine.connect() as connection:
        detach = "ALTER TABLE letter_event DETACH PARTITION post_event_p1"
        connection.execute(text(detach))
        found = "\n".join(map(str, check(connection, renamed)))
    assert "post_event_p1: it is detached from public.letter_event" in found
    migrations.downgrade()
    assert check(pg_engine, _models(partition_by=2)) == []


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


@pytest.mark.parametrize("is_kept", [True, False])
def test_they_stay_or_go_with_a_table_that_is_not_tracked_any_more(
    is_kept: bool, migrations: Any, pg_engine: Engine
) -> None:
    migrations.options = {"history_keep": is_kept}
    migrate(migrations, _models(partition_by="month"))
    before = inspect(pg_engine).get_table_names()
    untracked = MetaData()
    Table("post", untracked, Column("id", Integer, primary_key=True))
    migrate(migrations, untracked)
    after = inspect(pg_engine).get_table_names()
    assert sorted(after) == (sorted(before) if is_kept else ["alembic_version", "post"])


@pytest.mark.parametrize("schema", [None, "Audit"])
def test_partition_by_that_is_added_or_taken_away_moves_the_events(
    schema: str | None, migrations: Any, pg_engine: Engine
) -> None:
    name = "post_event"
    if schema is not None:
        run(pg_engine, f'CREATE SCHEMA "{schema}"')
        name = f'"{schema}".post_event'
        migrations.options = {"include_schemas": True}
    query = f"SELECT id FROM {name} ORDER BY pgh_id"
    plain, partitioned = _models(schema=schema), _models(schema=schema, partition_by=7)
    migrate(migrations, plain)
    run(pg_engine, "INSERT INTO post VALUES (1), (2)")

    migrations.metadata = partitioned
    (kind, added), *others = migrations.check()
    assert (kind, added.name) == ("add_table", "pghistory_archive")
    assert others == [
        ("history_partition", "pghistory_context"),
        ("history_partition", "post_event"),
        (
            "history_ddl",
            "renew trigger post_event_append_only on post_event_p1",
        ),
    ]
    written = migrate(migrations, partitioned)
    assert written.count("with op.get_context().autocommit_block():\n") == 4
    upgrade, _, downgrade = written.partition("def downgrade")
    assert "op.history_partition(\n" in upgrade
    assert "op.history_unpartition(\n" in downgrade
    assert migrations.check() == [] == check(pg_engine, partitioned)
    run(pg_engine, "INSERT INTO post VALUES (3)")
    assert scalars(pg_engine, query) == [1, 2, 3]

    migrations.downgrade()
    assert scalars(
        pg_engine, f"SELECT relkind FROM pg_class WHERE oid = '{name}'::regclass"
    ) == ["r"]
    run(pg_engine, "DELETE FROM post WHERE id = 3")
    migrations.upgrade()
    assert migrations.check() == []

    assert "op.history_unpartition(\n" in migrate(migrations, plain)
    assert migrations.check() == [] == check(pg_engine, plain)
    assert scalars(pg_engine, query) == [1, 2, 3, 3]
    migrations.downgrade()
    assert check(pg_engine, partitioned) == []


def test_where_env_py_begins_the_transaction_they_are_made_in_it(
    migrations: Any, pg_engine: Engine
) -> None:
    # As it is in the templates for several databases.
    env = migrations.directory / "env.py"
    code = env.read_text()
    own = 'own = config.attributes["connection"].begin()\ncontext.configure('
    for before, after in (
        ("context.configure(", own),
        ("with context.begin_transaction():", "if True:"),
    ):
        assert code.count(before) == 1
        code = code.replace(before, after)
    env.write_text(f"{code}\nown.commit()\n")
    migrate(migrations, _models())
    run(pg_engine, "INSERT INTO post VALUES (1)")
    partitioned = _models(partition_by=7)
    written = migrate(migrations, partitioned)
    assert written.count("op.history_partition(\n") == 2
    assert "autocommit_block" not in written
    for _ in range(2):
        assert migrations.check() == [] == check(pg_engine, partitioned)
        assert scalars(pg_engine, "SELECT id FROM post_event") == [1]
        migrations.downgrade()
        assert check(pg_engine, _models()) == []
        migrations.upgrade()


def test_the_way_back_is_refused_once_events_were_removed(
    migrations: Any, pg_engine: Engine
) -> None:
    migrate(migrations, _models())
    partitioned = _models(partition_by=2)
    migrate(migrations, partitioned)
    run(pg_engine, "INSERT INTO post VALUES (1), (2), (3)")
    history.partitions(pg_engine, partitioned)
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=40)
    history.partitions(pg_engine, partitioned, keep="1 month", now=later)
    with pytest.raises(InstallError) as refused:
        migrations.downgrade()
    assert str(refused.value).startswith("events of public.post_event until 20")
    assert str(refused.value).endswith(
        "were removed, which a table without partitions cannot tell: as_of would see a "
        "wrong past; leave it partitioned, or give forget_removed=True to "
        "op.history_unpartition"
    )
    assert check(pg_engine, partitioned) == []
    engine = pg_engine.execution_options(isolation_level="READ COMMITTED")
    with engine.connect() as connection:
        operations = Operations(MigrationContext.configure(connection))
        operations.history_unpartition(  # type: ignore[attr-defined]
            "post_event",
            "post_event_p1",
            lower=1,
            key="pgh_id",
            key_type="bigint",
            forget_removed=True,
        )
        connection.commit()
    assert scalars(pg_engine, "SELECT id FROM post_event ORDER BY id") == [1, 2, 3]


def test_a_revision_that_moves_events_cannot_be_written_as_sql(
    migrations: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    migrate(migrations, _models())
    migrate(migrations, _models(partition_by="month"))
    with pytest.raises(InstallError, match="pghistory_context is to be repartitioned"):
        migrations.sql(capsys)


@pytest.mark.long
def test_nothing_differs_after_a_year_of_maintenance(
    migrations: Any, pg_engine: Engine
) -> None:
    time = cast(func.current_setting("test.now"), DateTime(timezone=True))
    metadata = _models(partition_by="month", created_at=time)
    migrate(migrations, metadata)
    now = datetime.datetime(2025, 1, 3, tzinfo=datetime.timezone.utc)
    number = 0
    for _ in range(52):
        with pg_engine.begin() as connection:
            for _ in range(7):
                now, number = now + datetime.timedelta(days=1), number + 1
                connection.execute(text(f"SET LOCAL test.now = '{now.isoformat()}'"))
                connection.execute(metadata.tables["post"].insert(), {"id": number})
        history.partitions(pg_engine, metadata, now=now)
    events, _ = history.partitions(pg_engine, metadata, now=now, keep="6 months")
    closed = [p for p in events.partitions if p.is_closed]
    assert 5 <= len(closed) <= 8
    for partition in closed:
        assert partition.since is not None
        assert partition.until is not None
        length = partition.until - partition.since
        assert datetime.timedelta(days=10) < length < datetime.timedelta(days=45)
    assert migrations.check() == []
    migrations.options = {"history_keep": False}
    assert migrations.check() == []
    with history.as_of(pg_engine, now) as past:
        assert past.scalar(func.count(metadata.tables["post"].c.id)) == number


@pytest.mark.parametrize(
    ("driver", "options"),
    [
        ("psycopg", {}),
        ("psycopg", {"prepare_threshold": 0}),
        ("asyncpg", {}),
    ],
    ids=["psycopg", "psycopg that prepares all", "asyncpg"],
)
def test_any_driver_moves_the_events(
    migrations: Any,
    pg_engine: Engine,
    pg_url: URL,
    driver: str,
    options: dict[str, Any],
) -> None:
    migrate(migrations, _models())
    run(pg_engine, "INSERT INTO post VALUES (1)")
    migrations.metadata = _models(partition_by="month")
    migrations.revise()

    async def by_driver(*commands: Any) -> None:
        url = pg_url.set(drivername=f"postgresql+{driver}")
        engine = create_async_engine(url, connect_args=options)
        migrations.engine = engine.sync_engine
        async with engine.connect() as connection:
            for command in commands:
                await connection.run_sync(lambda _, command=command: command())
        await engine.dispose()

    kinds = "SELECT relkind FROM pg_class WHERE oid = 'post_event'::regclass"
    asyncio.run(by_driver(migrations.upgrade))
    assert scalars(pg_engine, kinds) == ["p"]
    asyncio.run(by_driver(migrations.downgrade, migrations.upgrade))
    assert scalars(pg_engine, kinds) == ["p"]
    assert scalars(pg_engine, "SELECT id FROM post_event") == [1]
