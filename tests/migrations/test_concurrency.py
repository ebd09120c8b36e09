"""Upgrades that meet, and upgrades that do not come to their end."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from alembic.util import CommandError
from sqlalchemy import (
    URL,
    Column,
    Engine,
    Integer,
    MetaData,
    Table,
    text,
)

from sa_history import Protect, Snapshot, attach, track
from sa_history.ddl.advisory_lock import wait_for_turn
from sa_history.definition.operations import Delete

UPGRADE = """
import sys
from alembic import command
from alembic.config import Config
from sqlalchemy import MetaData, create_engine
config = Config()
config.set_main_option("script_location", sys.argv[1])
config.set_main_option("path_separator", "os")
with create_engine(sys.argv[2]).connect() as connection:
    config.attributes.update(connection=connection, metadata=MetaData(), options={})
    command.upgrade(config, "head")
"""

WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'
  AND application_name <> 'me'
"""


def models() -> MetaData:
    metadata = MetaData()
    table = Table("account", metadata, Column("id", Integer, primary_key=True))
    attach(Protect(Delete))(table)
    track(Snapshot, append_only=True)(table)
    return metadata


@pytest.fixture
def upgrade(
    migrations: Any, pg_url: URL
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Begin an upgrade in a process of its own."""
    processes = []

    def begin(driver: str = "psycopg") -> subprocess.Popen[str]:
        url = pg_url.set(drivername=f"postgresql+{driver}")
        arguments = (migrations.directory, url.render_as_string(hide_password=False))
        process = subprocess.Popen(
            [sys.executable, "-c", UPGRADE, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def wait_until(engine: Engine, waiting: int) -> None:
    """Wait until so many others wait for a lock, which the server tells."""
    with engine.connect() as connection:
        connection.execute(text("SET application_name = 'me'"))
        connection.commit()
        connection.execute(text("SET statement_timeout = '20s'"))
        connection.execute(
            text(
                "DO $$ BEGIN WHILE ("
                + WAITING
                + f") < {waiting} LOOP PERFORM pg_stat_clear_snapshot(), "
                "pg_sleep(0.01); END LOOP; END $$"
            )
        )


LEVELS = ["read committed", "repeatable read", "serializable"]


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
@pytest.mark.parametrize("level", LEVELS)
def test_two_upgrades_at_once_both_end_well(
    migrations: Any,
    pg_engine: Engine,
    pg_url: URL,
    upgrade: Callable[..., subprocess.Popen[str]],
    level: str,
    driver: str,
) -> None:
    with pg_engine.begin() as connection:
        connection.exec_driver_sql(
            f'ALTER DATABASE "{pg_url.database}" '
            f"SET default_transaction_isolation = '{level}'"
        )
    migrations.metadata = models()
    migrations.revise()
    with pg_engine.connect() as connection:
        # Until both have come to the lock, nobody gets it.
        wait_for_turn(connection)
        processes = [upgrade(driver) for _ in range(2)]
        wait_until(pg_engine, 2)
        connection.rollback()
    for process in processes:
        printed, _ = process.communicate(timeout=30)
        assert process.returncode == 0, printed
    assert migrations.check() == []


def test_an_upgrade_that_is_killed_leaves_nothing(
    migrations: Any,
    pg_engine: Engine,
    pg_url: URL,
    dump: Callable[[URL], str],
    upgrade: Callable[[], subprocess.Popen[str]],
) -> None:
    migrations.metadata = MetaData()
    Table("account", migrations.metadata, Column("id", Integer, primary_key=True))
    migrations.revise()
    migrations.upgrade()
    before = dump(pg_url)
    migrations.metadata = models()
    migrations.revise()
    with pg_engine.connect() as connection:
        # The event table is created by then, and the triggers are not.
        connection.execute(text("LOCK TABLE account IN ROW EXCLUSIVE MODE"))
        process = upgrade()
        wait_until(pg_engine, 1)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        # PostgreSQL finds out when it has to answer.
        connection.rollback()
    assert process.returncode == -signal.SIGKILL
    with pg_engine.begin() as connection:
        wait_for_turn(connection)
    assert dump(pg_url) == before
    migrations.upgrade()
    assert migrations.check() == []


def test_an_upgrade_that_fails_leaves_nothing(
    migrations: Any, pg_url: URL, dump: Callable[[URL], str]
) -> None:
    before = dump(pg_url)
    migrations.metadata = models()
    migrations.revise()
    (path,) = (migrations.directory / "versions").glob("*.py")
    right = path.read_text()
    path.write_text(right.replace("def downgrade", "    1 / 0\n\n\ndef downgrade"))
    with pytest.raises(ZeroDivisionError):
        migrations.upgrade()
    assert dump(pg_url) == before
    path.write_text(right)
    migrations.upgrade()
    assert migrations.check() == []


@pytest.mark.parametrize("place", ["per_migration", "outside"])
def test_the_lock_says_where_it_belongs(migrations: Any, place: str) -> None:
    """Without a transaction around all, it would be lost, or hinder Alembic's own."""
    if place == "outside":
        env = migrations.directory / "env.py"
        content = env.read_text().replace("    sa_history.alembic.lock(context)\n", "")
        env.write_text(
            content.replace(
                "with context.begin",
                "sa_history.alembic.lock(context)\nwith context.begin",
            )
        )
    else:
        migrations.options = {"transaction_per_migration": True}
    migrations.metadata = models()
    with pytest.raises(CommandError) as error:
        migrations.upgrade()
    assert str(error.value) == (
        "sa_history.alembic.lock(context) has no transaction to hold the lock: call it "
        "within context.begin_transaction(), and not with transaction_per_migration"
    )


@pytest.mark.parametrize("level", LEVELS)
def test_the_lock_comes_before_a_query_that_takes_a_snapshot(
    migrations: Any, pg_engine: Engine, level: str
) -> None:
    env = migrations.directory / "env.py"
    query = 'config.attributes["connection"].exec_driver_sql("SELECT 1")'
    lock = "    sa_history.alembic.lock(context)\n"
    env.write_text(env.read_text().replace(lock, f"    {query}\n{lock}"))
    migrations.engine = pg_engine.execution_options(isolation_level=level.upper())
    migrations.metadata = models()
    if level == "read committed":
        migrations.upgrade()
        return
    with pytest.raises(CommandError) as error:
        migrations.upgrade()
    # PostgreSQL's own words, in any language, come last.
    assert str(error.value).startswith(
        "sa_history.alembic.lock(context) needs a READ COMMITTED transaction: call it "
        "before any query of the transaction, or give the engine "
        'isolation_level="READ COMMITTED"; SET TRANSACTION ISOLATION LEVEL '
    )


def test_the_lock_within_a_context_is_first_as_well(
    migrations: Any, pg_engine: Engine
) -> None:
    env = migrations.directory / "env.py"
    env.write_text(
        env.read_text().replace(
            "with context.begin_transaction():",
            "with context.begin_transaction(), "
            'sa_history.context(config.attributes["connection"], user=1):',
        )
    )
    migrations.engine = pg_engine.execution_options(isolation_level="SERIALIZABLE")
    migrations.metadata = models()
    migrations.revise()
    migrations.upgrade()
    migrations.engine = pg_engine
    assert migrations.check() == []
