"""A distributed table with its events: creating, reading, moving shards, failures."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from typing import Any

import psycopg
import pytest
from sqlalchemy import (
    Column,
    Engine,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    Table,
    create_engine,
    func,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import AggregateEvent, track, undo
from sa_history.exc import DistributionError
from sa_history.install import check, install, uninstall

from .conftest import Cluster
from .distributed_oracle import TENANTS, DistributedWriter
from .oracle import Model, transactions


class Base(DeclarativeBase):
    pass


@track(context="inline", distribute="tenant")
class Account(Base):
    __tablename__ = "account"
    tenant: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    balance: Mapped[int]
    note: Mapped[str | None]


@track(level="row", context="inline", distribute="tenant")
class Item(Base):
    __tablename__ = "item"
    tenant: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    account_id: Mapped[int]
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant", "account_id"], ["account.tenant", "account.id"]
        ),
    )


@pytest.fixture
def shop(engine: Engine) -> Any:
    Base.metadata.create_all(engine)
    yield engine
    Base.metadata.drop_all(engine)


@pytest.fixture
def filled(shop: Engine) -> Engine:
    with Session(shop) as session:
        with history.context(session, user="ada"):
            session.add_all([Account(tenant=t, id=1, balance=0) for t in TENANTS])
            session.commit()
        with history.context(session, user="ben"):
            session.execute(update(Account).values(balance=Account.balance + 1))
            session.commit()
        session.execute(update(Account).where(Account.tenant == "t1").values(id=7))
        session.add(Item(tenant="t2", id=1, account_id=1))
        session.commit()
    return shop


def test_setting_of_the_server_is_the_default(engine: Engine) -> None:
    """Nobody has to set anything."""
    with engine.connect() as connection:
        show = text("SHOW citus.propagate_set_commands")
        assert connection.scalar(show) == "none"
        show = text("SHOW citus.enable_unsafe_triggers")
        assert connection.scalar(show) == "off"


def test_triggers_are_uninstalled_and_installed(filled: Engine) -> None:
    assert check(filled, Base) == []
    assert uninstall(filled, Base) != []
    assert install(filled, Base) != []
    assert check(filled, Base) == []
    with Session(filled) as session:
        session.execute(update(Account).values(balance=9))
        session.commit()
        count = select(func.count()).where(Account.events.model.balance == 9)
        assert session.scalar(count) == len(TENANTS)


@pytest.mark.parametrize("node", [1, 2])
def test_client_of_a_worker_reads_and_undoes(
    node: int, cluster: Cluster, filled: Engine
) -> None:
    engine = create_engine(cluster.servers[node])
    with Session(engine) as session:
        events = session.scalars(Account.events.select()).all()
        assert events[-1].diff == {"id": (1, 7)}
        rows = AggregateEvent.page(session, Account, Item)
        assert [r.pgh_diff for r in rows].count({"balance": [0, 1]}) == len(TENANTS)
        with history.as_of(session, transaction=events[0].pgh_xact_id) as past:
            assert past.get_one(Account, ("t2", 1)).balance == 0
            assert set(past.scalars(select(Account.balance))) == {0}
        session.rollback()
        undo(session, Base, transaction=events[-1].pgh_xact_id)
        session.commit()
        assert session.scalar(select(func.max(Account.id))) == 1
    engine.dispose()


def test_objects_are_made_on_the_coordinator(cluster: Cluster, shop: Engine) -> None:
    engine = create_engine(cluster.servers[1])
    for work in (check, install, uninstall):
        with pytest.raises(DistributionError, match="connect to the coordinator"):
            work(engine, Base)
    with pytest.raises((DistributionError, DBAPIError)):
        Base.metadata.create_all(engine)
    engine.dispose()
    assert check(shop, Base) == []


def test_check_finds_a_shard_whose_trigger_is_disabled(
    cluster: Cluster, shop: Engine
) -> None:
    shard, port = shards(cluster)[0]
    with cluster.connect([url.port for url in cluster.servers].index(port)) as worker:
        worker.execute("SET citus.enable_manual_changes_to_shards = on")
        disable = "ALTER TABLE account_{0} DISABLE TRIGGER account_event_update_{0}"
        worker.execute(disable.format(shard))
    (finding,) = check(shop, Base)
    assert str(finding).startswith(f"bypassed shard public.account_{shard}: ")
    uninstall(shop, Base)
    install(shop, Base)
    assert check(shop, Base) == []


def test_history_is_read(filled: Engine) -> None:
    with Session(filled) as session:
        events = session.scalars(Account.events.select()).all()
        assert events[-1].diff == {"id": (1, 7)}
        assert session.scalar(Account.events.of(("t2", 1)).last()).balance == 1
        assert events[-1].pgh_obj.id == 7
        rows = session.execute(AggregateEvent.select(Account, Item)).all()
        differences = [row.pgh_diff for row in rows if row.pgh_diff]
        assert differences.count({"balance": [0, 1]}) == len(TENANTS)
        assert differences.count({"id": [1, 7]}) == 1
        assert {row.pgh_obj_model for row in rows} == {"Account", "Item"}
        page = AggregateEvent.page(session, Account, Item)
        assert [tuple(row) for row in page] == [tuple(row) for row in rows]
        of_ben = {"context": {"user": "ben"}, "limit": 3}
        some = AggregateEvent.page(session, Account, Item, **of_ben)
        assert [row.pgh_diff for row in some] == [{"balance": [0, 1]}] * 3
        statement = AggregateEvent.select(Account, Item, **of_ben)
        assert [tuple(row) for row in session.execute(statement)] == [
            tuple(row) for row in some
        ]


@pytest.mark.parametrize("by", ["time", "transaction"])
def test_past_is_seen(by: str, filled: Engine) -> None:
    with Session(filled) as session:
        first = session.scalars(Account.events.select()).first()
        moment: dict[str, Any] = {
            "time": {"when": first.pgh_created_at},
            "transaction": {"transaction": first.pgh_xact_id},
        }[by]
        with history.as_of(session, **moment) as past:
            by_key = {past.get_one(Account, (tenant, 1)).balance for tenant in TENANTS}
            assert by_key == {0}
            assert past.get(Account, ("t2", 7)) is None
            past.expunge_all()
            rows = past.scalars(select(Account)).all()
            assert {(r.tenant, r.id, r.balance) for r in rows} == {
                (tenant, 1, 0) for tenant in TENANTS
            }
            beside = (Item.tenant == Account.tenant) & (Item.account_id == Account.id)
            joined = select(func.count()).select_from(Account).join(Item, beside)
            assert past.scalar(joined) == 0


def test_transaction_of_many_nodes_is_undone_as_one(filled: Engine) -> None:
    with Session(filled) as session:
        session.execute(update(Account).values(balance=50))
        session.commit()
        last = session.scalars(Account.events.select()).all()[-1]
        undo(session, Base, transaction=last.pgh_xact_id)
        session.commit()
        assert set(session.scalars(select(Account.balance))) == {1}


def test_context_is_annotated_and_triggers_are_ignored(filled: Engine) -> None:
    with Session(filled) as session, history.context(session, user="eve"):
        with history.ignore(session, Account):
            session.execute(update(Account).values(balance=70))
        session.execute(update(Account).values(balance=71))
        history.annotate(session, why="more")
        session.execute(update(Account).values(balance=72))
        session.commit()
        event = Account.events.model
        read = select(event.balance, event.pgh_context).where(event.balance >= 70)
        found = {(b, *sorted(said.items())) for b, said in session.execute(read)}
    assert found == {
        (71, ("user", "eve")),
        (72, ("user", "eve"), ("why", "more")),
    }


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_context_of_a_savepoint_reaches_nodes_after_its_release(
    driver: str, filled: Engine
) -> None:
    """Citus forgets what was set since the savepoint, for nodes not reached yet."""
    engine = create_engine(filled.url.set(drivername=f"postgresql+{driver}"))
    for first in TENANTS:  # on this worker or that one
        with engine.begin() as connection:
            connection.execute(text("SELECT 1"))
            with history.context(connection, user=first):
                with connection.begin_nested():
                    connection.execute(
                        update(Account).where(Account.tenant == first).values(balance=5)
                    )
                connection.execute(update(Account).values(balance=Account.balance + 1))
    engine.dispose()
    with Session(filled) as session:
        events = session.scalars(Account.events.select()).all()
    by_user: dict[Any, int] = {}
    for each in events[2 * len(TENANTS) + 1 :]:
        user = each.pgh_context and each.pgh_context["user"]
        by_user[user] = by_user.get(user, 0) + 1
    assert set(by_user) == set(TENANTS)


@pytest.mark.parametrize("driver", ["psycopg2", "asyncpg"])
def test_other_drivers_tell_contexts(driver: str, shop: Engine) -> None:
    def work(session: Session) -> None:
        for number in (1, 2):
            with history.context(session, user=number, note="100% :x"):
                session.add_all(
                    [Account(tenant=t, id=number, balance=0) for t in TENANTS]
                )
                session.commit()

    url = shop.url.set(drivername=f"postgresql+{driver}")
    if driver == "psycopg2":
        engine = create_engine(url)
        with Session(engine) as session:
            work(session)
        engine.dispose()
    else:

        async def main() -> None:
            engine = create_async_engine(url)
            async with AsyncSession(engine) as session:
                await session.run_sync(work)
            await engine.dispose()

        asyncio.run(main())
    with Session(shop) as session:
        events = session.scalars(Account.events.select()).all()
    assert len(events) == 2 * len(TENANTS)
    for each in events:
        assert each.pgh_context == {"user": each.id, "note": "100% :x"}


def test_events_of_writers_at_the_same_time_have_their_authors(shop: Engine) -> None:
    with shop.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO account SELECT 't' || n % 12, n, 0"
                " FROM generate_series(1, 40) AS n"
            )
        )

    def write(user: int) -> None:
        engine = create_engine(shop.url)
        rng = random.Random(user)
        with engine.connect() as connection:
            for _ in range(15):
                with history.context(connection, user=user):
                    row = f"id = {rng.randrange(1, 41)}"  # of whichever tenant
                    connection.execute(
                        text(f"UPDATE account SET balance = balance + 1 WHERE {row}")
                    )
                    connection.commit()
        engine.dispose()

    writers = [threading.Thread(target=write, args=(user,)) for user in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    with Session(shop) as session:
        events = session.scalars(Account.events.where(Account.events.pgh_op == "U"))
        by_row: dict[int, list[int]] = {}
        by_user: dict[int, int] = {}
        for each in events:
            by_row.setdefault(each.id, []).append(each.balance)
            user = each.pgh_context["user"]
            by_user[user] = by_user.get(user, 0) + 1
        assert by_user == dict.fromkeys(range(4), 15)
        assert all(found == [*range(1, len(found) + 1)] for found in by_row.values())


def test_table_that_has_rows_is_distributed_and_none_of_them_is_an_event(
    engine: Engine,
) -> None:
    with engine.begin() as connection:
        columns = "tenant varchar, id int, balance int NOT NULL, note varchar"
        connection.execute(
            text(f"CREATE TABLE account ({columns}, PRIMARY KEY (tenant, id))")
        )
        connection.execute(
            text(
                "INSERT INTO account SELECT 't' || n % 12, n, 0"
                " FROM generate_series(1, 100) AS n"
            )
        )
    Base.metadata.create_all(engine)
    try:
        with Session(engine) as session:
            assert session.scalars(Account.events.select()).all() == []
            session.execute(update(Account).values(balance=1))
            session.commit()
            assert len(session.scalars(Account.events.select()).all()) == 100
    finally:
        Base.metadata.drop_all(engine)


def ledger(**options: Any) -> MetaData:
    metadata = MetaData()
    columns = [
        Column(n, Integer, primary_key=n != "note", autoincrement=False)
        for n in ("tenant", "id", "note")
    ]
    track(context="inline", **options)(Table("ledger", metadata, *columns))
    return metadata


def test_table_that_has_a_history_is_distributed_with_it(engine: Engine) -> None:
    old, new = ledger(), ledger(distribute="tenant")
    old.create_all(engine)
    table = new.tables["ledger"]
    fill = "INSERT INTO ledger SELECT n, 1, 0 FROM generate_series(1, 40) AS n"
    with engine.begin() as connection:
        connection.execute(text(fill))
        connection.execute(text("UPDATE ledger SET note = 1"))
    uninstall(engine, old)
    with engine.begin() as connection:
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
    install(engine, new)
    try:
        assert check(engine, new) == []
        with Session(engine) as session:
            session.execute(text("UPDATE ledger SET note = 2"))
            session.commit()
            rows = session.execute(AggregateEvent.select(table)).all()
            assert [row.pgh_diff for row in rows] == (
                [None] * 40 + [{"note": [0, 1]}] * 40 + [{"note": [1, 2]}] * 40
            )
            with history.as_of(session, transaction=rows[40].pgh_xact_id) as past:
                assert set(past.execute(select(table.c.note)).scalars()) == {1}
    finally:
        new.drop_all(engine)


def test_table_with_triggers_is_not_distributed_while_they_would_record_it(
    engine: Engine,
) -> None:
    with engine.begin() as connection:
        for statement in (
            "CREATE TABLE account (tenant varchar, id int, balance int, note varchar,"
            " PRIMARY KEY (tenant, id))",
            "CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql"
            " AS 'BEGIN RETURN NEW; END'",
            "CREATE TRIGGER own AFTER INSERT ON account EXECUTE FUNCTION own()",
        ):
            connection.execute(text(statement))
    try:
        with pytest.raises(DBAPIError, match="because it has triggers"):
            Base.metadata.create_all(engine)
    finally:
        with engine.begin() as connection:
            connection.execute(text("DROP TABLE account"))


def test_events_elsewhere_are_refused(cluster: Cluster, engine: Engine) -> None:
    metadata = MetaData()
    columns = [Column(n, Integer, primary_key=True) for n in ("tenant", "id")]
    given = {"level": "row", "context": None, "distribute": "tenant"}
    track(**given)(Table("moved", metadata, *columns))
    metadata.create_all(engine)
    try:
        with cluster.connect() as connection:
            connection.execute(
                "SELECT alter_distributed_table('moved_event', shard_count := 5,"
                " cascade_to_colocated := false, colocate_with := 'none')"
            )
        (finding,) = check(engine, metadata)
        assert "to be distributed by 'tenant'" in str(finding)
        with pytest.raises(DistributionError, match="to be distributed by 'tenant'"):
            install(engine, metadata)
    finally:
        metadata.drop_all(engine)


def shards(cluster: Cluster) -> list[tuple[int, int]]:
    """Return the shards of the table that are on workers, each with its node."""
    with cluster.connect() as connection:
        return connection.execute(
            "SELECT s.shardid, n.nodeport FROM pg_dist_shard AS s"
            " JOIN pg_dist_placement AS p USING (shardid)"
            " JOIN pg_dist_node AS n USING (groupid)"
            " WHERE s.logicalrelid = 'account'::regclass AND n.groupid > 0"
            " ORDER BY random()"
        ).fetchall()


def move(cluster: Cluster, shard: int, port: int, mode: str) -> None:
    """Move a shard to the other worker."""
    workers = cluster.servers[1:]
    here = next(url for url in workers if url.port == port)
    there = next(url for url in workers if url.port != port)
    with cluster.connect() as connection:
        connection.execute(
            "SELECT citus_move_shard_placement(%s, %s, %s, %s, %s, %s)",
            (shard, here.host, here.port, there.host, there.port, mode),
        )


def in_order(cluster: Cluster, model: Model) -> None:
    """Compare the events of each row with those that the model foretells."""
    events: dict[Any, list[Any]] = {}
    with cluster.connect() as connection:
        for tenant, number, *event in connection.execute(
            "SELECT tenant, id, pgh_op, balance, note, pgh_context ->> 'user'"
            " FROM account_event ORDER BY pgh_id"
        ):
            events.setdefault((tenant, number), []).append(tuple(event))
    assert events == {
        key: [(*event, user) for *event, (user, _) in found]
        for key, found in model.events.items()
        if found
    }


def test_events_stay_in_order_while_shards_move(cluster: Cluster, shop: Engine) -> None:
    model, rng = Model(), random.Random(5)
    is_done, errors = threading.Event(), []

    def move_some() -> None:
        modes = ["block_writes", "force_logical"]
        while not is_done.is_set():
            try:
                shard, port = shards(cluster)[0]
                move(cluster, shard, port, rng.choice(modes))
                errors.append(None)
            except psycopg.Error as error:
                errors.append(error)

    mover = threading.Thread(target=move_some)
    mover.start()
    try:
        with shop.connect() as connection:
            writer = DistributedWriter(connection, model, random.Random(6), "account")
            while errors.count(None) < 4 and time.sleep(0.01) is None:
                transactions(writer, TENANTS, 2)
                connection.rollback()
    finally:
        is_done.set()
        mover.join()
    in_order(cluster, model)
    assert check(shop, Base) == []


def test_tenant_that_is_isolated_keeps_its_history(
    cluster: Cluster, filled: Engine
) -> None:
    count = text("SELECT count(*) FROM account_event")
    with filled.connect() as connection:
        before = connection.scalar(count)
    with cluster.connect() as connection:
        connection.execute(
            "SELECT isolate_tenant_to_new_shard('account', 't3', 'CASCADE',"
            " shard_transfer_mode := 'block_writes')"
        )
    with filled.begin() as connection:
        assert connection.scalar(count) == before
        connection.execute(text("UPDATE account SET balance = 7"))
        assert connection.scalar(count) == before + len(TENANTS)


def test_events_and_rows_agree_when_a_worker_fails(
    cluster: Cluster, shop: Engine
) -> None:
    """Its sessions end in the middle of statements of many shards."""
    engine = create_engine(cluster.servers[0], pool_pre_ping=True)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO account SELECT 't' || n % 12, n, 0"
                " FROM generate_series(1, 3000) AS n"
            )
        )
    ended = 0
    for attempt in range(20):
        with cluster.connect(1 + attempt % 2) as worker:
            killer = threading.Timer(
                0.05 * (attempt % 10) + 0.05,
                worker.execute,
                [
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database()"
                    " AND application_name LIKE 'citus_internal%'"
                ],
            )
            killer.start()
            try:
                with engine.begin() as connection:
                    connection.execute(text("UPDATE account SET balance = balance + 1"))
            except DBAPIError:
                ended += 1
            killer.join()
    engine.dispose()
    shop.dispose()  # its sessions have sessions of workers that have ended
    assert ended
    with cluster.connect() as connection:
        # What was prepared on a worker is committed or rolled back.
        connection.execute("SELECT recover_prepared_transactions()")
        differ = connection.execute(
            "SELECT count(*) FROM account AS a JOIN ("
            "  SELECT tenant, id, max(balance) AS balance, count(*) - 1 AS changes"
            "  FROM account_event GROUP BY tenant, id"
            ") AS e ON e.tenant = a.tenant AND e.id = a.id"
            " WHERE a.balance <> e.balance OR a.balance <> e.changes"
        ).fetchone()
        assert differ == (0,)
        balances = connection.execute("SELECT DISTINCT balance FROM account")
        assert balances.fetchall() == [(20 - ended,)]
