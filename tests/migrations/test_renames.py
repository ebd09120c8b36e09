"""Renames, which are given on the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from alembic.util import CommandError
from sqlalchemy import URL, Column, Engine, Integer, MetaData, Table, Text

from sa_history import Snapshot, track
from tests.migrations.models import NAMES, account, migrate, run, scalars, tracked, what


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
            "add 'title' in account; rename it in the model, or correct the names",
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
            "create customer; rename it in the models, or correct the names",
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


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("basline", "baseline"),
        ("Baseline", "baseline"),
        ("hardn=app", "harden"),
        ("rename-column=a.b:c", "rename_column"),
        ("rename_tables=a:b", "rename_table"),
    ],
)
def test_an_argument_that_is_misspelt_is_refused(
    migrations: Any, given: str, meant: str
) -> None:
    with pytest.raises(
        CommandError, match=f"^-x {given}: there is no argument .*; write -x {meant}$"
    ):
        migrations.revise(given)


def test_arguments_of_the_environment_are_left_to_it(migrations: Any) -> None:
    migrations.revise("tenant=a", "base", "rename=b")
