"""What autogenerate finds, what it leaves alone, and what a revision then does."""

from __future__ import annotations

import asyncio
import enum
import logging
import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from alembic.autogenerate import produce_migrations
from alembic.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import (
    ARRAY,
    URL,
    Boolean,
    Column,
    Date,
    DateTime,
    Engine,
    Enum,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    create_engine,
    event,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import DOMAIN
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from sa_history import (
    FSM,
    AfterDelete,
    AfterUpdate,
    Audit,
    Insert,
    Protect,
    ReadOnly,
    Referencing,
    Snapshot,
    SoftDelete,
    Touch,
    Trigger,
    Versioned,
    attach,
    audit_table,
    new,
    old,
    track,
    view,
)
from sa_history.alembic import first_events
from sa_history.definition.operations import Delete, Update
from sa_history.testing.binaries import find_bindir


def account(metadata: MetaData, *columns: Column[Any], **options: Any) -> Table:
    return Table(
        "account",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("name", Text),
        *columns,
        **options,
    )


def tracked(*trackers: Any, **options: Any) -> MetaData:
    metadata = MetaData()
    track(*trackers, **options)(account(metadata))
    return metadata


def untracked() -> MetaData:
    metadata = MetaData()
    account(metadata)
    return metadata


def migrate(migrations: Any, metadata: Any, *x: str) -> str:
    """Make a revision and run it; nothing is left to do."""
    migrations.metadata = metadata
    revision: str = migrations.revise(*x)
    migrations.upgrade()
    assert migrations.check() == []
    return revision


def run(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def scalars(engine: Engine, query: str) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.scalars(text(query)))


def what(revision: str) -> list[str]:
    """Return what the upgrade does, of ours, in words."""
    upgrade = revision.partition("def downgrade")[0]
    return re.findall(r"history_ddl\(\n\s+'([^']*)'", upgrade)


def found(migrations: Any) -> list[Any]:
    """Return what ``alembic check`` says of ours."""
    return [diff[1] for diff in migrations.check() if diff[0] == "history_ddl"]


ODD = "PERFORM '100% :x {} \t \\ ''', $a$\"$$\"$a$; RETURN NULL;"


def odd_models() -> MetaData:
    metadata = MetaData()
    table = account(metadata)
    track(
        Snapshot,
        AfterUpdate(new.name == "50%:x {} \t ' \" $$ \\", label="odd % :x"),
        level="row",
    )(table)
    attach(Trigger("odd", "after", Insert, body=ODD))(table)
    view(
        "odd_view",
        metadata,
        select(table.c.id).where(table.c.name.like("a%:x\t'{}\\")),
    )
    return metadata


def test_offline_sql_run_by_psql_builds_the_same_as_the_upgrade(
    migrations: Any,
    pg_engine: Engine,
    pg_url: URL,
    dump: Callable[[URL], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    migrate(migrations, untracked())
    migrate(migrations, odd_models())
    online = dump(pg_url)
    assert ODD in scalars(
        pg_engine, "SELECT prosrc FROM pg_proc WHERE proname = 'account_odd'"
    )[0].replace("\n", "")
    migrations.downgrade("base")
    run(pg_engine, "DROP TABLE alembic_version")
    capsys.readouterr()
    subprocess.run(
        [
            find_bindir() / "psql",
            "--no-psqlrc",
            "--quiet",
            "--set=ON_ERROR_STOP=1",
            pg_url.set(drivername="postgresql").render_as_string(hide_password=False),
        ],
        input=migrations.sql(capsys),
        text=True,
        check=True,
    )
    assert dump(pg_url) == online
    assert migrations.check() == []


ALL = (
    "create function public.pghistory_context_attach",
    "create function public.pghistory_context_value",
    "create function public.pghistory_context_append_only",
)


def test_the_revision_tells_what_it_does_in_order(migrations: Any) -> None:
    revision = migrate(migrations, tracked(AfterDelete, append_only=True))
    assert what(revision) == [
        "create sequence public.pghistory_id_seq",
        *ALL,
        "create function public.account_event_record",
        "create trigger account_event_delete on public.account",
        "create trigger account_event_truncate on public.account",
        "create trigger account_event_append_only on public.account_event",
    ]


def in_schemas() -> MetaData:
    metadata = MetaData()
    track(Snapshot, schema="audit")(account(metadata))
    crm = account(metadata, schema="crm")
    track(Snapshot, append_only=True, event_name="CrmAccountEvent")(crm)
    return metadata


def test_with_include_schemas_all_schemas_are_compared(
    migrations: Any, pg_engine: Engine, pg_url: URL, dump: Callable[[URL], str]
) -> None:
    run(pg_engine, "CREATE SCHEMA audit", "CREATE SCHEMA crm")
    before = dump(pg_url)
    migrations.options = {"include_schemas": True}
    migrate(migrations, in_schemas())
    run(pg_engine, "INSERT INTO account VALUES (1)")
    assert scalars(pg_engine, "SELECT id FROM audit.account_event") == [1]
    migrations.downgrade("base")
    assert dump(pg_url) == before


def test_without_include_schemas_other_schemas_are_left_alone(
    migrations: Any, pg_engine: Engine
) -> None:
    run(pg_engine, "CREATE SCHEMA crm")
    elsewhere = MetaData()
    track(Snapshot)(account(elsewhere, schema="crm"))
    elsewhere.create_all(pg_engine)
    migrate(migrations, tracked())
    migrate(migrations, untracked())
    assert scalars(
        pg_engine,
        "SELECT tgname FROM pg_trigger WHERE tgrelid = 'crm.account'::regclass "
        "ORDER BY 1",
    ) == ["account_event_insert", "account_event_update"]


def test_what_serves_events_in_a_schema_comes_with_them(
    migrations: Any, pg_engine: Engine
) -> None:
    """Alembic creates tables of the models in any schema, and so do we."""
    run(pg_engine, "CREATE SCHEMA audit")
    migrations.metadata = MetaData()
    track(Snapshot, schema="audit")(account(migrations.metadata))
    migrations.revise()
    migrations.upgrade()
    run(pg_engine, "INSERT INTO account VALUES (1)")
    assert scalars(pg_engine, "SELECT id FROM audit.account_event") == [1]
    assert found(migrations) == []
    # What others keep there is theirs: Alembic does not look at their tables either.
    others = customers("audit")
    others.create_all(pg_engine)
    assert found(migrations) == []


@pytest.mark.parametrize("kind", ["trigger", "function", "view", "sequence"])
def test_what_include_name_refuses_stays(
    migrations: Any, pg_engine: Engine, kind: str
) -> None:
    odd_models().create_all(pg_engine)
    asked = []

    def include(name: str, type_: str, parents: dict[str, Any]) -> bool:
        asked.append((type_, name, dict(parents)))
        return type_ != kind

    migrations.metadata = untracked()
    migrations.options = {"history_keep": False, "include_name": include}
    kinds = {item.split()[1] for item in found(migrations)}
    # What triggers call stays with them; that of the view goes with the view.
    left = {kind} if kind != "trigger" else {"function"}
    assert kinds == {"trigger", "function", "view", "sequence"} - left
    schema = {"schema_name": None}
    of_table = {"table_name": "account", "schema_qualified_table_name": "account"}
    assert ("trigger", "account_odd", schema | of_table) in asked
    assert ("function", "account_odd", schema) in asked


@pytest.mark.parametrize("kind", ["trigger", "function", "view", "sequence"])
def test_what_include_object_refuses_is_not_created(migrations: Any, kind: str) -> None:
    asked = set()

    def include(obj: Any, name: str, type_: str, reflected: bool, other: Any) -> bool:
        asked.add((type_, name, reflected, obj.name))
        return type_ != kind

    migrations.metadata = odd_models()
    migrations.options = {"include_object": include}
    kinds = {item.split()[1] for item in found(migrations)}
    assert kinds == {"trigger", "function", "view", "sequence"} - {kind}
    assert ("trigger", "account_odd", False, "account") in asked
    assert ("function", "account_event_record", False, "account_event") in asked


def test_what_stands_on_a_table_that_include_object_refuses_is_left_alone(
    migrations: Any,
) -> None:
    migrations.metadata = tracked()
    migrations.options = {
        "include_object": lambda obj, name, type_, *_: (
            type_ != "table" or name != "account"
        )
    }
    assert all(" on public.account" not in item for item in found(migrations))


NAMES = {
    "history_context_table": "crm_context",
    "history_sequence": "crm_id_seq",
    "history_event_table": "%(table_name)s_log",
    "history_function": "record_%(event_table_name)s",
    "history_trigger": "tr_%(event_table_name)s_%(operation)s",
}


def customers(schema: str | None = None) -> MetaData:
    metadata = MetaData(naming_convention=NAMES, schema=schema)
    track(Snapshot, append_only=True)(
        Table("customer", metadata, Column("id", Integer, primary_key=True))
    )
    return metadata


def test_two_metadata_of_one_database_are_compared_together(
    migrations: Any, pg_engine: Engine
) -> None:
    revision = migrate(migrations, [tracked(), customers()])
    assert "create function public.record_customer_log" in what(revision)
    assert "create trigger tr_customer_log_insert on public.customer" in what(revision)
    run(pg_engine, "INSERT INTO customer VALUES (1)")
    assert scalars(pg_engine, "SELECT pgh_label FROM customer_log") == ["snapshot"]
    assert migrate(migrations, [tracked(), customers()]).count("pass") == 2


def test_the_objects_of_another_application_stay_with_its_tables(
    migrations: Any, pg_engine: Engine, pg_url: URL, dump: Callable[[URL], str]
) -> None:
    """Two environments share a database, each with a filter for its tables."""
    other = customers()
    attach(Protect(Delete))(other.tables["customer"])
    other.create_all(pg_engine)
    before = dump(pg_url)
    mine = tracked()
    migrations.options = {
        "include_name": lambda name, type_, _: type_ != "table" or name in mine.tables
    }
    revision = migrate(migrations, mine)
    assert "customer" not in revision
    assert "crm" not in revision
    migrations.downgrade()
    assert dump(pg_url) == before


@pytest.mark.parametrize(
    "options",
    [
        {"render_as_batch": True},
        {"alembic_module_prefix": "alembic.op."},
        {"version_table_schema": "versions"},
        {"transaction_per_migration": False, "compare_type": True},
        {"autogenerate_plugins": ["alembic.autogenerate.*"]},
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_of_alembic(
    migrations: Any,
    pg_engine: Engine,
    pg_url: URL,
    dump: Callable[[URL], str],
    options: dict[str, Any],
) -> None:
    run(pg_engine, "CREATE SCHEMA versions")
    empty = dump(pg_url)
    migrations.options = options
    if "alembic_module_prefix" in options:
        template = migrations.directory / "script.py.mako"
        template.write_text("import alembic\n" + template.read_text())
    migrate(migrations, tracked(AfterUpdate(new.name == "x"), level="row"))
    metadata = MetaData()
    track(AfterUpdate(new.title == "x"), level="row")(
        account(metadata, Column("title", String(5)))
    )
    revision = migrate(migrations, metadata)
    assert ("alembic.op.history_ddl(" in revision) == (
        "alembic_module_prefix" in options
    )
    assert ("batch_alter_table" in revision) == ("render_as_batch" in options)
    migrations.downgrade("base")
    run(pg_engine, "DROP TABLE IF EXISTS versions.alembic_version")
    assert dump(pg_url) == empty


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
        "CREATE TRIGGER stranger AFTER INSERT ON account REFERENCING NEW TABLE AS "
        "new_rows FOR EACH STATEMENT EXECUTE FUNCTION account_event_record()",
    )
    assert migrations.check() == []
    assert "stranger" not in migrate(migrations, tracked(AfterDelete))


@pytest.mark.parametrize(
    ("stranger", "message"),
    [
        (
            "CREATE FUNCTION account_event_record() RETURNS trigger LANGUAGE plpgsql "
            "AS 'BEGIN RETURN NULL; END'",
            'function "account_event_record" already exists',
        ),
        (
            "CREATE TRIGGER account_event_insert AFTER INSERT ON account "
            "FOR EACH ROW EXECUTE FUNCTION stranger()",
            'trigger "account_event_insert" for relation "account" already exists',
        ),
        (
            "CREATE VIEW odd_view AS SELECT 1 AS id",
            'relation "odd_view" already exists',
        ),
        (
            "CREATE SEQUENCE pghistory_id_seq INCREMENT 7",
            'relation "pghistory_id_seq" already exists',
        ),
    ],
    ids=["function", "trigger", "view", "sequence"],
)
def test_a_name_that_others_have_is_refused_and_theirs_stays(
    migrations: Any,
    pg_engine: Engine,
    pg_url: URL,
    dump: Callable[[URL], str],
    stranger: str,
    message: str,
) -> None:
    migrate(migrations, untracked())
    run(
        pg_engine,
        "CREATE FUNCTION stranger() RETURNS trigger LANGUAGE plpgsql "
        "AS 'BEGIN RETURN NULL; END'",
        stranger,
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
    assert "-- sa_history: version 1\n" in definition
    run(engine, definition.replace("version 1\n", f"version {version}\n"))


def test_the_function_of_a_newer_library_is_left_alone(
    migrations: Any, pg_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    migrate(migrations, tracked())
    reversion(pg_engine, 2)
    with caplog.at_level(logging.WARNING):
        assert migrations.check() == []
    assert caplog.messages == [
        "function public.pghistory_context_attach was made by a newer sa_history, "
        "and stays; upgrade the library"
    ]


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


def test_untracking_keeps_events_protected_and_tracking_again_goes_on(
    migrations: Any, pg_engine: Engine, pg_url: URL, dump: Callable[[URL], str]
) -> None:
    migrate(migrations, tracked(Snapshot, append_only=True))
    first = dump(pg_url)
    run(pg_engine, "INSERT INTO account VALUES (1)")
    migrate(migrations, untracked())
    run(pg_engine, "INSERT INTO account VALUES (2)")
    with pytest.raises(DBAPIError, match="append-only"):
        run(pg_engine, "DELETE FROM account_event")
    migrations.downgrade()
    assert dump(pg_url) == first
    migrations.upgrade()
    revision = migrate(migrations, tracked(Snapshot, append_only=True))
    assert "create_table" not in revision
    assert dump(pg_url) == first
    run(pg_engine, "INSERT INTO account VALUES (3)")
    query = "SELECT ARRAY[pgh_id, id] FROM account_event ORDER BY pgh_id"
    assert scalars(pg_engine, query) == [[1, 1], [2, 3]]


def test_untracking_drops_all_where_history_is_not_kept(
    migrations: Any, pg_engine: Engine, pg_url: URL, dump: Callable[[URL], str]
) -> None:
    migrate(migrations, untracked())
    before = dump(pg_url)
    migrate(migrations, tracked(Snapshot, append_only=True))
    with_history = dump(pg_url)
    migrations.options = {"history_keep": False}
    migrate(migrations, untracked())
    assert dump(pg_url) == before
    migrations.downgrade()
    assert dump(pg_url) == with_history
    run(pg_engine, "INSERT INTO account VALUES (1)")
    assert scalars(pg_engine, "SELECT id FROM account_event") == [1]


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "dropped"])
def test_the_past_of_a_dropped_column(
    migrations: Any, pg_engine: Engine, keep: bool
) -> None:
    migrations.options = {} if keep else {"history_keep": False}
    metadata = MetaData()
    track()(account(metadata, Column("age", Integer)))
    migrate(migrations, metadata)
    run(pg_engine, "INSERT INTO account VALUES (1, 'a', 3)")
    migrate(migrations, tracked())
    run(pg_engine, "INSERT INTO account VALUES (2, 'a')")
    ages = scalars(
        pg_engine,
        "SELECT to_jsonb(e) ->> 'age' FROM account_event AS e ORDER BY pgh_id",
    )
    assert ages == (["3", None] if keep else [None, None])


def test_the_model_goes_and_its_events_stay(
    migrations: Any, pg_engine: Engine, pg_url: URL, dump: Callable[[URL], str]
) -> None:
    migrate(migrations, tracked(Snapshot, append_only=True))
    before = dump(pg_url)
    run(pg_engine, "INSERT INTO account VALUES (1)")
    assert "op.drop_table('account')" in migrate(migrations, MetaData())
    assert scalars(pg_engine, "SELECT id FROM account_event") == [1]
    migrations.downgrade()
    assert dump(pg_url) == before


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            "rename_column=account.name",
            "-x rename_column=account.name: write -x rename_column=table.old:new",
        ),
        (
            "rename_column=name:title",
            "-x rename_column=name:title: write -x rename_column=table.old:new",
        ),
        (
            "rename_column=account.name:title",
            "-x rename_column=account.name:title: the models do not drop 'name' and "
            "add 'title' in account",
        ),
        (
            "rename_column",
            "-x rename_column=: write -x rename_column=table.old:new",
        ),
        (
            "rename_table=:customer",
            "-x rename_table=:customer: write -x rename_table=old:new",
        ),
        (
            "rename_table=account:customer",
            "-x rename_table=account:customer: the models do not drop account and "
            "create customer",
        ),
    ],
    ids=lambda value: value if "=" in value and " " not in value else "",
)
def test_a_rename_that_cannot_be_says_why(
    migrations: Any, x: str, message: str
) -> None:
    migrate(migrations, tracked())
    with pytest.raises(CommandError) as error:
        migrations.revise(x)
    assert str(error.value) == message


@pytest.mark.parametrize("sequence", ["crm_id_seq", "%(context_table_name)s_id_seq"])
def test_numbers_go_on_where_the_context_table_is_renamed(
    migrations: Any,
    pg_engine: Engine,
    pg_url: URL,
    dump: Callable[[URL], str],
    sequence: str,
) -> None:
    def named(context_table: str) -> MetaData:
        names = {
            **NAMES,
            "history_context_table": context_table,
            "history_sequence": sequence,
            "history_index": "ix_%(event_table_name)s_%(column_name)s",
        }
        metadata = MetaData(naming_convention=names)
        track(Snapshot)(account(metadata))
        return metadata

    insert = (
        "BEGIN; SELECT set_config('pghistory.context_id', "
        "'00000000-0000-0000-0000-000000000001', true); "
        "INSERT INTO account VALUES ({0}); COMMIT"
    )
    migrate(migrations, named("crm_context"))
    first = dump(pg_url)
    run(pg_engine, insert.format(1))
    # Of another application in the same database, without history.
    both = [named("who"), MetaData()]
    revision = migrate(migrations, both, "rename_table=crm_context:who")
    moves = [] if sequence == "crm_id_seq" else ["rename sequence public.crm_context"]
    assert [
        line.partition("_id_seq")[0] for line in what(revision) if "sequence" in line
    ] == moves
    run(pg_engine, insert.format(2))
    query = "SELECT ARRAY[pgh_id, id] FROM account_log ORDER BY pgh_id"
    assert scalars(pg_engine, query) == [[1, 1], [2, 2]]
    migrations.downgrade()
    assert dump(pg_url) == first
    run(pg_engine, insert.format(3))
    assert scalars(pg_engine, query) == [[1, 1], [2, 2], [3, 3]]


def test_an_event_table_with_a_name_of_its_own_stays_or_moves_with_its_table(
    migrations: Any, pg_engine: Engine
) -> None:
    def named(name: str, schema: str | None = None) -> MetaData:
        metadata = MetaData()
        columns = Column("id", Integer, primary_key=True), Column("name", Text)
        track(Snapshot, event_table="audit")(
            Table(name, metadata, *columns, schema=schema)
        )
        return metadata

    run(pg_engine, "CREATE SCHEMA crm")
    migrations.options = {"include_schemas": True}
    migrate(migrations, named("account"))
    run(pg_engine, "INSERT INTO account VALUES (1)")
    migrate(migrations, named("customer"), "rename_table=account:customer")
    run(pg_engine, "INSERT INTO customer VALUES (2)")
    query = "SELECT id FROM {} ORDER BY pgh_id"
    assert scalars(pg_engine, query.format("audit")) == [1, 2]
    revision = migrate(
        migrations, named("customer", "crm"), "rename_table=customer:crm.customer"
    )
    assert "rename table audit to crm.audit" in what(revision)
    run(pg_engine, "INSERT INTO crm.customer VALUES (3)")
    assert scalars(pg_engine, query.format("crm.audit")) == [1, 2, 3]


def test_a_column_that_events_do_not_store_is_renamed_in_its_table_alone(
    migrations: Any, pg_engine: Engine
) -> None:
    def with_columns(*columns: Column[Any], exclude: str) -> MetaData:
        metadata = MetaData()
        track(Snapshot, exclude=[exclude])(account(metadata, *columns))
        return metadata

    migrate(migrations, with_columns(Column("secret", Text), exclude="secret"))
    run(pg_engine, "INSERT INTO account VALUES (1, 'a', 'x')")
    both = Column("key", Text), Column("age", Integer)
    revision = migrate(
        migrations,
        with_columns(*both, exclude="key"),
        "rename_column=account.secret:key",
    )
    renames = [line for line in what(revision) if line.startswith("rename")]
    assert renames == ["rename column account.secret to key"]
    assert "op.add_column('account', sa.Column('age'" in revision, "beside the rename"
    assert scalars(pg_engine, "SELECT key FROM account") == ["x"]


def test_an_event_keeps_the_key_that_its_row_had(
    migrations: Any, pg_engine: Engine
) -> None:
    """New events have no value for it, so it may be NULL from then on."""

    def keyed(*names: str) -> MetaData:
        metadata = MetaData()
        columns = (Column(name, Integer, primary_key=True) for name in names)
        track(Snapshot)(Table("badge", metadata, *columns))
        return metadata

    migrate(migrations, keyed("number", "part", "page"))
    run(pg_engine, "INSERT INTO badge VALUES (7, 1, 2)")
    migrate(migrations, keyed("number", "part"))
    run(pg_engine, "INSERT INTO badge VALUES (8, 1)")
    query = "SELECT ROW(number, part, page)::text FROM badge_event ORDER BY pgh_id"
    assert scalars(pg_engine, query) == ["(7,1,2)", "(8,1,)"]


def test_a_table_that_is_renamed_gets_its_new_columns_later(migrations: Any) -> None:
    """Or its trigger would write a column that is not there."""
    migrate(migrations, tracked())
    migrations.metadata = MetaData()
    columns = (Column("id", Integer, primary_key=True), Column("age", Integer))
    track()(Table("customer", migrations.metadata, *columns))
    with pytest.raises(CommandError) as error:
        migrations.revise("rename_table=account:customer")
    assert str(error.value) == (
        "-x rename_table=account:customer: customer has columns that account has not: "
        "age; rename the table first, and add them in a revision of their own"
    )


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Letter(TypeDecorator[Any]):
    impl = Enum("a", "b", name="letter")
    cache_ok = True


def test_types_of_its_own_come_with_the_tracked_table(
    migrations: Any, pg_engine: Engine
) -> None:
    metadata = MetaData()
    migrations.options = {"user_module_prefix": ""}
    track(Snapshot, context_columns=[Column("why", Enum("p", "q", name="why"))])(
        account(
            metadata,
            Column("colour", Enum(Colour, name="colour")),
            Column("flags", ARRAY(Enum("x", "y", name="flag"))),
            Column("letter", Letter),
            Column("size", Enum("s", "m", native_enum=False)),
            Column("age", DOMAIN("age", Integer, check="VALUE > 0")),
        )
    )
    template = migrations.directory / "script.py.mako"
    # Integer, because SQLAlchemy 2.0 names a domain's type without its module.
    header = f"from sqlalchemy import Integer\nfrom {__name__} import Letter\n"
    template.write_text(header + template.read_text())
    migrate(migrations, metadata)
    values = "(1, 'n', 'RED', '{x,y}', 'b', 's', 7)"
    run(pg_engine, f"INSERT INTO account VALUES {values}")
    assert scalars(
        pg_engine,
        "SELECT ROW(colour, flags, letter, size, age)::text FROM account_event",
    ) == ['(RED,"{x,y}",b,s,7)']


def test_a_table_may_refer_to_events(migrations: Any, pg_engine: Engine) -> None:
    metadata = tracked()
    Table(
        "comment",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("event_id", ForeignKey("account_event.pgh_id")),
    )
    Table("reply", metadata, Column("id", ForeignKey("comment.id"), primary_key=True))
    migrate(migrations, metadata)


def test_names_that_the_models_give(migrations: Any, pg_engine: Engine) -> None:
    metadata = MetaData(naming_convention=NAMES)
    table = account(metadata)
    track(event_table="Account's log")(table)
    track(AfterDelete, events="gone")(table)
    migrate(migrations, metadata)
    run(pg_engine, "INSERT INTO account VALUES (1)", "DELETE FROM account")
    assert scalars(pg_engine, 'SELECT pgh_label FROM "Account\'s log"') == [
        "snapshot",
        "delete",
    ]
    assert scalars(pg_engine, "SELECT pgh_label FROM account_log") == ["delete"]


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


def test_what_cannot_be_taken_back_says_so() -> None:
    dropped = first_events.BaselineOp("account", "SELECT 0").reverse()
    assert dropped.statements == ()
    with pytest.raises(NotImplementedError) as error:
        dropped.reverse()
    assert str(error.value) == (
        "'first events of account go with their table' cannot be taken back"
    )


def test_another_database_has_tables_alone() -> None:
    """As where the models of one MetaData are spread over several databases."""
    metadata = untracked()
    attach(Protect(Delete))(metadata.tables["account"])
    with create_engine("sqlite://").connect() as connection:
        context = MigrationContext.configure(connection)
        found = produce_migrations(context, metadata).upgrade_ops
    assert found is not None
    assert [type(op).__name__ for op in found.ops] == ["CreateTableOp"]


def rich_models() -> MetaData:
    metadata = MetaData()
    first = account(
        metadata,
        Column("version", Integer, nullable=False, server_default="1"),
        Column("status", String(9), nullable=False, server_default="new"),
        Column("active", Boolean, nullable=False, server_default=text("true")),
        Column("at", DateTime(timezone=True), server_default=func.now()),
    )
    log = audit_table("audit_log", metadata)
    attach(Protect(Update | Delete, name="append_only", ignorable=False))(log)
    attach(
        Audit(into=log),
        FSM("status", transitions=[("new", "old")], initial=["new"]),
        SoftDelete("active"),
        Versioned("version"),
        Touch("at"),
        ReadOnly("id"),
        Protect(Delete, condition=old.name == "50%", name="half"),
        Trigger(
            "count",
            "after",
            Insert,
            level="statement",
            referencing=Referencing(new="added"),
            body="PERFORM count(*) FROM added; RETURN NULL;",
        ),
        Trigger("late", "after", Update, deferrable="deferred", body="RETURN NULL;"),
    )(first)
    track(Snapshot, AfterDelete, append_only=True)(first)
    track(
        AfterUpdate(new.name == "x", label="x"),
        events="log",
        event_table="account_inline",
        context="inline",
        context_columns=[Column("reason", String, nullable=False)],
        level="row",
    )(first)
    second = Table("tag", metadata, Column("name", Text, primary_key=True))
    track(Snapshot, context=None, level="row", ignorable=False)(second)
    inner = view("active_account", metadata, select(first.c.id, first.c.name))
    attach(Trigger("write", "instead of", Insert, body="RETURN NEW;"))(inner)
    view("names", metadata, select(inner.c.name).where(inner.c.name != "a%"))
    return metadata


def test_create_all_and_upgrade_build_the_same(
    migrations: Any, pg_engine: Engine, pg_url: URL, dump: Callable[[URL], str]
) -> None:
    empty = dump(pg_url)
    migrate(migrations, rich_models())
    upgraded = dump(pg_url)
    migrations.downgrade()
    assert dump(pg_url) == empty
    rich_models().create_all(pg_engine)
    created = dump(pg_url)
    assert sorted(created.split(";\n")) == sorted(upgraded.split(";\n"))
    # Moving from create_all: the revision exists, and is not run.
    migrations.stamp()
    assert migrations.check() == []


def many(tables: int) -> MetaData:
    metadata = MetaData()
    for number in range(tables):
        table = Table(
            f"t{number}",
            metadata,
            Column("id", Integer, primary_key=True),
            Column("name", Text),
        )
        track(Snapshot, AfterDelete)(table)
    return metadata


def test_nothing_to_do_costs_few_queries_and_no_locks(pg_engine: Engine) -> None:
    """They are as many for forty tables as for five, and they only read."""
    ours = {}
    for tables in (5, 40):
        metadata = many(tables)
        metadata.create_all(pg_engine)
        statements: list[str] = []
        with pg_engine.connect() as connection:
            connection.execute(text("SET TRANSACTION READ ONLY"))
            context = MigrationContext.configure(connection)
            listen = (
                connection,
                "before_cursor_execute",
                lambda c, cursor, statement, *_, s=statements: s.append(statement),
            )
            event.listen(*listen)
            script = produce_migrations(context, metadata)
            event.remove(*listen)
            modes = connection.scalars(
                text("SELECT DISTINCT mode FROM pg_locks WHERE pid = pg_backend_pid()")
            )
            assert set(modes) <= {"AccessShareLock", "ExclusiveLock"}
            exclusive = text(
                "SELECT DISTINCT locktype FROM pg_locks "
                "WHERE pid = pg_backend_pid() AND mode = 'ExclusiveLock'"
            )
            assert set(connection.scalars(exclusive)) == {"virtualxid"}
        assert script.upgrade_ops is not None
        assert script.upgrade_ops.is_empty()
        # One of them asks for the current schema, the others have the mark.
        ours[tables] = [s for s in statements if "(mark)s" in s]
        assert all(re.match(r"\s*(SELECT|select|show)\b", s) for s in statements)
    assert len(ours[5]) == len(ours[40]) == 3
