"""A revision: what it says, and that it builds the same as create_all."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from alembic.autogenerate import produce_migrations
from alembic.migration import MigrationContext
from sqlalchemy import (
    URL,
    Boolean,
    Column,
    DateTime,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    event,
    func,
    select,
    text,
)

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
from tests.migrations.models import (
    ODD,
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


def test_what_cannot_be_taken_back_says_so() -> None:
    dropped = first_events.BaselineOp("account", "SELECT 0").reverse()
    assert dropped.statements == ()
    with pytest.raises(NotImplementedError) as error:
        dropped.reverse()
    assert str(error.value) == (
        "'first events of account go with their table' cannot be taken back"
    )


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


def test_a_merge_revision_records_the_columns_of_both_branches(
    migrations: Any, pg_engine: Engine
) -> None:
    """Each branch has a function of its own; the one that runs last is the one left."""

    def models(*names: str) -> MetaData:
        metadata = MetaData()
        track()(account(metadata, *(Column(name, Integer) for name in names)))
        return metadata

    def heads() -> list[str]:
        return list(migrations.scripts.get_heads())

    migrate(migrations, models())
    migrations.metadata = models("age")
    migrations.revise()
    (first,) = heads()
    # On the other branch nobody has it.
    (script,) = migrations.directory.glob(f"versions/{first}*.py")
    elsewhere = script.rename(migrations.directory / script.name)
    migrations.metadata = models("size")
    migrations.revise()
    elsewhere.rename(script)
    migrations.upgrade("heads")
    migrations.metadata = models("age", "size")
    run(pg_engine, "INSERT INTO account (id, name, age, size) VALUES (1, 'a', 2, 3)")
    query = "SELECT ROW(age, size)::text FROM account_event ORDER BY pgh_id"
    assert scalars(pg_engine, query) != ["(2,3)"]
    assert found(migrations) == ["replace function public.account_event_record"]

    revision = migrations.revise(head="heads")

    assert what(revision) == ["replace function public.account_event_record"]
    (merged,) = heads()
    assert first in migrations.scripts.get_revision(merged).down_revision
    migrations.upgrade()
    assert migrations.check() == []
    run(pg_engine, "INSERT INTO account (id, name, age, size) VALUES (2, 'b', 4, 5)")
    assert scalars(pg_engine, query)[1:] == ["(4,5)"]
