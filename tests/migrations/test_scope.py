"""Which schemas, tables and options of env.py autogenerate keeps to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from alembic.autogenerate import produce_migrations
from alembic.migration import MigrationContext
from sqlalchemy import (
    URL,
    Column,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
)

from sa_history import AfterUpdate, Protect, Snapshot, attach, new, track
from sa_history.definition.operations import Delete
from tests.migrations.models import (
    NAMES,
    account,
    found,
    migrate,
    odd_models,
    run,
    scalars,
    tracked,
    untracked,
    what,
)


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
def test_options_of_alembic_are_honoured(
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


def test_another_database_has_tables_alone() -> None:
    """As where the models of one MetaData are spread over several databases."""
    metadata = untracked()
    attach(Protect(Delete))(metadata.tables["account"])
    with create_engine("sqlite://").connect() as connection:
        context = MigrationContext.configure(connection)
        found = produce_migrations(context, metadata).upgrade_ops
    assert found is not None
    assert [type(op).__name__ for op in found.ops] == ["CreateTableOp"]
