"""A table with rows becomes partitioned, and one table again, with all that it has."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import ANY

import pytest
from sqlalchemy import URL, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sa_history import AfterDelete, Snapshot, partitions, track
from sa_history.capture.archive_table import ensure_archive_table
from sa_history.cli.command import Database
from sa_history.cli.partitions import partitions as partitions_command
from sa_history.ddl.partitions import PartitionedTable
from sa_history.ddl.repartition import LOWER_CHECK, Patience, Repartition
from sa_history.exc import AppendOnlyError, InstallError
from sa_history.install import check
from sa_history.sql.compose import Qualified

EVENTS = Qualified("public", "account_event")
FIRST = Qualified("public", "account_event_p1")


@pytest.fixture(autouse=True)
def _read_committed(read_committed: None) -> None:
    """As the connections of commands are."""


@pytest.fixture
def account(base: type[DeclarativeBase], level: str) -> Any:
    """A tracked class, at both levels, whose event table is one table."""

    @track(Snapshot, AfterDelete, level=level, append_only=True)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        balance: Mapped[int] = mapped_column(default=0)

    return Account


@pytest.fixture
def run(pg_engine: Engine) -> Any:
    """Execute statements, each in a transaction of its own."""

    def execute(*statements: str) -> Any:
        result = None
        for statement in statements:
            with pg_engine.begin() as connection:
                found = connection.execute(text(statement))
                result = found.all() if found.returns_rows else None
        return result

    return execute


@contextmanager
def repartition(engine: Engine, **options: Any) -> Iterator[Repartition]:
    steps: list[str] = []
    with engine.connect() as connection:
        yield Repartition(
            connection,
            PartitionedTable(EVENTS, "pgh_id", "bigint"),
            FIRST,
            1,
            steps.append,
            **options,
        )


def to_partitions(engine: Engine) -> None:
    with repartition(engine) as change:
        change.partition()


def to_one_table(engine: Engine) -> None:
    with repartition(engine) as change:
        change.unpartition()


def end_first_partition(run: Any, upper: int) -> None:
    run(
        "ALTER TABLE account_event DETACH PARTITION account_event_p1",
        "ALTER TABLE account_event ATTACH PARTITION account_event_p1"
        f" FOR VALUES FROM (1) TO ({upper})",
        f"CREATE TABLE account_event_p{upper} PARTITION OF account_event"
        f" FOR VALUES FROM ({upper}) TO (MAXVALUE)",
    )


EVENTS_OF_ALL = "SELECT pgh_id, pgh_op, id, balance FROM account_event ORDER BY pgh_id"


def test_the_rows_stay_and_new_events_follow(
    account: Any, base: type[DeclarativeBase], pg_engine: Engine, run: Any
) -> None:
    base.metadata.create_all(pg_engine)
    run("INSERT INTO account VALUES (1, 5), (2, 6)", "UPDATE account SET balance = 7")
    before = run(EVENTS_OF_ALL)
    to_partitions(pg_engine)
    assert run(EVENTS_OF_ALL) == before
    run("DELETE FROM account WHERE id = 1")
    assert [tuple(row)[1:] for row in run(EVENTS_OF_ALL)[4:]] == [("D", 1, 7)]
    end_first_partition(run, 100)
    run("SELECT setval('pghistory_id_seq', 200)", "DELETE FROM account")
    assert run("SELECT id FROM account_event_p100") == [(2,)]
    to_one_table(pg_engine)
    assert [tuple(row)[1:] for row in run(EVENTS_OF_ALL)[4:]] == [
        ("D", 1, 7),
        ("D", 2, 7),
    ]
    run("INSERT INTO account VALUES (3, 1)")
    assert len(run(EVENTS_OF_ALL)) == 7
    assert check(pg_engine, base) == []


def test_a_partition_that_was_made_the_table_by_hand_becomes_one_again(
    account: Any, base: type[DeclarativeBase], pg_engine: Engine, run: Any
) -> None:
    base.metadata.create_all(pg_engine)
    run("INSERT INTO account VALUES (1, 5)")
    to_partitions(pg_engine)
    run(
        "ALTER TABLE account_event DETACH PARTITION account_event_p1",
        "DROP TABLE account_event",
        "ALTER TABLE account_event_p1 RENAME TO account_event",
    )
    names = (
        "SELECT indexrelid::regclass::text FROM pg_index"
        " WHERE indrelid = '{}'::regclass ORDER BY 1"
    )
    before = run(names.format("account_event"))
    to_partitions(pg_engine)
    assert run(names.format("account_event")) == before
    assert not {*run(names.format("account_event_p1"))} & {*before}
    run("UPDATE account SET balance = 6")
    assert [row.balance for row in run(EVENTS_OF_ALL)] == [5, 6]


def test_a_table_is_dumped_as_before_after_both_ways(
    account: Any,
    base: type[DeclarativeBase],
    pg_engine: Engine,
    pg_url: URL,
    run: Any,
    dump: Any,
) -> None:
    base.metadata.create_all(pg_engine)
    before = dump(pg_url)
    to_partitions(pg_engine)
    assert dump(pg_url) != before
    to_one_table(pg_engine)
    assert dump(pg_url) == before
    # Also where rows of several partitions are copied.
    to_partitions(pg_engine)
    end_first_partition(run, 100)
    to_one_table(pg_engine)
    assert dump(pg_url) == before


ADDED = """
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
  $$BEGIN INSERT INTO public.noted VALUES (TG_LEVEL); RETURN NULL; END$$;
CREATE TABLE noted (level text);
CREATE TRIGGER note_rows AFTER INSERT ON account_event
  FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER note_statements AFTER INSERT ON account_event EXECUTE FUNCTION note();
CREATE TRIGGER sleeping AFTER INSERT ON account_event EXECUTE FUNCTION note();
ALTER TABLE account_event DISABLE TRIGGER sleeping;
COMMENT ON TRIGGER note_rows ON account_event IS 'for the 100% of rows';
CREATE INDEX "Balance" ON account_event (balance DESC) WHERE balance > 5;
COMMENT ON INDEX "Balance" IS 'rich';
COMMENT ON COLUMN account_event.balance IS 'in cents';
COMMENT ON TABLE account_event IS 'our events';
ALTER TABLE account_event ADD CONSTRAINT sane CHECK (balance < 1000000);
ALTER TABLE account_event ALTER COLUMN balance SET STATISTICS 7;
CREATE VIEW rich WITH (security_barrier=true) AS
  SELECT * FROM account_event WHERE balance > 5;
CREATE VIEW very_rich AS SELECT r.id FROM rich AS r WHERE r.balance > 50;
CREATE TABLE kind (op "char" PRIMARY KEY);
CREATE TABLE review (id int, event bigint CONSTRAINT of_event REFERENCES account_event);
CREATE SEQUENCE numbers OWNED BY account_event.balance;
"""


@pytest.mark.parametrize("ways", [1, 2], ids=["partitioned", "one table again"])
@pytest.mark.parametrize("partitions", [1, 2])
def test_what_others_gave_the_table_comes_along(
    ways: int,
    partitions: int,
    account: Any,
    base: type[DeclarativeBase],
    pg_engine: Engine,
    pg_url: URL,
    run: Any,
    dump: Any,
    reader: str,
) -> None:
    base.metadata.create_all(pg_engine)
    run("INSERT INTO account VALUES (1, 70)")
    run(
        ADDED,
        f"GRANT SELECT ON account_event TO {reader} WITH GRANT OPTION",
        f"GRANT UPDATE (balance) ON account_event TO {reader}",
        "GRANT SELECT ON account_event TO PUBLIC",
    )
    before = dump(pg_url)
    to_partitions(pg_engine)
    if partitions == 2:
        end_first_partition(run, 100)
    run("INSERT INTO review SELECT 1, pgh_id FROM account_event")
    if ways == 2:
        to_one_table(pg_engine)
        run("DELETE FROM review")
        assert _sorted(dump(pg_url)) == _sorted(before)
    run("SELECT setval('pghistory_id_seq', 200)", "INSERT INTO account VALUES (2, 80)")
    assert run("SELECT level FROM noted ORDER BY level") == [("ROW",), ("STATEMENT",)]
    assert run("SELECT id FROM very_rich ORDER BY id") == [(1,), (2,)]
    assert run("SELECT reloptions FROM pg_class WHERE oid = 'rich'::regclass") == [
        (["security_barrier=true"],)
    ]
    with pytest.raises(DBAPIError, match="of_event"):
        run("INSERT INTO review VALUES (2, 99)")
    with pytest.raises(DBAPIError, match="sane"):
        run("INSERT INTO account VALUES (3, 1000000)")
    with pytest.raises(AppendOnlyError):
        run("DELETE FROM account_event")
    assert run(
        "SELECT obj_description('account_event'::regclass, 'pg_class'),"
        " col_description('account_event'::regclass, attnum), attstattarget,"
        " obj_description('\"Balance\"'::regclass, 'pg_class'),"
        " pg_get_serial_sequence('account_event', 'balance')"
        " FROM pg_attribute WHERE attrelid = 'account_event'::regclass"
        " AND attname = 'balance'"
    ) == [("our events", "in cents", 7, "rich", "public.numbers")]
    assert run(
        "SELECT tgname, obj_description(oid, 'pg_trigger'), tgenabled"
        " FROM pg_trigger WHERE tgrelid = 'account_event'::regclass"
        " AND tgname IN ('note_rows', 'sleeping') ORDER BY 1"
    ) == [("note_rows", "for the 100% of rows", "O"), ("sleeping", None, "D")]
    assert run(
        f"SELECT has_table_privilege('{reader}', 'account_event',"
        " 'SELECT WITH GRANT OPTION'),"
        f" has_column_privilege('{reader}', 'account_event', 'balance', 'UPDATE'),"
        f" has_table_privilege('{reader}', 'account_event', 'DELETE'),"
        " convalidated FROM pg_constraint WHERE conname = 'of_event'"
    ) == [(True, True, False, True)]


def _sorted(dumped: str) -> list[str]:
    return sorted(line.rstrip(",") for line in dumped.splitlines())


def test_a_partition_gives_nobody_a_right(
    account: Any, base: type[DeclarativeBase], pg_engine: Engine, run: Any, reader: str
) -> None:
    base.metadata.create_all(pg_engine)
    run(
        f"GRANT SELECT ON account_event TO {reader}",
        "GRANT SELECT ON account_event TO PUBLIC",
    )
    to_partitions(pg_engine)
    assert run(
        f"SELECT has_table_privilege('{reader}', 'account_event_p1', 'SELECT'),"
        f" has_table_privilege('{reader}', 'account_event', 'SELECT')"
    ) == [(False, True)]


@pytest.fixture
def reader(pg_engine: Engine) -> Iterator[str]:
    name = f"reader_of_{pg_engine.url.database}"
    with pg_engine.begin() as connection:
        connection.execute(text(f"CREATE ROLE {name}"))
    yield name
    with pg_engine.begin() as connection:
        connection.execute(text(f"DROP OWNED BY {name}"))
        connection.execute(text(f"DROP ROLE {name}"))


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("CREATE UNIQUE INDEX once ON account_event (id, balance)", "once"),
        ("ALTER TABLE account_event SET UNLOGGED", "it is no ordinary table"),
        ("ALTER TABLE account_event ENABLE ROW LEVEL SECURITY", "row level security"),
        ("CREATE MATERIALIZED VIEW m AS SELECT * FROM account_event", "view m"),
        ("CREATE PUBLICATION p FOR TABLE account_event", "publication p"),
        (
            "CREATE FUNCTION f(account_event) RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "function f(account_event)",
        ),
        ("CREATE TABLE child () INHERITS (account_event)", "table child"),
    ],
)
@pytest.mark.usefixtures("english")
def test_what_cannot_come_along_is_refused(
    statement: str,
    reason: str,
    account: Any,
    base: type[DeclarativeBase],
    pg_engine: Engine,
    run: Any,
) -> None:
    base.metadata.create_all(pg_engine)
    run(statement)
    with pytest.raises(InstallError) as refused:
        to_partitions(pg_engine)
    assert reason in str(refused.value)
    assert "drop that, and make it again afterwards" in str(refused.value)
    assert run("SELECT relkind FROM pg_class WHERE relname = 'account_event'") == [
        ("r",)
    ]


@contextmanager
def before_the_lock(engine: Engine, meanwhile: Callable[[], None]) -> Iterator[None]:
    """Do something once, when what the table has is read, and it is not yet locked."""
    is_read, is_done = list[bool](), list[bool]()

    def look(_: Any, __: Any, statement: str, *___: Any) -> None:
        if "w.xmin" in statement:
            is_read.append(True)
        elif statement.startswith("SAVEPOINT") and is_read and not is_done:
            is_done.append(True)
            meanwhile()

    event.listen(engine, "before_cursor_execute", look)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", look)
    assert is_done


@pytest.mark.parametrize("way", [to_partitions, to_one_table])
def test_what_it_gets_until_it_is_locked_comes_along(
    way: Callable[[Engine], None],
    account: Any,
    base: type[DeclarativeBase],
    pg_engine: Engine,
    run: Any,
    reader: str,
) -> None:
    base.metadata.create_all(pg_engine)
    run(
        "INSERT INTO account VALUES (1, 5)",
        "CREATE VIEW changed AS SELECT id FROM account_event",
    )
    if way is to_one_table:
        to_partitions(pg_engine)
    ((version,),) = run("SELECT current_setting('server_version_num')::int")
    changes = [
        f"GRANT SELECT ON account_event TO {reader}",
        f"GRANT UPDATE (balance) ON account_event TO {reader}",
        "CREATE VIEW made AS SELECT balance FROM account_event",
    ]
    # Up to PostgreSQL 15, to read what a view is locks the view itself, so who replaces
    # it waits for the end.
    is_replaced = version >= 160000
    if is_replaced:
        changed = "SELECT id FROM account_event WHERE balance > 5"
        changes.append(f"CREATE OR REPLACE VIEW changed AS {changed}")

    def change() -> None:
        run(*changes)

    with before_the_lock(pg_engine, change):
        way(pg_engine)
    run("INSERT INTO account VALUES (2, 6)")
    assert run("SELECT balance FROM made ORDER BY 1") == [(5,), (6,)]
    assert run("SELECT id FROM changed WHERE id > 1") == [(2,)]
    assert run("SELECT count(*) FROM changed") == [(1 if is_replaced else 2,)]
    assert run(
        f"SELECT has_table_privilege('{reader}', 'account_event', 'SELECT'),"
        f" has_column_privilege('{reader}', 'account_event', 'balance', 'UPDATE')"
    ) == [(True, True)]


def test_a_revision_sees_what_is_changed_until_it_is_locked_at_any_level(
    account: Any,
    base: type[DeclarativeBase],
    pg_engine: Engine,
    pg_url: URL,
    run: Any,
    reader: str,
) -> None:
    base.metadata.create_all(pg_engine)
    to_partitions(pg_engine)
    # As autocommit_block() of Alembic, where the server's default is another level.
    options = "-c default_transaction_isolation=repeatable\\ read"
    engine = create_engine(pg_url, connect_args={"options": options})
    engine = engine.execution_options(isolation_level="AUTOCOMMIT")
    grant = f"GRANT SELECT ON account_event TO {reader}"
    with before_the_lock(engine, lambda: run(grant)):
        to_one_table(engine)
    engine.dispose()
    granted = f"SELECT has_table_privilege('{reader}', 'account_event', 'SELECT')"
    assert run(granted) == [(True,)]


LATE = "CREATE MATERIALIZED VIEW late AS SELECT * FROM account_event"


def test_what_cannot_come_along_is_refused_until_it_is_locked(
    account: Any, base: type[DeclarativeBase], pg_engine: Engine, run: Any
) -> None:
    base.metadata.create_all(pg_engine)
    with (
        before_the_lock(pg_engine, lambda: run(LATE)),
        pytest.raises(InstallError, match="late depends on it"),
    ):
        to_partitions(pg_engine)


def test_what_cannot_come_along_is_refused_also_after_the_rows_are_looked_at(
    account: Any, base: type[DeclarativeBase], pg_engine: Engine, run: Any
) -> None:
    base.metadata.create_all(pg_engine)

    def report(done: str) -> None:
        run(LATE)

    with pg_engine.connect() as connection:
        table = PartitionedTable(EVENTS, "pgh_id", "bigint")
        with pytest.raises(InstallError, match="late depends on it"):
            Repartition(connection, table, FIRST, 1, report).partition()


def test_a_transaction_that_would_not_see_what_others_write_is_refused(
    account: Any, create_all: Callable[[], None], pg_engine: Engine
) -> None:
    create_all()
    repeatable, serializable = (
        pg_engine.execution_options(isolation_level=level)
        for level in ("REPEATABLE READ", "SERIALIZABLE")
    )
    told = r"is REPEATABLE READ, .* convert it at READ COMMITTED"
    with repartition(repeatable) as change, pytest.raises(InstallError, match=told):
        change.partition()
    to_partitions(pg_engine)
    with (
        repartition(serializable) as change,
        change.connection.begin(),
        pytest.raises(InstallError, match="SERIALIZABLE"),
    ):
        change.unpartition()
    with repartition(pg_engine) as change:
        change.unpartition()


def test_rows_below_the_first_partition_are_refused(
    account: Any, base: type[DeclarativeBase], pg_engine: Engine, run: Any
) -> None:
    base.metadata.create_all(pg_engine)
    run(
        "INSERT INTO account_event (pgh_id, pgh_label, pgh_op, pgh_obj_id, id)"
        " VALUES (-4, 'snapshot', 'I', 1, 1)"
    )
    with pytest.raises(InstallError, match="has rows whose pgh_id is below 1"):
        to_partitions(pg_engine)


def test_a_table_that_is_not_there_is_refused(pg_engine: Engine) -> None:
    with pytest.raises(InstallError, match=r"no table public\.account_event; create"):
        to_partitions(pg_engine)


def test_a_run_goes_on_where_one_was_interrupted(
    account: Any, base: type[DeclarativeBase], pg_engine: Engine, run: Any
) -> None:
    base.metadata.create_all(pg_engine)
    run("INSERT INTO account VALUES (1, 5)", "CREATE TABLE review (event bigint)")
    check_of = (
        f"ALTER TABLE account_event ADD CONSTRAINT {LOWER_CHECK} CHECK (pgh_id >= 1)"
    )
    run(f"{check_of} NOT VALID")
    to_partitions(pg_engine)
    to_one_table(pg_engine)
    run(check_of)
    to_partitions(pg_engine)
    # After the last transaction, before the foreign keys are validated.
    run(
        "ALTER TABLE review ADD CONSTRAINT of_event FOREIGN KEY (event)"
        " REFERENCES account_event NOT VALID"
    )
    to_partitions(pg_engine)
    assert run("SELECT convalidated FROM pg_constraint WHERE conname = 'of_event'") == [
        (True,)
    ]
    end_first_partition(run, 100)
    run(
        "CREATE TABLE account_event_unpartitioned (LIKE account_event INCLUDING ALL)",
        "COMMENT ON TABLE account_event_unpartitioned IS"
        " 'Rows of a partitioned table that becomes one table'",
        "INSERT INTO account_event_unpartitioned SELECT * FROM account_event",
    )
    to_one_table(pg_engine)
    to_one_table(pg_engine)
    assert len(run(EVENTS_OF_ALL)) == 1


def test_the_table_of_somebody_else_is_not_dropped(
    account: Any, base: type[DeclarativeBase], pg_engine: Engine, run: Any
) -> None:
    base.metadata.create_all(pg_engine)
    to_partitions(pg_engine)
    end_first_partition(run, 100)
    run("CREATE TABLE account_event_unpartitioned (id int)")
    with pytest.raises(InstallError, match="not from an earlier run; rename it"):
        to_one_table(pg_engine)


def test_a_table_that_is_never_free_is_given_up_and_left_as_it_was(
    account: Any, base: type[DeclarativeBase], pg_engine: Engine, run: Any
) -> None:
    base.metadata.create_all(pg_engine)
    with (
        pg_engine.begin() as other,
        repartition(pg_engine, patience=Patience(20, 20, 0.1)) as change,
    ):
        other.execute(text("INSERT INTO account VALUES (1, 5)"))
        with pytest.raises(InstallError, match="was in use for 0.1 seconds"):
            change.partition()
    to_partitions(pg_engine)
    assert run("SELECT id FROM account_event_p1") == [(1,)]


def test_a_vacuum_is_waited_for_while_others_write(
    account: Any, base: type[DeclarativeBase], pg_engine: Engine, run: Any
) -> None:
    base.metadata.create_all(pg_engine)
    with (
        pg_engine.connect() as vacuum,
        repartition(pg_engine, patience=Patience(20, 20, 0.1)) as change,
    ):
        vacuum.execute(text("LOCK TABLE account_event IN SHARE UPDATE EXCLUSIVE MODE"))
        timer = threading.Timer(0.8, vacuum.rollback)
        timer.start()
        run("INSERT INTO account VALUES (1, 5)")
        change.partition()
        timer.join()
    assert run("SELECT id FROM account_event_p1") == [(1,)]


def test_in_a_transaction_of_its_caller_it_is_part_of_that(
    account: Any, base: type[DeclarativeBase], pg_engine: Engine, run: Any
) -> None:
    base.metadata.create_all(pg_engine)
    with repartition(pg_engine) as change, change.connection.begin() as transaction:
        change.partition()
        transaction.rollback()
    assert run("SELECT relkind FROM pg_class WHERE relname = 'account_event'") == [
        ("r",)
    ]
    settings = text(
        "SELECT current_setting('search_path'), current_setting('lock_timeout')"
    )
    with repartition(pg_engine) as change, change.connection.begin():
        change.connection.execute(text("SET LOCAL lock_timeout = '7s'"))
        before = change.connection.execute(settings).one()
        change.partition()
        assert change.connection.execute(settings).one() == before
        change.unpartition()
        assert change.connection.execute(settings).one() == before
    with pg_engine.begin() as other, repartition(pg_engine) as change:
        other.execute(text("INSERT INTO account VALUES (1, 5)"))
        with change.connection.begin(), pytest.raises(OperationalError):
            change.partition()


def test_on_a_connection_in_autocommit_each_step_is_a_transaction(
    account: Any, base: type[DeclarativeBase], pg_engine: Engine, run: Any
) -> None:
    base.metadata.create_all(pg_engine)
    run("INSERT INTO account VALUES (0, 5)")
    with repartition(pg_engine) as change:
        change.connection.execution_options(isolation_level="AUTOCOMMIT")
        change.partition()
        change.unpartition()
        run("CREATE UNIQUE INDEX once ON account_event (balance)")
        with pytest.raises(InstallError):
            change.partition()
        run("DROP INDEX once")
        change.partition()
    assert run("SELECT id FROM account_event_p1") == [(0,)]


@pytest.mark.parametrize("way", [to_partitions, to_one_table])
def test_no_write_is_lost_while_others_write(
    way: Callable[[Engine], None],
    account: Any,
    base: type[DeclarativeBase],
    pg_engine: Engine,
    run: Any,
) -> None:
    base.metadata.create_all(pg_engine)
    run("INSERT INTO account SELECT n, 0 FROM generate_series(1, 4) n")
    if way is to_one_table:
        to_partitions(pg_engine)
        end_first_partition(run, 50)
    stop, written, failed = threading.Event(), [0] * 4, []

    def write(number: int) -> None:
        update = text("UPDATE account SET balance = balance + 1 WHERE id = :id")
        with pg_engine.connect() as connection:
            while not stop.is_set():
                try:
                    connection.execute(update, {"id": number + 1})
                    connection.commit()
                    written[number] += 1
                except DBAPIError as error:
                    failed.append(error)
                    return

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    while min(written) < 20:
        stop.wait(0.01)
    way(pg_engine)
    until = [count + 20 for count in written]
    while not failed and any(a < b for a, b in zip(written, until, strict=True)):
        stop.wait(0.01)
    stop.set()
    for writer in writers:
        writer.join()
    assert failed == []
    assert run(
        "SELECT id, count(*), max(balance) FROM account_event WHERE pgh_op = 'U'"
        " GROUP BY id ORDER BY id"
    ) == [(n + 1, written[n], written[n]) for n in range(4)]


@pytest.mark.parametrize("way", [to_partitions, to_one_table])
def test_of_two_runs_at_once_one_finds_it_done(
    way: Callable[[Engine], None],
    account: Any,
    base: type[DeclarativeBase],
    pg_engine: Engine,
    run: Any,
) -> None:
    base.metadata.create_all(pg_engine)
    run("INSERT INTO account VALUES (1, 5)")
    if way is to_one_table:
        to_partitions(pg_engine)
    else:
        run(
            f"ALTER TABLE account_event ADD CONSTRAINT {LOWER_CHECK}"
            " CHECK (pgh_id >= 1)"
        )
    failed: list[BaseException] = []

    def change() -> None:
        try:
            way(pg_engine)
        except BaseException as error:
            failed.append(error)

    both = [threading.Thread(target=change) for _ in range(2)]
    with pg_engine.begin() as other:
        other.execute(text("SELECT FROM account_event"))
        for thread in both:
            thread.start()
        # Until both have looked at what there is, and wait for the lock.
        threading.Event().wait(0.7)
    for thread in both:
        thread.join()
    assert failed == []
    assert run("SELECT id FROM account_event") == [(1,)]


def test_the_rows_of_closed_partitions_are_copied_before_the_table_is_locked(
    account: Any, base: type[DeclarativeBase], pg_engine: Engine, run: Any
) -> None:
    base.metadata.create_all(pg_engine)
    run("INSERT INTO account VALUES (1, 5)")
    to_partitions(pg_engine)
    end_first_partition(run, 100)
    run(
        "ALTER TABLE account_event_p1 ADD CONSTRAINT pgh_time_check CHECK"
        " (pgh_created_at >= '2020-01-01 00:00:00+00'"
        " AND pgh_created_at <= '2999-01-01 00:00:00+00')",
        "SELECT setval('pghistory_id_seq', 200)",
        "INSERT INTO account VALUES (2, 5)",
    )
    told: list[str] = []
    with pg_engine.connect() as connection:
        table = PartitionedTable(EVENTS, "pgh_id", "bigint")
        Repartition(connection, table, FIRST, 1, told.append).unpartition()
    assert told == [
        "the rows of public.account_event_p1 are copied",
        "public.account_event is one table",
    ]
    assert run("SELECT id FROM account_event ORDER BY pgh_id") == [(1,), (2,)]


CLOSE = (
    "ALTER TABLE {} ADD CONSTRAINT pgh_time_check CHECK"
    " (pgh_created_at >= '2020-01-01 00:00:00+00'"
    " AND pgh_created_at <= '2999-01-01 00:00:00+00')"
)


@pytest.fixture
def three_partitions(
    account: Any, base: type[DeclarativeBase], pg_engine: Engine, run: Any
) -> None:
    """A closed partition, one that could be closed, and the tail; an event in each."""
    base.metadata.create_all(pg_engine)
    to_partitions(pg_engine)
    run(
        "INSERT INTO account VALUES (1, 5)",
        "ALTER TABLE account_event DETACH PARTITION account_event_p1",
        "ALTER TABLE account_event ATTACH PARTITION account_event_p1"
        " FOR VALUES FROM (1) TO (100)",
        "CREATE TABLE account_event_p100 PARTITION OF account_event"
        " FOR VALUES FROM (100) TO (200)",
        "CREATE TABLE account_event_p200 PARTITION OF account_event"
        " FOR VALUES FROM (200) TO (MAXVALUE)",
        CLOSE.format("account_event_p1"),
        "SELECT setval('pghistory_id_seq', 150)",
        "INSERT INTO account VALUES (2, 5)",
        "SELECT setval('pghistory_id_seq', 250)",
        "INSERT INTO account VALUES (3, 5)",
    )


def to_one_table_with(engine: Engine, meanwhile: Callable[[], None]) -> None:
    """Make one table; do something when the rows of closed partitions are copied."""

    def report(done: str) -> None:
        if done.endswith("are copied"):
            meanwhile()

    with engine.connect() as connection:
        table = PartitionedTable(EVENTS, "pgh_id", "bigint")
        Repartition(connection, table, FIRST, 1, report).unpartition()


@pytest.mark.usefixtures("three_partitions")
def test_a_partition_that_is_closed_meanwhile_is_copied_too(
    pg_engine: Engine, run: Any
) -> None:
    to_one_table_with(pg_engine, lambda: run(CLOSE.format("account_event_p100")))
    assert run("SELECT id FROM account_event ORDER BY id") == [(1,), (2,), (3,)]


@pytest.mark.usefixtures("three_partitions")
def test_what_is_erased_meanwhile_does_not_come_back(
    pg_engine: Engine, run: Any
) -> None:
    run("ALTER TABLE account_event_p1 DISABLE TRIGGER USER")
    outcome: list[str] = []

    def erase() -> None:
        try:
            run("UPDATE account_event_p1 SET balance = NULL")
            outcome.append("erased")
        except DBAPIError:
            outcome.append("refused")

    thread = threading.Thread(target=erase)

    def meanwhile() -> None:
        thread.start()
        thread.join(0.5)

    to_one_table_with(pg_engine, meanwhile)
    thread.join()
    (balance,) = run("SELECT balance FROM account_event WHERE id = 1")[0]
    assert (outcome, balance) in [(["erased"], None), (["refused"], 5)]


@pytest.mark.usefixtures("three_partitions")
def test_a_way_back_that_fails_leaves_nothing(pg_engine: Engine, run: Any) -> None:
    def fail() -> None:
        raise RuntimeError

    tables = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') ORDER BY 1"
    before = run(tables)
    with pytest.raises(RuntimeError):
        to_one_table_with(pg_engine, fail)
    assert run(tables) == before
    assert len(run("SELECT id FROM account_event")) == 3


def test_a_table_without_a_comment_in_a_tablespace_of_its_own_stays_there(
    account: Any, base: type[DeclarativeBase], pg_engine: Engine, run: Any
) -> None:
    base.metadata.create_all(pg_engine)
    place = f"place_of_{pg_engine.url.database}"
    with pg_engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(text("SET allow_in_place_tablespaces = on"))
        connection.execute(text(f"CREATE TABLESPACE {place} LOCATION ''"))
        connection.execute(text("RESET allow_in_place_tablespaces"))
    run(
        "COMMENT ON TABLE account_event IS NULL",
        f"ALTER TABLE account_event SET TABLESPACE {place}",
    )
    to_partitions(pg_engine)
    assert run(
        "SELECT t.spcname, obj_description(c.oid, 'pg_class') FROM pg_class AS c"
        " JOIN pg_tablespace AS t ON t.oid = c.reltablespace"
        " WHERE c.relname = 'account_event'"
    ) == [(place, None)]
    base.metadata.drop_all(pg_engine)
    with pg_engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(text(f"DROP TABLESPACE {place}"))


@pytest.fixture
def partitioned(level: str) -> type[DeclarativeBase]:
    """The model of ``account``, after it got partition_by."""

    class Base(DeclarativeBase):
        pass

    @track(Snapshot, AfterDelete, level=level, append_only=True, partition_by=10)
    class Account(Base):
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        balance: Mapped[int] = mapped_column(default=0)

    return Base


def test_maintenance_converts_if_it_is_told_to(
    account: Any,
    base: type[DeclarativeBase],
    partitioned: type[DeclarativeBase],
    pg_engine: Engine,
    run: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base.metadata.create_all(pg_engine)
    ensure_archive_table(partitioned.metadata).create(pg_engine)
    run("INSERT INTO account SELECT n, 0 FROM generate_series(1, 3) n")
    (finding,) = check(pg_engine, partitioned)
    assert "run the command partitions with --convert" in str(finding)
    with pytest.raises(InstallError, match="has no partitions in the database"):
        partitions(pg_engine, partitioned)
    report, contexts = partitions(pg_engine, partitioned, convert=True, dry_run=True)
    assert contexts.done == ("give public.pghistory_context partitions",)
    assert report.done == ("give public.account_event partitions",)
    assert report.partitions == ()
    database = Database([partitioned.metadata], "sa-history {}", pg_engine, ["app"])
    assert (
        partitions_command(
            database, None, False, False, convert=True, dry_run=False, json=False
        )
        == 0
    )
    assert capsys.readouterr().out.splitlines() == [
        "public.account_event",
        "  all rows of public.account_event fit the first partition",
        "  public.account_event is partitioned",
        "public.pghistory_context",
        "  public.pghistory_context is partitioned",
        ANY,  # its partitions of this month and the next get ends
        ANY,
    ]
    assert check(pg_engine, partitioned) == []
    assert "make it one table by a migration" in str(check(pg_engine, base)[0])
    # The next run has nothing left to do.
    for report in partitions(pg_engine, partitioned, convert=True, dry_run=True):
        assert report.done == ()
    for report in partitions(pg_engine, partitioned, convert=True):
        assert report.done == ()
    assert run("SELECT count(*) FROM account_event") == [(3,)]
