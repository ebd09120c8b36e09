"""What somebody changed by hand, and what is not ours to mend."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import URL, Column, Date, Engine, Integer, MetaData, Table
from sqlalchemy.exc import DBAPIError

from sa_history import AfterDelete, AfterUpdate, Snapshot, new, track
from sa_history.sql.functions import VERSION
from tests.migrations.models import (
    found,
    migrate,
    odd_models,
    run,
    scalars,
    tracked,
    untracked,
    what,
)


def test_the_clones_of_triggers_on_partitions_are_no_drift(
    migrations: Any, pg_engine: Engine
) -> None:
    def partitioned(*trackers: Any) -> MetaData:
        metadata = MetaData()
        table = Table(
            "post",
            metadata,
            Column("id", Integer, primary_key=True),
            Column("day", Date, primary_key=True),
            postgresql_partition_by="RANGE (day)",
        )
        track(*trackers, level="row")(table)
        return metadata

    # Partitions are of no model, here as in real life.
    migrations.options = {
        "include_name": lambda name, type_, _: type_ != "table" or name != "post_1"
    }
    migrate(migrations, partitioned(Snapshot))
    run(
        pg_engine,
        "CREATE TABLE post_1 PARTITION OF post "
        "FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
    )
    assert migrations.check() == []
    migrate(migrations, partitioned(AfterDelete))
    run(
        pg_engine,
        "INSERT INTO post VALUES (1, '2026-02-01')",
        "DELETE FROM post_1",
    )
    assert scalars(pg_engine, "SELECT pgh_label FROM post_event") == ["delete"]


def test_a_trigger_of_others_that_calls_our_function_stays(
    migrations: Any, pg_engine: Engine
) -> None:
    migrate(migrations, tracked(AfterUpdate))
    run(
        pg_engine,
        "CREATE TRIGGER of_others AFTER INSERT ON account REFERENCING NEW TABLE AS "
        "new_rows FOR EACH STATEMENT EXECUTE FUNCTION account_event_record()",
    )
    assert migrations.check() == []
    assert "of_others" not in migrate(migrations, tracked(AfterDelete))


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        (
            "CREATE FUNCTION account_event_record() RETURNS trigger LANGUAGE plpgsql "
            "AS 'BEGIN RETURN NULL; END'",
            "DuplicateFunction.*account_event_record",
        ),
        (
            "CREATE TRIGGER account_event_insert AFTER INSERT ON account "
            "FOR EACH ROW EXECUTE FUNCTION of_others()",
            "DuplicateObject.*account_event_insert",
        ),
        (
            "CREATE VIEW odd_view AS SELECT 1 AS id",
            "DuplicateTable.*odd_view",
        ),
        (
            "CREATE SEQUENCE pghistory_id_seq INCREMENT 7",
            "DuplicateTable.*pghistory_id_seq",
        ),
    ],
    ids=["function", "trigger", "view", "sequence"],
)
def test_a_name_that_others_have_is_refused_and_theirs_stays(
    migrations: Any,
    pg_engine: Engine,
    pg_url: URL,
    dump: Callable[[URL], str],
    theirs: str,
    message: str,
) -> None:
    migrate(migrations, untracked())
    run(
        pg_engine,
        "CREATE FUNCTION of_others() RETURNS trigger LANGUAGE plpgsql "
        "AS 'BEGIN RETURN NULL; END'",
        theirs,
    )
    before = dump(pg_url)
    migrations.metadata = odd_models()
    migrations.revise()
    with pytest.raises(DBAPIError, match=message):
        migrations.upgrade()
    assert dump(pg_url) == before


def test_a_disabled_trigger_is_reported_and_enabled(
    migrations: Any, pg_engine: Engine, pg_url: URL, dump: Callable[[URL], str]
) -> None:
    migrate(migrations, tracked(AfterDelete))
    run(pg_engine, "ALTER TABLE account DISABLE TRIGGER account_event_delete")
    disabled = dump(pg_url)
    enable = "enable trigger account_event_delete on public.account"
    assert found(migrations) == [enable]
    assert what(migrate(migrations, tracked(AfterDelete))) == [enable]
    migrations.downgrade()
    assert dump(pg_url) == disabled


@pytest.mark.parametrize(("mode", "state"), [("ALWAYS", "A"), ("REPLICA", "R")])
def test_firing_on_replicas_survives_a_change(
    migrations: Any, pg_engine: Engine, mode: str, state: str
) -> None:
    migrate(migrations, tracked(AfterUpdate, level="row"))
    run(pg_engine, f"ALTER TABLE account ENABLE {mode} TRIGGER account_event_update")
    states = "SELECT tgenabled::text FROM pg_trigger WHERE tgname ~ 'event_update'"
    assert migrations.check() == []
    migrate(migrations, tracked(AfterUpdate(new.name == "x"), level="row"))
    assert scalars(pg_engine, states) == [state]
    migrations.downgrade()
    assert scalars(pg_engine, states) == [state]


def test_what_was_changed_by_hand_is_brought_back(
    migrations: Any, pg_engine: Engine, pg_url: URL, dump: Callable[[URL], str]
) -> None:
    """The marks stay when an object is replaced, so they tell nothing here."""
    migrate(migrations, tracked(AfterDelete))
    right = dump(pg_url)
    run(
        pg_engine,
        "CREATE OR REPLACE FUNCTION account_event_record() RETURNS trigger "
        "LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE OR REPLACE TRIGGER account_event_delete AFTER INSERT ON account "
        "FOR EACH ROW EXECUTE FUNCTION account_event_record()",
        "DROP TRIGGER account_event_truncate ON account",
        "ALTER FUNCTION pghistory_context_attach() SECURITY INVOKER",
    )
    wrong = dump(pg_url)
    assert what(migrate(migrations, tracked(AfterDelete))) == [
        "drop trigger account_event_delete on public.account",
        "replace function public.pghistory_context_attach",
        "replace function public.account_event_record",
        "create trigger account_event_delete on public.account",
        "create trigger account_event_truncate on public.account",
    ]
    assert dump(pg_url) == right
    migrations.downgrade()
    assert dump(pg_url) == wrong


def reversion(engine: Engine, version: int) -> None:
    """Replace a fixed function as another version of the library has it."""
    (definition,) = scalars(
        engine, "SELECT pg_get_functiondef('pghistory_context_attach'::regproc)"
    )
    ours = f"-- sa_history: version {VERSION}\n"
    assert ours in definition
    run(engine, definition.replace(ours, f"-- sa_history: version {version}\n"))


def test_the_function_of_a_newer_library_is_left_alone(
    migrations: Any, pg_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    migrate(migrations, tracked())
    reversion(pg_engine, VERSION + 1)
    with caplog.at_level(logging.WARNING):
        assert migrations.check() == []
    assert caplog.messages == [
        "function public.pghistory_context_attach was made by a newer sa_history, "
        "and stays; upgrade the library"
    ]
    # Others are turned off by env.py, unless alembic.ini names them.
    assert {record.name for record in caplog.records} == {"alembic.sa_history"}


def test_the_function_of_an_older_library_is_replaced(
    migrations: Any, pg_engine: Engine
) -> None:
    migrate(migrations, tracked())
    reversion(pg_engine, 0)
    assert what(migrate(migrations, tracked())) == [
        "replace function public.pghistory_context_attach"
    ]
    migrations.downgrade()
    (source,) = scalars(
        pg_engine,
        "SELECT prosrc FROM pg_proc WHERE proname = 'pghistory_context_attach'",
    )
    assert "-- sa_history: version 0\n" in source


@pytest.mark.filterwarnings("ignore:Did not recognize type")
def test_names_that_postgresql_prints_with_quotes_are_no_drift(
    migrations: Any, pg_engine: Engine, pg_url: URL
) -> None:
    """SQLAlchemy reflects no types then, and Alembic compares none."""
    run(
        pg_engine,
        f'ALTER DATABASE "{pg_url.database}" SET quote_all_identifiers = on',
    )
    pg_engine.dispose()
    migrate(migrations, tracked(context_columns=[Column("why", Date)]))
    migrations.downgrade()
    migrations.upgrade()
    assert migrations.check() == []
