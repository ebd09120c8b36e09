"""Tables that Citus distributes: refused, unless their history was shown to be right.

No server of these tests has Citus. Tables of the names and columns of its catalog stand
in for it. What it really does is tested by ``nox -s citus``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import (
    URL,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    create_engine,
    event,
    insert,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
import sa_history.alembic  # registers the operation
from sa_history import (
    AfterDelete,
    Delete,
    Manual,
    Protect,
    Snapshot,
    attach,
    baseline,
    create_event,
    track,
)
from sa_history.ddl.citus import Distribution
from sa_history.exc import DistributionError
from sa_history.install import check, install, uninstall

from .citus_catalog import citus_url as citus_url

KINDS = {
    Distribution.SHARDS: ("h", "s", 5),
    Distribution.REFERENCE: ("n", "t", 6),
    Distribution.MANAGED: ("n", "s", 0),
    Distribution.SINGLE_SHARD: ("n", "s", 7),
}

Distribute = Callable[..., None]


@pytest.fixture
def engine(citus_url: URL) -> Iterator[Engine]:
    """An engine on it, whose sessions have the setting that Citus has."""
    setting = "-c citus.multi_shard_modify_mode=parallel"
    engine = create_engine(citus_url, connect_args={"options": setting})
    yield engine
    engine.dispose()


def say(connection: Connection, name: str, kind: Distribution) -> None:
    method, replication, colocation = KINDS[kind]
    values = f"('{name}'::regclass, '{method}', '{replication}', {colocation})"
    connection.exec_driver_sql(
        f"INSERT INTO pg_catalog.pg_dist_partition VALUES {values}"
    )


@pytest.fixture
def distribute(engine: Engine) -> Distribute:
    """Have the catalog say that tables are distributed."""

    def tell(kind: Distribution, *names: str) -> None:
        with engine.begin() as connection:
            for name in names:
                say(connection, name, kind)

    return tell


@pytest.fixture
def distribute_new(engine: Engine) -> Callable[[Distribution, str], None]:
    """Have the catalog say so of each table of a name, once it is created."""

    def tell(kind: Distribution, *names: str) -> None:
        def listen(connection: Any, _: Any, statement: str, *__: Any) -> None:
            for name in names:
                if statement.strip().startswith(f"CREATE TABLE {name} "):
                    say(connection, name, kind)

        event.listen(engine, "after_cursor_execute", listen)

    return tell


def account(level: str = "row", context: Any = "reference", **options: Any) -> MetaData:
    metadata = MetaData()
    table = Table("account", metadata, Column("id", Integer, primary_key=True))
    track(Snapshot, AfterDelete, level=level, context=context, **options)(table)
    return metadata


ALL = ("account", "account_event", "pghistory_context")


@pytest.mark.parametrize("level", ["statement", "row"])
def test_local_tables_have_their_history_on_a_server_with_citus(
    level: str, engine: Engine
) -> None:
    metadata = account(level)
    metadata.create_all(engine)
    assert check(engine, metadata) == []
    table = metadata.tables["account"]
    with engine.begin() as connection, history.context(connection, user=7):
        connection.execute(insert(table).values(id=1))
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE account"))
    with engine.connect() as connection:
        joined = (
            "account_event LEFT JOIN pghistory_context AS c ON c.id = pgh_context_id"
        )
        read = f"SELECT pgh_op, metadata FROM {joined} ORDER BY pgh_id"
        events = connection.execute(text(read))
        assert [tuple(row) for row in events] == [("I", {"user": 7}), ("T", None)]
    uninstall(engine, metadata)
    assert install(engine, metadata) != []


@pytest.mark.parametrize("context", ["reference", "inline", None])
def test_tables_of_a_sharded_schema_have_their_history(
    context: Any, engine: Engine, distribute_new: Any
) -> None:
    metadata = account(context=context, distribute=True)
    distribute_new(Distribution.SINGLE_SHARD, *ALL)
    metadata.create_all(engine)
    assert check(engine, metadata) == []
    uninstall(engine, metadata)
    assert install(engine, metadata) != []
    with engine.begin() as connection, history.context(connection, user=7):
        connection.execute(insert(metadata.tables["account"]).values(id=1))
        read = "SELECT pgh_op, id, pgh_obj_id, pgh_id > 1::bigint << 58 AS is_clock"
        events = connection.execute(text(f"{read} FROM account_event"))
        assert [tuple(row) for row in events] == [("I", 1, 1, True)]


@pytest.mark.parametrize("level", ["statement", "row"])
def test_sharded_schema_of_models_that_do_not_say_so_is_refused(
    level: Any, engine: Engine, distribute_new: Any
) -> None:
    distribute_new(Distribution.SINGLE_SHARD, *ALL)
    with pytest.raises(DistributionError, match=r"give track\(distribute=True\)"):
        account(level).create_all(engine)


def test_models_of_a_sharded_schema_are_refused_elsewhere(
    engine: Engine,
) -> None:
    with pytest.raises(DistributionError, match="account is a local table of Citus"):
        account(distribute=True).create_all(engine)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "kind", [Distribution.SHARDS, Distribution.REFERENCE, Distribution.MANAGED]
)
def test_tables_that_are_distributed_otherwise_are_refused(
    kind: Distribution, name: str, engine: Engine, distribute_new: Any
) -> None:
    distribute_new(kind, name)
    metadata = account()
    with pytest.raises(DistributionError) as refused:
        metadata.create_all(engine)
    assert f"public.{name} is {kind.value} of Citus" in str(refused.value)
    with engine.connect() as connection:
        assert not connection.scalar(text("SELECT count(*) FROM pg_trigger"))


def test_context_table_is_asked_for_only_if_triggers_write_to_it(
    engine: Engine, distribute_new: Any
) -> None:
    distribute_new(Distribution.REFERENCE, "pghistory_context")
    account(context="inline").create_all(engine)


@pytest.mark.parametrize("name", ALL)
def test_tables_that_are_not_together_on_a_node_are_refused(
    name: str, engine: Engine, distribute_new: Any
) -> None:
    distribute_new(Distribution.SINGLE_SHARD, name)
    with pytest.raises(DistributionError, match="not together with the others"):
        account(distribute=True).create_all(engine)


def test_partitioned_table_of_a_sharded_schema_is_refused(
    engine: Engine, distribute_new: Any
) -> None:
    metadata = MetaData()
    table = Table(
        "account",
        metadata,
        Column("id", Integer, primary_key=True),
        postgresql_partition_by="RANGE (id)",
    )
    track(Snapshot, distribute=True)(table)
    distribute_new(Distribution.SINGLE_SHARD, *ALL)
    with pytest.raises(DistributionError, match="account is a partitioned table"):
        metadata.create_all(engine)


def test_table_that_exists_is_asked_for_when_its_event_table_is_created(
    engine: Engine, distribute: Distribute
) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE account (id int PRIMARY KEY)"))
    distribute(Distribution.SHARDS, "account")
    with pytest.raises(DistributionError, match="account is a distributed table"):
        account().create_all(engine)


def test_attached_trigger_is_refused_on_a_table_that_is_distributed(
    engine: Engine, distribute_new: Any, distribute: Distribute
) -> None:
    metadata = MetaData()
    table = Table("account", metadata, Column("id", Integer, primary_key=True))
    attach(Protect(Delete))(table)
    metadata.create_all(engine)
    assert check(engine, metadata) == []
    distribute(Distribution.SINGLE_SHARD, "account")
    (finding,) = check(engine, metadata)
    assert str(finding).startswith("distributed table public.account: ")
    with pytest.raises(DistributionError, match="take attach\\(\\) off"):
        install(engine, metadata)
    metadata.drop_all(engine)
    distribute_new(Distribution.SINGLE_SHARD, "account")
    with pytest.raises(DistributionError, match="take attach\\(\\) off"):
        metadata.create_all(engine)


@pytest.mark.parametrize("kind", list(KINDS))
def test_check_finds_a_table_that_was_distributed_after_it_was_tracked(
    kind: Distribution, engine: Engine, distribute: Distribute
) -> None:
    metadata = account("statement")
    metadata.create_all(engine)
    distribute(kind, "account")
    (finding,) = check(engine, metadata)
    assert str(finding).startswith("distributed table public.account: the history of")
    with pytest.raises(DistributionError, match="nothing is installed: the history"):
        install(engine, metadata)


class Base(DeclarativeBase):
    pass


@track(Snapshot, Manual("seen"), level="row", context=None)
class Account(Base):
    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)


def test_events_are_written_by_hand_where_the_table_is_local_only(
    engine: Engine, distribute: Distribute
) -> None:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(row := Account())
        assert create_event(session, row, label="seen").pgh_op == "M"
        session.commit()
    assert baseline(engine, Account) == 0
    distribute(Distribution.SINGLE_SHARD, *ALL)
    with Session(engine) as session, pytest.raises(DistributionError) as refused:
        create_event(session, session.get(Account, 1), label="seen")
    assert str(refused.value).startswith(
        "create_event cannot write events of public.account_event, which is a table of "
        "a sharded schema of Citus"
    )
    with pytest.raises(DistributionError, match="baseline cannot write events of"):
        baseline(engine, Account)


@pytest.fixture
def operations(engine: Engine) -> Iterator[Operations]:
    """Alembic's operations, in a transaction."""
    with engine.connect() as connection, connection.begin():
        yield Operations(MigrationContext.configure(connection))


def test_operation_of_a_revision_refuses_what_cannot_be_right(
    engine: Engine, distribute: Distribute, operations: Any
) -> None:
    metadata = account("statement")
    metadata.create_all(engine)
    install(engine, metadata)
    with engine.connect() as connection:
        get = "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = :name"
        find = {"name": "account_event_insert"}
        create = connection.scalar(text(get), find)
        mark = "SELECT obj_description(oid) FROM pg_trigger WHERE tgname = :name"
        comment = connection.scalar(text(mark), find)
    drop = "DROP TRIGGER account_event_insert ON account"
    make = (
        create,
        f"COMMENT ON TRIGGER account_event_insert ON account IS '{comment}'",
    )
    # One that is wrong already is for a later operation to mend.
    distribute(Distribution.SINGLE_SHARD, *ALL)
    operations.history_ddl("make it anew", drop, *make)
    operations.history_ddl("drop it", drop)
    with pytest.raises(DistributionError) as refused:
        operations.history_ddl("make it", *make)
    assert "account_event_insert would be on public.account" in str(refused.value)
    assert "give track(distribute=True)" in str(refused.value)


def test_operation_of_a_revision_refuses_a_table_that_has_shards(
    engine: Engine, distribute: Distribute, operations: Any
) -> None:
    metadata = account()
    metadata.create_all(engine)
    distribute(Distribution.SHARDS, "account")
    drop = "DROP TRIGGER account_event_truncate ON account"
    make = (
        "CREATE TRIGGER account_event_truncate BEFORE TRUNCATE ON account"
        " EXECUTE FUNCTION account_event_record()"
    )
    operations.history_ddl("drop it", drop)
    with pytest.raises(DistributionError, match=r"undistribute_table\(\)"):
        operations.history_ddl("make it", make)


def test_truncate_deletes_the_rows_first_where_citus_empties_the_table(
    engine: Engine,
) -> None:
    """Citus gives each table that it distributes a trigger for TRUNCATE of its own."""
    metadata = account()
    metadata.create_all(engine)
    with engine.begin() as connection:
        for statement in (
            "CREATE FUNCTION citus_truncate_trigger() RETURNS trigger LANGUAGE plpgsql"
            " AS 'BEGIN RETURN NULL; END'",
            "CREATE TRIGGER truncate_trigger_1 AFTER TRUNCATE ON account"
            " EXECUTE FUNCTION citus_truncate_trigger()",
            "INSERT INTO account VALUES (1), (2)",
            "TRUNCATE account",
        ):
            connection.execute(text(statement))
        read = text("SELECT pgh_op, id FROM account_event ORDER BY pgh_id")
        events = [tuple(row) for row in connection.execute(read)]
    assert events == [("I", 1), ("I", 2), ("D", 1), ("D", 2)]


def test_truncate_of_a_shard_records_nothing_more(engine: Engine) -> None:
    """Where Citus has moved a table to, its shard has the trigger, too."""
    metadata = account()
    metadata.create_all(engine)
    with engine.begin() as connection:
        for statement in (
            "CREATE TABLE account_102008 (id int)",
            "CREATE TRIGGER account_event_truncate_102008 BEFORE TRUNCATE"
            " ON account_102008 EXECUTE FUNCTION account_event_record()",
            "INSERT INTO account VALUES (1)",
            "TRUNCATE account_102008",
        ):
            connection.execute(text(statement))
        assert connection.scalar(text("SELECT count(*) FROM account_event")) == 1


def test_statements_that_make_objects_are_sent_one_by_one(engine: Engine) -> None:
    """Citus prepares on other nodes the whole message that has a CREATE TRIGGER."""
    sent: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
    account().create_all(engine)
    triggers = [s for s in sent if s.startswith("CREATE OR REPLACE TRIGGER")]
    assert len(triggers) == 3
    assert not any(";\n" in s for s in triggers)
    allows = "SET LOCAL citus.enable_unsafe_triggers = on"
    assert sent.index(allows) < sent.index(triggers[0])


def test_other_servers_are_sent_nothing_that_citus_needs(pg_engine: Engine) -> None:
    sent: list[str] = []
    event.listen(pg_engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
    metadata = account()
    metadata.create_all(pg_engine)
    uninstall(pg_engine, metadata)
    install(pg_engine, metadata)
    with pg_engine.begin() as connection:
        operations: Any = Operations(MigrationContext.configure(connection))
        operations.history_ddl("one", "SELECT 1")
        operations.history_ddl("two", "SELECT 2")
    assert not any("citus." in s or "FROM pg_catalog.pg_dist" in s for s in sent)
    assert sum("to_regclass" in s for s in sent) == 4
