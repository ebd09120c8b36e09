"""Steps in another order than that of the documentation, and what else people do."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    Date,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    delete,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

import sa_history as history
from sa_history import AggregateEvent, track, undo
from sa_history.exc import DistributionError
from sa_history.install import check, install, uninstall

from .conftest import Cluster
from .test_migrations import ledger


@pytest.fixture(params=["statement", "row"])
def level(request: Any) -> str:
    found: str = request.param
    return found


@pytest.fixture(autouse=True)
def clean(cluster: Cluster) -> Iterator[None]:
    yield
    with cluster.connect() as connection:
        for table in ("ledger", "ledger_event", "plan", "pghistory_context"):
            connection.execute(f"DROP TABLE IF EXISTS {table} CASCADE")
        connection.execute("DROP FUNCTION IF EXISTS ledger_event_record CASCADE")


def distributed(level: str, *more: Column[Any], **options: Any) -> MetaData:
    return ledger(*more, level=level, distribute="tenant", **options)


def fill(engine: Engine, metadata: MetaData) -> None:
    """Insert 40 rows as ada, and change all as ben."""
    table = metadata.tables["ledger"]
    with engine.begin() as connection:
        with history.context(connection, user="ada"):
            rows = [{"tenant": n, "id": 1, "note": 0} for n in range(40)]
            connection.execute(insert(table), rows)
        with history.context(connection, user="ben"):
            connection.execute(update(table).values(note=1))


def events(engine: Engine) -> list[tuple[Any, ...]]:
    """Return how many events of each kind there are."""
    read = "SELECT pgh_op, pgh_context ->> 'user', count(*) FROM ledger_event"
    with engine.connect() as connection:
        found = connection.execute(text(f"{read} GROUP BY 1, 2 ORDER BY 1, 2"))
        return [tuple(row) for row in found]


FILLED = [("I", "ada", 40), ("U", "ben", 40)]


def run(cluster: Cluster, *statements: str) -> None:
    with cluster.connect() as connection:
        for statement in statements:
            connection.execute(statement)


def test_table_that_is_distributed_already_is_tracked(
    level: str, cluster: Cluster, engine: Engine
) -> None:
    run(
        cluster,
        "CREATE TABLE ledger (tenant int, id int, note int, PRIMARY KEY (tenant, id))",
        "INSERT INTO ledger SELECT n + 100, 1, 0 FROM generate_series(1, 40) AS n",
        "SELECT create_distributed_table('ledger', 'tenant')",
    )
    metadata = distributed(level)
    metadata.create_all(engine)
    assert check(engine, metadata) == []
    assert events(engine) == []
    with engine.begin() as connection, history.context(connection, user="ben"):
        connection.execute(text("UPDATE ledger SET note = 1"))
    assert events(engine) == [("U", "ben", 40)]


@pytest.mark.parametrize("tables", [["ledger"], ["ledger", "ledger_event"]])
def test_table_that_is_undistributed_is_refused_until_it_is_distributed_again(
    tables: list[str], cluster: Cluster, engine: Engine
) -> None:
    metadata = distributed("statement")
    metadata.create_all(engine)
    fill(engine, metadata)
    run(cluster, *(f"SELECT undistribute_table('{table}')" for table in tables))
    assert events(engine) == FILLED
    with pytest.raises(DBAPIError, match="does not keep its events together"):
        fill_again(engine)
    assert "to be distributed by 'tenant'" in str(check(engine, metadata)[-1])
    with pytest.raises(DistributionError, match="create_distributed_table"):
        install(engine, metadata)
    assert uninstall(engine, metadata) != []
    beside = {"ledger": "ledger_event", "ledger_event": "ledger"}
    for table in tables:
        colocate = (
            "default" if len(tables) == 2 and table == "ledger" else beside[table]
        )
        run(
            cluster,
            f"SELECT create_distributed_table('{table}', 'tenant',"
            f" colocate_with => '{colocate}')",
        )
    install(engine, metadata)
    assert check(engine, metadata) == []
    assert events(engine) == FILLED
    fill_again(engine)
    assert events(engine) == [*FILLED, ("U", "eve", 40)]


def fill_again(engine: Engine) -> None:
    with engine.begin() as connection, history.context(connection, user="eve"):
        connection.execute(text("UPDATE ledger SET note = note + 1"))


def test_table_that_is_altered_has_its_triggers_after_install(
    level: str, cluster: Cluster, engine: Engine
) -> None:
    """Citus makes the table anew with another number of shards."""
    metadata = distributed(level)
    metadata.create_all(engine)
    fill(engine, metadata)
    alter = (
        "SELECT alter_distributed_table('ledger', shard_count => 16,"
        " cascade_to_colocated => true)"
    )
    with pytest.raises(psycopg.Error, match="triggers are not supported"):
        run(cluster, alter)
    run(cluster, "SET citus.enable_unsafe_triggers = on", alter)
    assert events(engine) == FILLED
    fill_again(engine)
    assert events(engine) == [*FILLED, ("U", "eve", 40)]
    install(engine, metadata)
    assert check(engine, metadata) == []
    fill_again(engine)
    assert events(engine) == [*FILLED, ("U", "eve", 80)]


def test_table_with_other_shards_than_its_events_is_refused(
    level: str, cluster: Cluster, engine: Engine
) -> None:
    metadata = distributed(level)
    metadata.create_all(engine)
    fill(engine, metadata)
    run(
        cluster,
        "SET citus.enable_unsafe_triggers = on",
        "SELECT alter_distributed_table('ledger', shard_count => 4,"
        " cascade_to_colocated => false)",
    )
    assert "in the colocation group" in str(check(engine, metadata)[-1])
    with pytest.raises(DBAPIError):
        fill_again(engine)
    assert events(engine) == FILLED
    # What is recorded of one row is where the row is looked for.
    for tenant in range(40):
        try:
            run(cluster, f"UPDATE ledger SET note = 9 WHERE tenant = {tenant}")
        except psycopg.Error:
            continue
        with engine.connect() as connection:
            read = f"SELECT note FROM ledger_event WHERE tenant = {tenant}"
            found = connection.scalars(text(f"{read} ORDER BY pgh_id")).all()
            assert found == [0, 1, 9]


def test_tracked_table_is_not_made_a_reference_table(
    level: str, cluster: Cluster, engine: Engine
) -> None:
    metadata = MetaData()
    columns = [Column("id", Integer, primary_key=True), Column("note", Integer)]
    track(level=level, context="inline")(Table("ledger", metadata, *columns))
    metadata.create_all(engine)
    run(cluster, "INSERT INTO ledger SELECT n, 0 FROM generate_series(1, 40) AS n")
    create = "SELECT create_reference_table('ledger')"
    with pytest.raises(psycopg.Error, match="because it has triggers"):
        run(cluster, create)
    with pytest.raises(psycopg.Error):  # the copying would be recorded
        run(cluster, "SET citus.enable_unsafe_triggers = on", create)
    assert check(engine, metadata) == []
    fill_again(engine)
    assert events(engine) == [("I", None, 40), ("U", "eve", 40)]


TYPES: dict[str, tuple[Any, list[Any]]] = {
    "text": (Text, ["a'b", "ü", ""]),
    "uuid": (Uuid, [uuid.UUID(int=n) for n in (1, 2, 2**127)]),
    "bigint": (BigInteger, [-1, 0, 2**40]),
    "date": (Date, [datetime.date(2026, 1, day) for day in (1, 2, 3)]),
}


@pytest.mark.parametrize("type_", TYPES)
def test_tenant_may_be_of_any_type(type_: str, level: str, engine: Engine) -> None:
    kind, tenants = TYPES[type_]
    metadata = distributed(level, tenant=kind)
    table = metadata.tables["ledger"]
    metadata.create_all(engine)
    with Session(engine) as session:
        with history.context(session, user="ada"):
            rows = [{"tenant": t, "id": 1, "note": 0} for t in tenants]
            session.execute(insert(table), rows)
            session.commit()
            session.execute(update(table).values(note=1))
            session.commit()
            one = table.c.tenant == tenants[0]
            session.execute(update(table).where(one).values(note=2))
            session.commit()
        found = session.execute(AggregateEvent.select(table)).all()
        assert [row.pgh_diff for row in found] == [
            *[None] * 3,
            *[{"note": [0, 1]}] * 3,
            {"note": [1, 2]},
        ]
        with history.as_of(session, transaction=found[0].pgh_xact_id) as past:
            assert set(past.scalars(select(table.c.note))) == {0}
        session.rollback()
        done = undo(session, metadata, transaction=found[-1].pgh_xact_id)
        session.commit()
        assert set(session.scalars(select(table.c.note))) == {1}
        last = session.execute(AggregateEvent.select(table)).all()[-1]
        assert last.pgh_xact_id == done.transaction
    metadata.drop_all(engine)


def test_row_goes_to_no_other_tenant(level: str, engine: Engine) -> None:
    metadata = distributed(level)
    metadata.create_all(engine)
    fill(engine, metadata)
    with engine.begin() as connection, pytest.raises(DBAPIError, match="partition"):
        connection.execute(text("UPDATE ledger SET tenant = 77 WHERE tenant = 1"))
    assert events(engine) == FILLED


def test_table_may_refer_to_a_reference_table(
    level: str, cluster: Cluster, engine: Engine
) -> None:
    """Citus manages the new table by itself before it is distributed."""
    metadata = distributed(level, Column("plan_id", Integer, ForeignKey("plan.id")))
    plan = Table("plan", metadata, Column("id", Integer, primary_key=True))
    table = metadata.tables["ledger"]
    with pytest.raises(DBAPIError, match="must be a distributed table or a reference"):
        metadata.create_all(engine)
    plan.create(engine)
    run(cluster, "SELECT create_reference_table('plan')")
    metadata.create_all(engine)
    assert check(engine, metadata) == []
    with Session(engine) as session:
        with history.context(session, user="ada"):
            session.execute(insert(plan).values(id=1))
            rows = [{"tenant": n, "id": 1, "plan_id": 1} for n in range(5)]
            session.execute(insert(table), rows)
            session.commit()
            session.execute(delete(table))
            session.commit()
            session.execute(delete(plan))
            session.commit()
        found = session.execute(AggregateEvent.select(table)).all()
        first = found[0].pgh_xact_id
        with history.as_of(session, transaction=first, allow=[plan]) as past:
            joined = select(table.c.id).outerjoin(plan)
            assert past.scalars(joined).all() == [1] * 5
        session.rollback()
        plan_of_undo = undo(
            session, metadata, transaction=found[-1].pgh_xact_id, dry_run=True
        )
        assert plan_of_undo.conflicts
        session.rollback()
        session.execute(insert(plan).values(id=1))
        undo(session, metadata, transaction=found[-1].pgh_xact_id)
        session.commit()
        assert len(session.scalars(select(table.c.id)).all()) == 5
    metadata.drop_all(engine)
