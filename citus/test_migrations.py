"""The operations of revisions, which have final SQL and know no models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from alembic.autogenerate import produce_migrations
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.operations.ops import OpContainer
from sqlalchemy import Column, Engine, Integer, MetaData, Table, insert, text
from sqlalchemy.exc import DBAPIError

import sa_history.alembic  # noqa: F401 (it registers the operation)
from sa_history import track
from sa_history.ddl.elements import DatabaseObject
from sa_history.ddl.fingerprint import SetComment
from sa_history.exc import DistributionError
from sa_history.install import check, uninstall
from sa_history.install.expected import objects_of


def model(**options: Any) -> MetaData:
    metadata = MetaData()
    track(**options)(
        Table("account", metadata, Column("id", Integer, primary_key=True))
    )
    return metadata


def run(engine: Engine, metadata: MetaData, schema: str) -> None:
    """Run the operations that make all objects which are missing."""

    def statements(definition: DatabaseObject) -> list[str]:
        made = (definition.create(), SetComment(definition))
        return [fragment.render(lambda name: name or schema) for fragment in made]

    with engine.begin() as connection:
        operations: Any = Operations(MigrationContext.configure(connection))
        for expected in objects_of(metadata):
            operations.history_ddl("make it", *statements(expected.definition))


@pytest.mark.parametrize("level", ["statement", "row"])
def test_triggers_are_made_in_a_sharded_schema(
    level: str, tenant: Callable[[str], Engine]
) -> None:
    schema = f"migrated_{level}"
    metadata, engine = model(level=level, distribute=True), tenant(schema)
    metadata.create_all(engine)
    uninstall(engine, metadata)
    run(engine, metadata, schema)
    assert check(engine, metadata) == []
    with engine.begin() as connection:
        connection.execute(insert(metadata.tables["account"]).values(id=1))
        count = text(f"SELECT count(*) FROM {schema}.account_event")
        assert connection.scalar(count) == 1


@pytest.mark.parametrize("level", ["statement", "row"])
def test_triggers_that_number_events_by_the_node_are_refused(
    level: str, tenant: Callable[[str], Engine]
) -> None:
    schema = f"refused_{level}"
    metadata, engine = model(distribute=True), tenant(schema)
    metadata.create_all(engine)
    uninstall(engine, metadata)
    with pytest.raises(DistributionError, match=r"give track\(distribute=True\)"):
        run(engine, model(level=level), schema)


def ledger(*more: Column[Any], tenant: Any = Integer, **options: Any) -> MetaData:
    """Return a table, which is tracked if it has options.

    :param more: further columns.
    :param tenant: the type of the column that Citus may distribute it by.
    """
    metadata = MetaData()
    columns = [
        Column(
            name,
            tenant if name == "tenant" else Integer,
            primary_key=name != "note",
            autoincrement=False,
        )
        for name in ("tenant", "id", "note")
    ]
    table = Table("ledger", metadata, *columns, *more)
    if options:
        track(context="inline", **options)(table)
    return metadata


def upgrade(engine: Engine, metadata: MetaData) -> list[str]:
    """Autogenerate a revision, run it, and return what it does."""
    done, _ = revision(engine, metadata)
    return done


def revision(
    engine: Engine, metadata: MetaData
) -> tuple[list[str], Callable[[], list[str]]]:
    """Do the same, and return what takes it back, too."""
    of_models = set(metadata.tables)
    options = {
        "include_name": lambda name, kind, _: kind != "table" or name in of_models
    }
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts=options)
        made = produce_migrations(context, metadata)
        upgrade_ops, downgrade_ops = made.upgrade_ops, made.downgrade_ops
        assert upgrade_ops is not None
        assert downgrade_ops is not None
        done = invoke(context, upgrade_ops)

    def back() -> list[str]:
        with engine.begin() as connection:
            return invoke(MigrationContext.configure(connection), downgrade_ops)

    return done, back


def invoke(context: MigrationContext, made: OpContainer) -> list[str]:
    """Run the operations of a revision, and return what they do."""
    operations, done = Operations(context), []
    stack = list(made.ops)
    while stack:
        each = stack.pop(0)
        if isinstance(each, OpContainer):
            stack[:0] = each.ops
            continue
        operations.invoke(each)
        done.append(getattr(each, "what", type(each).__name__))
    return done


def test_table_with_rows_is_tracked_and_distributed_by_a_revision(
    engine: Engine,
) -> None:
    new = ledger(distribute="tenant")
    with engine.begin() as connection:
        ledger().create_all(connection)
        connection.execute(
            text("INSERT INTO ledger SELECT n, 1, 0 FROM generate_series(1, 40) AS n")
        )
    assert "distribute public.ledger and its events by tenant" in upgrade(engine, new)
    assert check(engine, new) == []
    assert upgrade(engine, new) == []
    with engine.begin() as connection:
        connection.execute(text("UPDATE ledger SET note = 1"))
        count = connection.scalar(text("SELECT count(*) FROM ledger_event"))
        assert count == 40
    new.drop_all(engine)


@pytest.mark.parametrize("level", ["statement", "row"])
def test_tracked_table_is_distributed_by_two_revisions(
    level: str, engine: Engine
) -> None:
    """The first is written by hand, the other one is autogenerated after it."""
    old, new = ledger(level=level), ledger(level=level, distribute="tenant")
    upgrade(engine, old)
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO ledger SELECT n, 1, 0 FROM generate_series(1, 40) AS n")
        )
    with pytest.raises(DBAPIError, match="because it has triggers"):
        upgrade(engine, new)
    with engine.begin() as connection:
        find = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'ledger'::regclass"
        for name in connection.scalars(text(find)).all():
            connection.execute(text(f"DROP TRIGGER {name} ON ledger"))
        for statement in (
            "ALTER TABLE ledger_event DROP CONSTRAINT ledger_event_pkey,"
            " ADD PRIMARY KEY (tenant, pgh_id),"
            " ALTER pgh_id DROP DEFAULT, ALTER pgh_created_at DROP DEFAULT,"
            " ALTER pgh_xact_id DROP DEFAULT",
            "SELECT create_distributed_table('ledger', 'tenant')",
            "SELECT create_distributed_table('ledger_event', 'tenant',"
            " colocate_with => 'ledger')",
        ):
            connection.execute(text(statement))
    assert {what.split()[0] for what in upgrade(engine, new)} <= {"create", "replace"}
    assert check(engine, new) == []
    assert upgrade(engine, new) == []
    with engine.begin() as connection:
        connection.execute(text("UPDATE ledger SET note = 1"))
        read = "SELECT pgh_op, count(*) FROM ledger_event GROUP BY pgh_op"
        found = {row[0]: row[1] for row in connection.execute(text(read))}
        assert found == {"I": 40, "U": 40}
    new.drop_all(engine)


@pytest.mark.parametrize("level", ["statement", "row"])
def test_column_is_added_by_a_revision_and_taken_back(
    level: str, engine: Engine
) -> None:
    """Citus replaces no function after it has changed the shards of a table at once."""
    options = {"level": level, "distribute": "tenant"}
    old, new = ledger(**options), ledger(Column("more", Integer), **options)
    upgrade(engine, old)
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO ledger SELECT n, 1, 0 FROM generate_series(1, 40) AS n")
        )
    done, back = revision(engine, new)
    assert done[0] == "have Citus change one shard after another"
    assert check(engine, new) == []
    assert upgrade(engine, new) == []
    read = "SELECT {}, count(*) FROM ledger_event WHERE pgh_op = 'U' GROUP BY 1"
    with engine.begin() as connection:
        connection.execute(text("UPDATE ledger SET more = 4"))
        assert connection.execute(text(read.format("more"))).all() == [(4, 40)]
    back()
    assert check(engine, old) == []
    with engine.begin() as connection:
        connection.execute(text("UPDATE ledger SET note = 5"))
        found = connection.execute(text(read.format("note"))).all()
        assert sorted(tuple(row) for row in found) == [(0, 40), (5, 40)]
    old.drop_all(engine)
