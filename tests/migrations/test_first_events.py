"""First events for the rows of a table that becomes tracked."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import URL, Column, Engine, MetaData, Table, Text
from sqlalchemy.ext.asyncio import create_async_engine

from sa_history import track
from sa_history.alembic import first_events
from tests.migrations.models import account, migrate, run, scalars, tracked, untracked


def test_baseline_gives_the_rows_that_are_there_their_first_event(
    migrations: Any,
    pg_engine: Engine,
    pg_url: URL,
    dump: Callable[[URL], str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    migrate(migrations, untracked())
    before = dump(pg_url)
    run(pg_engine, "INSERT INTO account SELECT n, 'a' FROM generate_series(1, 3) n")
    monkeypatch.setattr(first_events, "BATCH", 2)
    caplog.set_level(logging.INFO, logger="alembic.sa_history")
    revision = migrate(migrations, tracked(), "baseline")
    assert "op.history_baseline(\n        'account',\n" in revision
    assert {
        "Detected create trigger account_event_insert on public.account",
        "Detected history_baseline account",
    } <= {*caplog.messages}
    assert [
        record.message for record in caplog.records if "first" in record.message
    ] == [
        "first events of account: 2",
        "first events of account: 3",
    ]
    query = "SELECT ROW(pgh_op, pgh_label, id)::text FROM account_event ORDER BY id"
    assert scalars(pg_engine, query) == [
        "(B,baseline,1)",
        "(B,baseline,2)",
        "(B,baseline,3)",
    ]
    migrations.downgrade()
    assert dump(pg_url) == before
    capsys.readouterr()
    offline = migrations.sql(capsys)
    loop = re.search(r"DO \$history1\$.*?\$history1\$;", offline, re.DOTALL)
    assert loop is not None
    migrations.upgrade()
    run(pg_engine, "DELETE FROM account_event WHERE id > 1", loop[0])
    assert scalars(pg_engine, query) == [
        "(B,baseline,1)",
        "(B,baseline,2)",
        "(B,baseline,3)",
    ]


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_any_driver_writes_first_events(
    migrations: Any, pg_engine: Engine, pg_url: URL, driver: str
) -> None:
    def models() -> Table:
        return account(MetaData(), Column("50%", Text))

    migrate(migrations, models().metadata)
    run(pg_engine, "INSERT INTO account VALUES (1, 'a', 'b%%c')")
    migrations.metadata = track()(models()).metadata
    shown = migrations.check("baseline")
    assert [diff for diff in shown if diff[0] == "history_baseline"] == [
        ("history_baseline", "account")
    ]
    migrations.revise("baseline")

    async def upgrade() -> None:
        engine = create_async_engine(pg_url.set(drivername=f"postgresql+{driver}"))
        migrations.engine = engine.sync_engine
        async with engine.connect() as connection:
            await connection.run_sync(lambda _: migrations.upgrade())
        await engine.dispose()

    asyncio.run(upgrade())
    query = 'SELECT ROW(pgh_op, id, "50%")::text FROM account_event'
    assert scalars(pg_engine, query) == ["(B,1,b%c)"]
