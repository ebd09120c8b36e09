"""Tables that Citus distributes by a column, together with their events.

One server stands in for the nodes; see :mod:`.citus_catalog`.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Iterator
from typing import Any

import pytest
from alembic.autogenerate import produce_migrations
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import (
    URL,
    Column,
    Connection,
    Engine,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    Table,
    create_engine,
    create_mock_engine,
    event,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
import sa_history.alembic  # registers the operation
from sa_history import (
    AfterDelete,
    AggregateEvent,
    Snapshot,
    baseline,
    cursor_of,
    feed,
    feed_page,
    track,
    undo,
)
from sa_history.alembic.operations import HistoryOp
from sa_history.exc import (
    ContextRequiredError,
    DefinitionError,
    DistributionError,
    EventsError,
)
from sa_history.install import check, install, size, uninstall
from sa_history.timeline.entries import Hidden
from sa_history.timeline.queries import Timeline

from .citus_catalog import citus_url as citus_url


class Base(DeclarativeBase):
    pass


@track(level="row", context="inline", distribute="tenant")
class Account(Base):
    __tablename__ = "account"
    tenant: Mapped[int] = mapped_column("tenant_id", primary_key=True)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    balance: Mapped[int]


@track(level="row", context="inline", distribute="tenant")
class Item(Base):
    __tablename__ = "item"
    tenant: Mapped[int] = mapped_column("tenant_id", primary_key=True)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    account_id: Mapped[int | None]
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "account_id"], ["account.tenant_id", "account.id"]
        ),
    )


@pytest.fixture
def engine(citus_url: URL) -> Iterator[Engine]:
    """An engine on it, whose sessions have the setting that Citus has."""
    setting = "-c citus.multi_shard_modify_mode=parallel"
    engine = create_engine(citus_url, connect_args={"options": setting})
    yield engine
    engine.dispose()


@pytest.fixture
def filled(engine: Engine) -> Engine:
    Base.metadata.create_all(engine)
    set_node(engine, 259)
    with Session(engine) as session:
        with history.context(session, user="ada"):
            session.add_all([Account(tenant=t, id=1, balance=t) for t in (1, 2)])
            session.commit()
        with history.context(session, user="ben"):
            session.execute(update(Account).values(balance=Account.balance + 1))
            session.commit()
        session.execute(update(Account).where(Account.tenant == 2).values(id=7))
        session.add(Item(tenant=1, id=1))
        session.commit()
    set_node(engine, 0)
    return engine


def set_node(engine: Engine, number: int) -> None:
    """Have the server be a node of Citus; 0 is the coordinator."""
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE pg_dist_local_group SET groupid = {number}"))


def distributed(engine: Engine) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        read = "SELECT logicalrelid::text, partkey, colocationid FROM pg_dist_partition"
        return sorted(map(tuple, connection.execute(text(read))))


def test_tables_are_distributed_with_their_events_before_they_have_triggers(
    engine: Engine,
) -> None:
    sent: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
    Base.metadata.create_all(engine)
    assert distributed(engine) == [
        (name, "tenant_id", 5)
        for name in ("account", "account_event", "item", "item_event")
    ]

    def step(start: str) -> int:
        return next(i for i, s in enumerate(sent) if s.strip().startswith(start))

    distribute = 'SELECT create_distributed_table(\'"public"."account'
    assert step("CREATE TABLE account ") < step(f'{distribute}"')
    assert step(f'{distribute}"') < step(f'{distribute}_event"')
    assert step(f'{distribute}_event"') < step("CREATE OR REPLACE TRIGGER")
    first = step(distribute)
    assert sent[first - 2 : first] == [
        "SET LOCAL citus.multi_shard_modify_mode = 'sequential'",
        "SET LOCAL citus.enable_unsafe_triggers = off",
    ]
    assert check(engine, Base) == []
    uninstall(engine, Base)
    assert install(engine, Base) != []


@pytest.mark.parametrize("name", ["account", "account_event"])
def test_table_is_put_beside_the_one_that_is_distributed_already(
    name: str, engine: Engine
) -> None:
    columns = "tenant_id int, id int, balance int, PRIMARY KEY (tenant_id, id)"
    with engine.begin() as connection:
        if name == "account":
            connection.execute(text(f"CREATE TABLE account ({columns})"))
        else:
            Base.metadata.tables[name].create(connection)
        connection.execute(
            text("INSERT INTO pg_dist_partition VALUES (:n, 'h', 's', 8, 'tenant_id')"),
            {"n": name},
        )
    Base.metadata.create_all(engine)
    found = {table: group for table, _, group in distributed(engine)}
    assert found["account"] == found["account_event"] == 8


def test_table_that_citus_manages_is_distributed(engine: Engine) -> None:
    """It does so by itself where a foreign key refers to a reference table."""
    with engine.begin() as connection:
        columns = "tenant_id int, id int, balance int, PRIMARY KEY (tenant_id, id)"
        connection.execute(text(f"CREATE TABLE account ({columns})"))
        connection.execute(
            text("INSERT INTO pg_dist_partition VALUES ('account', 'n', 's', 0)")
        )
    Base.metadata.create_all(engine)
    assert ("account", "tenant_id", 5) in distributed(engine)
    assert check(engine, Base) == []


def test_table_of_one_column_in_its_key_is_distributed_by_it(engine: Engine) -> None:
    metadata = MetaData()
    table = Table("tenant", metadata, Column("id", Integer, primary_key=True))
    track(Snapshot, level="row", context=None, distribute="id")(table)
    events = metadata.tables["tenant_event"]
    assert [column.name for column in events.primary_key] == ["id", "pgh_id"]
    assert "pgh_obj_id" not in events.columns
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table).values(id=3))
        rows = connection.execute(AggregateEvent.select(table)).all()
    assert [(row.pgh_obj_id, row.pgh_data) for row in rows] == [("3", {"id": 3})]


def test_events_have_numbers_of_the_clock_of_the_node(filled: Engine) -> None:
    with Session(filled) as session:
        events = session.scalars(Account.events.select()).all()
    assert [(e.pgh_op, e.tenant, e.balance) for e in events] == [
        ("I", 1, 1),
        ("I", 2, 2),
        ("U", 1, 2),
        ("U", 2, 3),
        ("U", 2, 3),
    ]
    assert [e.pgh_context for e in events[1:]] == [
        {"user": "ada"},
        {"user": "ben"},
        {"user": "ben"},
        None,
    ]
    for each in events:
        assert each.pgh_id & 255 == 259 & 255
        since = datetime.timedelta(milliseconds=each.pgh_id >> 22)
        at = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc) + since
        assert abs(at - each.pgh_created_at) < datetime.timedelta(minutes=1)


def test_transaction_of_one_node_has_the_number_of_the_node(filled: Engine) -> None:
    """Citus has none of its own for it, and says 0."""
    with Session(filled) as session:
        events = session.scalars(Account.events.select()).all()
    assert len({e.pgh_xact_id for e in events}) == 3
    assert all(e.pgh_xact_id >> 4 & 255 == 259 & 255 for e in events)
    assert sorted(events, key=lambda e: e.pgh_xact_id) == events


def test_transaction_of_many_nodes_has_one_number_and_one_time(filled: Engine) -> None:
    with Session(filled) as session:
        session.execute(text("SET test.number = 37"))
        session.add(Account(tenant=3, id=1, balance=0))
        session.commit()
        created = session.scalar(Account.events.of((3, 1)).last())
    began = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.timezone.utc)
    assert created.pgh_created_at == began
    since = began - datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    microseconds = since // datetime.timedelta(microseconds=1)
    assert created.pgh_xact_id == (microseconds << 12) + ((257 & 255) << 4) + (37 & 15)


@pytest.fixture
def shard(engine: Engine) -> Table:
    """A table that stands in for a shard, with the event table for the one beside."""
    metadata = MetaData()
    columns = [Column(n, Integer, primary_key=n != "note") for n in ("t", "id", "note")]
    table = Table("account_7", metadata, *columns)
    user = Column("user", Integer, nullable=False)
    options = {"context": "inline", "distribute": "t", "event_table": "account_event"}
    track(Snapshot, AfterDelete, context_columns=[user], **options)(table)
    metadata.create_all(engine)
    with engine.begin() as connection:
        for name, number in (("account_7", 7), ("account_event", 9)):
            connection.execute(
                text("INSERT INTO pg_dist_shard VALUES (:name, :number, '-100')"),
                {"name": name, "number": number},
            )
    return table


def test_statement_is_recorded_in_the_shard_beside(
    engine: Engine, shard: Table
) -> None:
    with engine.begin() as connection, history.context(connection, user=5):
        connection.execute(text("INSERT INTO account_7 VALUES (1, 1, 1), (2, 1, 1)"))
        connection.execute(
            text("UPDATE account_7 SET note = note + 1, id = id + t - 1")
        )
        connection.execute(text("DELETE FROM account_7 WHERE t = 2"))
        connection.execute(text("TRUNCATE account_7"))
    with engine.begin() as connection:
        events = connection.execute(
            text(
                'SELECT pgh_op, t, id, note, pgh_old_key, "user", pgh_id, pgh_xact_id'
                " FROM account_event ORDER BY pgh_op = 'U', t, pgh_id"
            )
        ).all()
    assert sorted(tuple(event)[:6] for event in events if event.pgh_op != "U") == [
        ("D", 1, 1, 2, None, 5),
        ("D", 2, 2, 2, None, 5),
        ("I", 1, 1, 1, None, 5),
        ("I", 2, 1, 1, None, 5),
    ]
    assert [tuple(event)[:6] for event in events if event.pgh_op == "U"] == [
        ("U", 1, 1, 2, None, 5),
        ("U", 2, 2, 2, [2, 1], 5),
    ]
    assert len({event.pgh_id for event in events}) == 6
    assert len({event.pgh_xact_id for event in events}) == 1


def test_statement_of_several_rows_is_refused_where_its_events_are_not_beside(
    engine: Engine, shard: Table
) -> None:
    with engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE pg_dist_partition SET colocationid = 6"
                " WHERE logicalrelid = 'account_event'::regclass"
            )
        )
    rows = "INSERT INTO account_7 VALUES (1, 1, 1), (2, 1, 1)"
    with engine.begin() as connection, history.context(connection, user=5):
        connection.execute(text("INSERT INTO account_7 VALUES (3, 1, 1)"))
        with pytest.raises(
            DBAPIError, match=r"INSERT of public\.account is refused: Citus does not"
        ):
            connection.execute(text(rows))


def test_error_names_the_table_and_not_the_shard(engine: Engine, shard: Table) -> None:
    with (
        engine.begin() as connection,
        pytest.raises(ContextRequiredError, match="a change of public.account needs"),
    ):
        connection.execute(text("INSERT INTO account_7 VALUES (1, 1, 1)"))


DIFFERENCES = [
    ("Account", "1", None),
    ("Account", "1", None),
    ("Account", "1", {"balance": [1, 2]}),
    ("Account", "1", {"balance": [2, 3]}),
    ("Account", "7", {"id": [1, 7]}),
    ("Item", "1", None),
]


def test_events_of_several_models_are_read_together(filled: Engine) -> None:
    def told(rows: Any) -> list[Any]:
        return [
            (r.pgh_obj_model, str(r.pgh_data["id"]), r.pgh_diff)
            for r in sorted(rows, key=lambda row: (row.pgh_obj_model, row.pgh_id))
        ]

    with Session(filled) as session:
        rows = session.execute(AggregateEvent.select(Account, Item))
        assert told(rows) == DIFFERENCES
        assert told(AggregateEvent.page(session, Account, Item)) == DIFFERENCES
        newest = AggregateEvent.select(Account, limit=1, newest_first=True)
        assert told(session.execute(newest)) == DIFFERENCES[4:5]
        of_ben = AggregateEvent.select(Account, context={"user": "ben"})
        assert told(session.execute(of_ben)) == DIFFERENCES[2:4]


@pytest.mark.parametrize("by", ["event", "time", "transaction"])
def test_past_is_seen(by: str, filled: Engine) -> None:
    with Session(filled) as session:
        created, *_ = session.scalars(Account.events.of((2, 1)).select()).all()
        moment: dict[str, Any] = {
            "event": {"when": created},
            "time": {"when": created.pgh_created_at},
            "transaction": {"transaction": created.pgh_xact_id},
        }[by]
        with history.as_of(session, **moment) as past:
            rows = past.scalars(select(Account).order_by(Account.tenant)).all()
            assert [(row.tenant, row.id, row.balance) for row in rows] == [
                (1, 1, 1),
                (2, 1, 2),
            ]
            assert past.scalar(select(func.count()).select_from(Item)) == 0


def test_transaction_is_undone(filled: Engine) -> None:
    with Session(filled) as session:
        last = session.scalars(Account.events.select()).all()[-1]
        undo(session, Base, transaction=last.pgh_xact_id)
        session.commit()
        keys = session.scalars(select(Account.id).order_by(Account.tenant)).all()
        assert keys == [1, 1]


@pytest.mark.parametrize("number", ["", "37"], ids=["of a node", "of Citus"])
def test_undo_has_the_number_that_its_events_have(number: str, filled: Engine) -> None:
    with Session(filled) as session:
        last = session.scalars(Account.events.select()).all()[-1]
        session.execute(text(f"SET test.number = '{number}'"))
        done = undo(session, Base, transaction=last.pgh_xact_id)
        session.commit()
        last = session.scalars(Account.events.of((2, 1)).select()).all()[-1]
        assert last.pgh_xact_id == done.transaction


def test_timeline_restores_an_event_and_knows_what_that_has_written(
    filled: Engine,
) -> None:
    with Session(filled) as session:
        created = session.scalars(Account.events.of((1, 1)).select()).first()
        session.execute(text("SET test.number = '37'"))
        timeline = Timeline(session, Base.metadata, Hidden(frozenset()))
        timeline.restore(timeline.event("account_event", created.pgh_id))
        ((tracking, written),) = timeline.written(5)
        assert tracking.table.name == "account"
        assert written.pgh_diff == {"balance": [2, 1]}


def test_size_is_that_on_all_nodes(filled: Engine) -> None:
    sizes = {each.name: each for each in size(filled, Base)}
    found = sizes["public.account_event"]
    assert (found.rows, found.bytes) == (5, 1_000_000 + len("account_event"))


@pytest.mark.parametrize("trackers", [(Snapshot, AfterDelete), (Snapshot,)])
def test_truncate_deletes_the_rows_where_they_are(
    trackers: Any, engine: Engine
) -> None:
    metadata = MetaData()
    table = Table("account", metadata, Column("id", Integer, primary_key=True))
    track(*trackers, level="row", context="inline", distribute="id")(table)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table).values(id=1))
        connection.execute(text("TRUNCATE account"))
        read = text("SELECT pgh_op FROM account_event ORDER BY pgh_id")
        found = connection.scalars(read).all()
    assert found == (["I", "D"] if AfterDelete in trackers else ["I"])


@pytest.fixture
def coordinator(filled: Engine) -> Engine:
    """An engine on what stands in for the coordinator; the feed may go to its now."""
    with filled.begin() as connection:
        # What began a while ago is not too new for the feed.
        for name in ("account_event", "item_event"):
            earlier = (
                f"UPDATE {name} SET pgh_xact_id = pgh_xact_id - (2000000::bigint << 12)"
            )
            connection.execute(text(earlier))
    return filled.execution_options(isolation_level="READ COMMITTED")


def all_pages(engine: Engine, *models: Any, **options: Any) -> list[Any]:
    """Read to the end, in a transaction for each page."""
    found: list[Any] = []
    while True:
        with Session(engine) as session:
            after = cursor_of(found[-1]) if found else None
            rows = feed_page(session, *models, after=after, **options)
        if not rows:
            return found
        found += rows


def test_feed_of_several_models_is_read(coordinator: Engine) -> None:
    for limit in (2, 100):
        rows = all_pages(coordinator, Account, Item, limit=limit)
        told = [(r.pgh_obj_model, str(r.pgh_data["id"]), r.pgh_diff) for r in rows]
        assert told == DIFFERENCES


def test_feed_is_read_by_an_async_session(coordinator: Engine) -> None:
    async def main() -> list[Any]:
        engine = create_async_engine(coordinator.url, isolation_level="READ COMMITTED")
        async with AsyncSession(engine) as session:
            rows = await feed_page(session, Account, Item)
        await engine.dispose()
        return rows

    assert len(asyncio.run(main())) == len(DIFFERENCES)


def test_session_in_a_transaction_holds_the_feed_back(coordinator: Engine) -> None:
    with coordinator.connect() as open_one:
        open_one.execute(text("SELECT 1"))
        with coordinator.begin() as connection:
            now = "EXTRACT(epoch FROM clock_timestamp())::bigint - 1577836800"
            connection.execute(
                text(f"UPDATE item_event SET pgh_xact_id = (({now}) * 1000000) << 12")
            )
        assert len(all_pages(coordinator, Account, Item)) == len(DIFFERENCES) - 1


def prepare(engine: Engine, gid: str) -> None:
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        for statement in ("BEGIN", "SELECT 1", f"PREPARE TRANSACTION '{gid}'"):
            connection.execute(text(statement))


def test_prepared_transaction_without_its_session_holds_the_feed_back(
    coordinator: Engine,
) -> None:
    """Its time is not known; Citus commits it, or rolls it back."""
    with coordinator.connect() as session:
        pid = session.scalar(text("SELECT pg_backend_pid()"))
        for gid, count in (
            ("own_0_9", len(DIFFERENCES)),
            (f"citus_0_{pid}_1_0", len(DIFFERENCES)),
            ("citus_0_999999999_1_0", 0),
            ("citus_5_9_1_0", 0),
        ):
            prepare(coordinator, gid)
            assert len(all_pages(coordinator, Account, Item)) == count
            with coordinator.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT")
                connection.execute(text(f"ROLLBACK PREPARED '{gid}'"))


def test_feed_is_refused_where_it_could_miss_events(
    coordinator: Engine,
) -> None:
    def refusal(session: Session) -> str:
        with pytest.raises(EventsError) as refused:
            feed_page(session, Account)
        session.rollback()
        return str(refused.value)

    with Session(coordinator) as session:
        with pytest.raises(EventsError, match=r"read with feed_page\(session, ...\)"):
            session.execute(feed(Account))
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        assert 'give isolation_level="READ COMMITTED"' in refusal(session)
        session.execute(text("SET test.answers = 'no'"))
        assert "node 1 does not answer: no connection" in refusal(session)
    set_node(coordinator, 3)
    with Session(coordinator) as session:
        assert "citus_set_coordinator_host()" in refusal(session)
        session.execute(text("SET LOCAL ROLE pg_database_owner"))
        assert "GRANT pg_read_all_stats" in refusal(session)


def test_feed_of_tables_that_number_transactions_otherwise_is_refused() -> None:
    table = defined()
    local = Table("local", table.metadata, Column("id", Integer, primary_key=True))
    track(Snapshot)(local)
    with pytest.raises(EventsError, match="no feed of account and local together"):
        feed_page(Session(), table, local)


def test_first_events_are_refused_as_only_triggers_number_them(
    engine: Engine,
) -> None:
    with pytest.raises(DistributionError, match="baseline cannot write events of acc"):
        baseline(engine, defined())


def test_objects_are_made_and_checked_on_the_coordinator(filled: Engine) -> None:
    set_node(filled, 2)
    for work in (
        lambda: check(filled, Base),
        lambda: install(filled, Base),
        lambda: uninstall(filled, Base),
    ):
        with pytest.raises(DistributionError, match="this is node 2 of Citus, a work"):
            work()


def test_tables_are_made_on_the_coordinator(engine: Engine) -> None:
    set_node(engine, 2)
    with pytest.raises(DistributionError, match="this is node 2 of Citus, a worker"):
        Base.metadata.create_all(engine)


def test_event_without_a_trigger_is_refused(filled: Engine) -> None:
    """It would have the numbers of another node."""
    with Session(filled) as session, pytest.raises(Exception, match="pgh_id"):
        session.execute(
            insert(Account.events.table).values(
                tenant_id=1, id=1, balance=1, pgh_op="I", pgh_label="snapshot"
            )
        )


def test_server_without_citus_is_refused(pg_engine: Engine) -> None:
    with pytest.raises(DistributionError) as refused:
        Base.metadata.create_all(pg_engine)
    assert "track(distribute='tenant') of Account needs a database with Citus" in str(
        refused.value
    )


def test_script_of_a_mock_engine_distributes_the_tables() -> None:
    printed: list[str] = []
    mock = create_mock_engine(
        "postgresql+psycopg://",
        lambda sql, *_, **__: printed.append(str(sql.compile(dialect=mock.dialect))),
    )
    Base.metadata.create_all(mock, checkfirst=False)
    assert [s for s in printed if "create_distributed_table" in s] == [
        'SELECT create_distributed_table(\'"public"."account"\'::regclass,'
        " 'tenant_id')",
        'SELECT create_distributed_table(\'"public"."account_event"\'::regclass,'
        " 'tenant_id', colocate_with => '\"public\".\"account\"'::regclass::text)",
        "SELECT create_distributed_table('\"public\".\"item\"'::regclass, 'tenant_id')",
        'SELECT create_distributed_table(\'"public"."item_event"\'::regclass,'
        " 'tenant_id', colocate_with => '\"public\".\"item\"'::regclass::text)",
    ]


WRONG = {
    "by another column": "partkey = 'id'",
    "in another colocation group": "colocationid = 6",
    "with several copies of each shard": "repmodel = 'c'",
    "not by its hash": "partmethod = 'r'",
}


@pytest.mark.parametrize("how", WRONG)
@pytest.mark.parametrize("name", ["account", "account_event"])
def test_check_finds_tables_that_are_not_together(
    name: str, how: str, filled: Engine
) -> None:
    with filled.begin() as connection:
        connection.execute(
            text(
                f"UPDATE pg_dist_partition SET {WRONG[how]}"
                " WHERE logicalrelid = CAST(:name AS regclass)"
            ),
            {"name": name},
        )
    (finding,) = check(filled, Base)
    assert str(finding).startswith(
        "distributed table public.account: the history of public.account is to be "
        "distributed by 'tenant_id', but the "
    )
    with pytest.raises(DistributionError, match="nothing is installed: the history"):
        install(filled, Base)


def test_check_finds_shards_without_the_triggers_of_the_table(filled: Engine) -> None:
    with filled.begin() as connection:
        for statement in (
            "CREATE SCHEMA shards",
            "CREATE TABLE shards.account_1 (LIKE account)",
            "CREATE TABLE shards.account_2 (LIKE account)",
            "CREATE TRIGGER a AFTER INSERT OR DELETE ON shards.account_1 FOR EACH ROW"
            " EXECUTE FUNCTION account_event_record()",
            "CREATE TRIGGER b AFTER UPDATE ON shards.account_1 FOR EACH ROW"
            " EXECUTE FUNCTION account_event_record()",
            "CREATE TRIGGER c BEFORE TRUNCATE ON shards.account_1"
            " EXECUTE FUNCTION account_event_record()",
            "INSERT INTO pg_dist_shard VALUES ('account', 1)",
        ):
            connection.execute(text(statement))
    assert check(filled, Base) == []
    with filled.begin() as connection:
        connection.execute(text("ALTER TABLE shards.account_1 DISABLE TRIGGER b"))
        for shard in (2, -1):  # which has none, and whose node does not answer
            connection.execute(
                text(f"INSERT INTO pg_dist_shard VALUES ('account', {shard})")
            )
    assert [str(finding).partition(":")[0] for finding in check(filled, Base)] == [
        f"bypassed shard public.account_{shard}" for shard in (-1, 1, 2)
    ]


def test_check_finds_a_table_that_is_not_distributed(filled: Engine) -> None:
    with filled.begin() as connection:
        connection.execute(text("DELETE FROM pg_dist_partition"))
    findings = check(filled, Base)
    assert "the table public.account is a local table of Citus" in str(findings[0])


def test_revision_makes_triggers_on_tables_that_are_distributed(filled: Engine) -> None:
    with filled.connect() as connection, connection.begin():
        get = "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = :name"
        find = {"name": "account_event_truncate"}
        create = connection.scalar(text(get), find)
        operations: Any = Operations(MigrationContext.configure(connection))
        operations.history_ddl("drop", "DROP TRIGGER account_event_truncate ON account")
        operations.history_ddl("make it anew", create)


def autogenerated(connection: Connection) -> list[Any]:
    """Return the operations of a revision that makes what the models have."""
    context = MigrationContext.configure(connection)
    return produce_migrations(context, Base.metadata).upgrade_ops.ops


def test_revision_distributes_the_tables_before_they_have_triggers(
    engine: Engine,
) -> None:
    with engine.begin() as connection:
        operations: Any = Operations(MigrationContext.configure(connection))
        made = autogenerated(connection)
        for operation in made:
            for each in getattr(operation, "ops", [operation]):
                operations.invoke(each)
    ddl = [o for o in made if isinstance(o, HistoryOp)]
    what = [o.what for o in ddl]
    assert made[0].what == what[0] == "have Citus change one shard after another"
    assert made[0].reverse().statements == ()
    of_account = "public.account and its events by tenant_id"
    assert f"distribute {of_account}" in what
    assert all(
        what.index(f"distribute {of_account}") < position
        for position, each in enumerate(what)
        if each.startswith("create trigger")
    )
    assert distributed(engine) == [
        (name, "tenant_id", 5)
        for name in ("account", "account_event", "item", "item_event")
    ]
    assert check(engine, Base) == []
    undo_first = ddl[what.index(f"distribute {of_account}")].reverse()
    assert undo_first.what == f"leave {of_account} as they are"
    assert undo_first.statements == ()
    with engine.connect() as connection:
        again = [o for o in autogenerated(connection) if isinstance(o, HistoryOp)]
        assert again == []


def test_revision_distributes_nothing_without_citus(pg_engine: Engine) -> None:
    with pg_engine.connect() as connection:
        made = [o for o in autogenerated(connection) if isinstance(o, HistoryOp)]
    assert not any(o.what.startswith("distribute") for o in made)


def defined(**options: Any) -> Any:
    metadata = MetaData()
    columns = [Column(n, Integer, primary_key=n != "note") for n in ("t", "id", "note")]
    given = {"level": "row", "context": "inline", "distribute": "t", **options}
    return track(Snapshot, **given)(Table("account", metadata, *columns))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no name": (
        {"distribute": 7},
        "the name of an attribute, or True for a sharded schema, got 7",
    ),
    "not of the key": ({"distribute": "note"}, "names 'note', which is not an attr"),
    "a typo": ({"distribute": "tt"}, "did you mean 't'"),
    "by reference": ({"context": "reference"}, 'give context="inline"'),
    "append-only": ({"append_only": True}, "append_only is not supported with"),
    "notify": ({"notify": "news"}, "notify is not supported with"),
    "partitions": ({"partition_by": "day"}, "partition_by is not supported with"),
    "sealed": ({"sealed": True}, "sealed is not supported with"),
    "erasable": ({"erasable": ["note"]}, "erasable is not supported with"),
    "erasable context": (
        {"erasable_context": ["user"]},
        "erasable_context is not supported with",
    ),
    "time": ({"created_at": func.clock_timestamp()}, "leave created_at out"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_options_that_are_not_right_are_refused(what: str) -> None:
    options, message = REFUSED[what]
    with pytest.raises(DefinitionError) as refused:
        defined(**options)
    assert message in str(refused.value)
