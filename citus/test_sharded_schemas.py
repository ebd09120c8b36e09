"""A tenant's schema on one node: everything that reads and writes history."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    Integer,
    MetaData,
    Table,
    create_engine,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import CreateTable

import sa_history as history
from sa_history import (
    AfterDelete,
    AggregateEvent,
    Manual,
    Snapshot,
    baseline,
    create_event,
    track,
    undo,
)
from sa_history.exc import DistributionError
from sa_history.install import check, install, uninstall

from .conftest import Cluster


class Base(DeclarativeBase):
    pass


@track(Snapshot, AfterDelete, Manual("seen"), distribute=True)
class Account(Base):
    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]


@track(Snapshot, AfterDelete, level="row", context="inline", distribute=True)
class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


NUMBERS = iter(range(100))


@pytest.fixture
def schema() -> str:
    return f"tenant_{next(NUMBERS)}"


@pytest.fixture
def shop(schema: str, tenant: Callable[[str], Engine]) -> Engine:
    """An engine for a tenant of the test's own, which has the tables."""
    engine = tenant(schema)
    Base.metadata.create_all(engine)
    return engine


@pytest.fixture
def filled(shop: Engine) -> Engine:
    """The same, with rows that have changed in contexts."""
    with Session(shop) as session:
        with history.context(session, user="ada"):
            session.add_all([Account(id=1, balance=1), Item(id=1, name="a")])
            session.commit()
        with history.context(session, user="ben"):
            session.get_one(Account, 1).balance = 2
            session.commit()
        session.get_one(Account, 1).balance = 3
        session.commit()
    return shop


def test_setting_of_the_server_is_the_default(engine: Engine) -> None:
    """Nobody has to set anything."""
    with engine.connect() as connection:
        show = text("SHOW citus.propagate_set_commands")
        assert connection.scalar(show) == "none"
        show = text("SHOW citus.enable_unsafe_triggers")
        assert connection.scalar(show) == "off"


def test_check_finds_nothing(filled: Engine) -> None:
    assert check(filled, Base) == []


def test_check_finds_what_is_disabled_on_a_node(
    cluster: Cluster, schema: str, filled: Engine
) -> None:
    with cluster.connect(cluster.node_of(schema)) as worker:
        (shard,) = worker.execute(
            "SELECT shard_name(logicalrelid, shardid) FROM pg_dist_shard"
            " WHERE logicalrelid = %s::regclass",
            (f"{schema}.item",),
        ).fetchone() or (None,)
        worker.execute("SET citus.enable_manual_changes_to_shards = on")
        worker.execute(f"ALTER TABLE {shard} DISABLE TRIGGER USER")
    (finding,) = check(filled, Base)
    assert str(finding).startswith(f"bypassed shard {schema}.item_")


def test_triggers_are_uninstalled_and_installed(filled: Engine) -> None:
    assert uninstall(filled, Base) != []
    assert install(filled, Base) != []
    assert check(filled, Base) == []
    with Session(filled) as session, history.context(session, user="eve"):
        session.get_one(Account, 1).balance = 4
        session.commit()
        assert session.scalars(Account.events.select()).all()[-1].balance == 4


def test_all_is_dropped(cluster: Cluster, schema: str, shop: Engine) -> None:
    Base.metadata.drop_all(shop)
    with cluster.connect() as connection:
        left = "SELECT logicalrelid FROM pg_dist_partition"
        left += " WHERE logicalrelid::text LIKE %s"
        assert connection.execute(left, (f"{schema}.%",)).fetchall() == []


def test_events_are_read_with_contexts_and_differences(filled: Engine) -> None:
    with Session(filled) as session:
        events = session.scalars(Account.events.select()).all()
        contexts = [e.pgh_context and e.pgh_context.metadata for e in events]
        assert [e.balance for e in events] == [1, 2, 3]
        assert contexts == [{"user": "ada"}, {"user": "ben"}, None]
        assert events[1].diff == {"balance": (1, 2)}
        of_ben = AggregateEvent.select(Account, context={"user": "ben"})
        assert [r.pgh_data["balance"] for r in session.execute(of_ben)] == [2]


def test_events_of_several_models_are_read_together(filled: Engine) -> None:
    with Session(filled) as session:
        rows = session.execute(AggregateEvent.select(Account, Item)).all()
        read = [(r.pgh_obj_model, r.pgh_op, r.pgh_diff) for r in rows]
    assert read == [
        ("Account", "I", None),
        ("Item", "I", None),
        ("Account", "U", {"balance": [1, 2]}),
        ("Account", "U", {"balance": [2, 3]}),
    ]


@pytest.mark.parametrize("by", ["event", "time", "transaction"])
def test_past_is_seen(by: str, filled: Engine) -> None:
    with Session(filled) as session:
        second = session.scalars(Account.events.select()).all()[1]
        moment: dict[str, Any] = {
            "event": {"when": second},
            "time": {"when": second.pgh_created_at},
            "transaction": {"transaction": second.pgh_xact_id},
        }[by]
        with history.as_of(session, **moment) as past:
            assert past.get_one(Account, 1).balance == 2
            assert past.scalar(select(func.count()).select_from(Item)) == 1


def test_past_is_seen_by_an_async_session(schema: str, filled: Engine) -> None:
    async def main() -> int | None:
        engine = create_async_engine(filled.url).execution_options(
            schema_translate_map={None: schema}
        )
        async with AsyncSession(engine) as session:
            second = (await session.scalars(Account.events.select())).all()[1]
            async with history.as_of(session, second) as past:
                balance = await past.scalar(select(Account.balance))
        await engine.dispose()
        return balance

    assert asyncio.run(main()) == 2


def test_transaction_is_undone(filled: Engine) -> None:
    with Session(filled) as session:
        last = session.scalars(Account.events.select()).all()[-1]
        with history.context(session, user="eve"):
            undo(session, Base, transaction=last.pgh_xact_id)
        session.commit()
        assert session.get_one(Account, 1).balance == 2
        last = session.scalars(Account.events.select()).all()[-1]
        assert last.pgh_context.metadata["user"] == "eve"


def test_truncate_is_recorded_as_deletions(filled: Engine) -> None:
    with Session(filled) as session, history.context(session, user="eve"):
        session.add(Item(id=2, name="b"))
        session.flush()
        schemas = filled.get_execution_options()["schema_translate_map"]
        session.execute(text(f"TRUNCATE {schemas[None]}.item"))
        session.commit()
        events = session.scalars(Item.events.select()).all()
        assert [(e.pgh_op, e.id) for e in events if e.pgh_op != "I"] == [
            ("D", 1),
            ("D", 2),
        ]
        assert events[-1].pgh_context == {"user": "eve"}
        assert session.scalar(select(func.count()).select_from(Item)) == 0


def test_ignored_triggers_do_not_record(filled: Engine) -> None:
    with Session(filled) as session:
        with history.ignore(session, Item):
            session.add(Item(id=2, name="b"))
            session.flush()
        session.add(Item(id=3, name="c"))
        session.commit()
        events = session.scalars(Item.events.select()).all()
        assert [e.id for e in events] == [1, 3]


def test_context_with_more_keys_is_stored_again(filled: Engine) -> None:
    with Session(filled) as session, history.context(session, user="ada"):
        account = session.get_one(Account, 1)
        account.balance = 4
        session.flush()
        history.annotate(session, why="more")
        account.balance = 5
        session.commit()
        account.balance = 6
        session.commit()
        history.annotate(session, again=True)
        account.balance = 7
        session.commit()
        events = session.scalars(Account.events.select()).all()[3:]
        assert [e.pgh_context.metadata for e in events] == [
            {"user": "ada", "why": "more"},
            {"user": "ada", "why": "more"},
            {"user": "ada", "why": "more"},
            {"user": "ada", "why": "more", "again": True},
        ]


def test_events_that_a_statement_would_write_are_refused(filled: Engine) -> None:
    with Session(filled) as session, pytest.raises(DistributionError):
        create_event(session, session.get_one(Account, 1), label="seen")
    # Citus refuses that itself.
    with pytest.raises((DistributionError, DBAPIError)):
        baseline(filled, Account)


@pytest.mark.parametrize("driver", ["psycopg2", "asyncpg"])
def test_other_drivers_tell_contexts(driver: str, schema: str, shop: Engine) -> None:
    options: Any = {"execution_options": {"schema_translate_map": {None: schema}}}

    def work(session: Session) -> None:
        for number in (1, 2):
            with history.context(session, user=number, note="100% :x"):
                session.add(Item(id=number, name="a"))
                session.commit()

    url = shop.url.set(drivername=f"postgresql+{driver}")
    if driver == "psycopg2":
        engine = create_engine(url, **options)
        with Session(engine) as session:
            work(session)
        engine.dispose()
    else:

        async def main() -> None:
            engine = create_async_engine(url, **options)
            async with AsyncSession(engine) as session:
                await session.run_sync(work)
            await engine.dispose()

        asyncio.run(main())
    with Session(shop) as session:
        events = session.scalars(Item.events.select()).all()
        said = [event.pgh_context for event in events]
    assert said == [{"user": number, "note": "100% :x"} for number in (1, 2)]


@pytest.fixture
def single_shards(cluster: Cluster, schema: str) -> str:
    """A schema whose tables are distributed one by one, each with a single shard."""
    with cluster.connect() as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    return schema


def test_tables_with_a_single_shard_each_are_like_those_of_a_sharded_schema(
    cluster: Cluster, engine: Engine, single_shards: str
) -> None:
    schema = single_shards
    options = {"schema_translate_map": {None: schema}}
    shop = engine.execution_options(**options)
    with shop.begin() as connection:
        for table in Base.metadata.sorted_tables:
            connection.execute(CreateTable(table))
    first = f"{schema}.pghistory_context"
    with cluster.connect() as connection:
        connection.execute("SELECT create_distributed_table(%s, NULL)", (first,))
        for name in ("account_event", "item_event", "account", "item"):
            distribute = (
                "SELECT create_distributed_table(%s, NULL, colocate_with => %s)"
            )
            connection.execute(distribute, (f"{schema}.{name}", first))
    install(shop, Base)
    with Session(shop) as session, history.context(session, user="ada"):
        session.add_all([Account(id=1, balance=1), Item(id=1, name="a")])
        session.commit()
        (item,) = session.scalars(Item.events.select())
        (account,) = session.scalars(Account.events.select())
        assert item.pgh_context == account.pgh_context.metadata == {"user": "ada"}


def note(**options: Any) -> MetaData:
    metadata = MetaData()
    columns = [
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("text", Integer),
    ]
    track(**options)(Table("note", metadata, *columns))
    return metadata


def test_schema_that_has_a_history_is_distributed_with_it(
    cluster: Cluster, engine: Engine, schema: str
) -> None:
    old, new = note(), note(distribute=True)
    shop = engine.execution_options(schema_translate_map={None: schema})
    with cluster.connect() as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    old.create_all(shop)
    with shop.begin() as connection, history.context(connection, user="ada"):
        connection.execute(insert(old.tables["note"]).values(id=1, text=1))
    uninstall(shop, old)
    with cluster.connect() as connection:
        connection.execute(
            f"ALTER TABLE {schema}.note_event ALTER pgh_id DROP DEFAULT,"
            " ALTER pgh_created_at DROP DEFAULT, ALTER pgh_xact_id DROP DEFAULT"
        )
        connection.execute("SELECT citus_schema_distribute(%s)", (schema,))
    install(shop, new)
    assert check(shop, new) == []
    table = new.tables["note"]
    with Session(shop) as session:
        with history.context(session, user="ben"):
            session.execute(update(table).values(text=2))
            session.commit()
        rows = session.execute(AggregateEvent.select(table)).all()
        assert [(row.pgh_op, row.pgh_diff, row.pgh_context) for row in rows] == [
            ("I", None, {"user": "ada"}),
            ("U", {"text": [1, 2]}, {"user": "ben"}),
        ]
