"""Triggers, functions and tables come and go with the tables they belong to."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import (
    URL,
    Column,
    Engine,
    Enum,
    Integer,
    MetaData,
    NullPool,
    Table,
    create_engine,
    create_mock_engine,
    event,
    insert,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import AfterDelete, AfterUpdate, Snapshot, new, track

Recorded = Callable[..., list[tuple[Any, ...]]]
Standing = Callable[[], list[str]]


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@pytest.fixture
def account(base: type[DeclarativeBase], level: str) -> Any:
    """A tracked class, with all that makes something in the database."""

    @track(
        Snapshot,
        AfterUpdate(new.colour == "RED", label="100% 'red'"),
        AfterDelete,
        level=level,
        append_only=True,
        context_columns=[Column("user", Integer)],
    )
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        colour: Mapped[str | None]

    return Account


@pytest.fixture
def plain(base: type[DeclarativeBase]) -> Any:
    """A class of the same MetaData that is not tracked."""

    class Plain(base):  # type: ignore[misc, valid-type]
        __tablename__ = "plain"
        id: Mapped[int] = mapped_column(primary_key=True)

    return Plain


@pytest.fixture
def standing(pg_engine: Engine) -> Standing:
    """What stands in the schema: tables, sequences, functions, triggers, types."""
    statement = text(
        "SELECT relname::text FROM pg_class"
        " WHERE relnamespace = 'public'::regnamespace AND relkind <> 'i'"
        " UNION ALL SELECT proname || '()' FROM pg_proc"
        " WHERE pronamespace = 'public'::regnamespace"
        " UNION ALL SELECT tgname || '!' FROM pg_trigger WHERE NOT tgisinternal"
        " UNION ALL SELECT typname || '::' FROM pg_type"
        " WHERE typnamespace = 'public'::regnamespace AND typtype = 'e'"
    )

    def look() -> list[str]:
        with pg_engine.connect() as connection:
            return sorted(connection.scalars(statement))

    return look


def write(engine: Engine, table: str = "account") -> None:
    """Make one change of each kind."""
    with engine.begin() as connection, history.context(connection, user=7):
        connection.execute(text(f"INSERT INTO {table} (id) VALUES (1)"))
        connection.execute(text(f"UPDATE {table} SET colour = 'RED'"))
        connection.execute(text(f"DELETE FROM {table}"))


BY = {"user": 7}
WRITTEN = [
    ("snapshot", "I", 1, None, BY),
    ("snapshot", "U", 1, "RED", BY),
    ("100% 'red'", "U", 1, "RED", BY),
    ("delete", "D", 1, "RED", BY),
]


def test_create_all_can_be_repeated(
    account: Any,
    plain: Any,
    create_all: Callable[[], None],
    standing: Standing,
    pg_engine: Engine,
    recorded: Recorded,
) -> None:
    create_all()
    first = standing()
    create_all()
    assert standing() == first
    write(pg_engine)
    create_all()
    assert recorded(account, "id", "colour") == WRITTEN


def test_create_all_adds_what_is_missing_to_tables_that_stand(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    level: str,
    pg_engine: Engine,
    recorded: Recorded,
) -> None:
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        colour: Mapped[str | None]

    create_all()
    write(pg_engine)
    track(level=level)(Account)
    create_all()
    write(pg_engine)
    assert [event[:3] for event in recorded(Account, "colour")] == [
        ("snapshot", "I", None),
        ("snapshot", "U", "RED"),
        ("delete", "D", "RED"),
    ]


def test_drop_all_leaves_nothing_behind(
    account: Any,
    plain: Any,
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    standing: Standing,
    pg_engine: Engine,
) -> None:
    create_all()
    write(pg_engine)
    base.metadata.drop_all(pg_engine)
    assert standing() == []
    base.metadata.drop_all(pg_engine)
    create_all()
    base.metadata.drop_all(pg_engine, checkfirst=False)
    assert standing() == []


def test_create_all_of_an_empty_database_needs_no_look_first(
    account: Any, base: type[DeclarativeBase], pg_engine: Engine, recorded: Recorded
) -> None:
    base.metadata.create_all(pg_engine, checkfirst=False)
    write(pg_engine)
    assert recorded(account, "id", "colour") == WRITTEN


def test_create_all_of_the_tracked_table_alone_brings_what_it_needs(
    account: Any,
    plain: Any,
    base: type[DeclarativeBase],
    standing: Standing,
    pg_engine: Engine,
    recorded: Recorded,
) -> None:
    base.metadata.create_all(pg_engine, tables=[account.__table__])
    assert "plain" not in standing()
    write(pg_engine)
    assert recorded(account, "id", "colour") == WRITTEN


def test_create_all_of_other_tables_makes_nothing_of_ours(
    account: Any,
    plain: Any,
    base: type[DeclarativeBase],
    standing: Standing,
    pg_engine: Engine,
) -> None:
    base.metadata.create_all(pg_engine, tables=[plain.__table__])
    assert standing() == ["plain", "plain_id_seq"]


def test_drop_all_of_other_tables_touches_nothing_of_ours(
    account: Any,
    plain: Any,
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    standing: Standing,
    pg_engine: Engine,
) -> None:
    base.metadata.create_all(pg_engine, tables=[account.__table__])
    before = standing()
    create_all()
    base.metadata.drop_all(pg_engine, tables=[plain.__table__])
    assert standing() == before


def test_table_create_makes_a_tracked_table(
    account: Any, pg_engine: Engine, recorded: Recorded
) -> None:
    account.__table__.create(pg_engine)
    account.__table__.create(pg_engine, checkfirst=True)
    write(pg_engine)
    assert recorded(account, "id", "colour") == WRITTEN


def test_event_table_can_be_made_after_the_tracked_table(
    account: Any,
    create_all: Callable[[], None],
    standing: Standing,
    pg_engine: Engine,
    recorded: Recorded,
) -> None:
    create_all()
    before = standing()
    account.events.table.drop(pg_engine)
    assert not any(name.startswith("account_event") for name in standing())
    write(pg_engine)  # the table can be written, and no more
    account.events.table.create(pg_engine)
    assert standing() == before
    write(pg_engine)
    assert recorded(account, "id", "colour") == WRITTEN


def test_event_table_that_is_made_first_waits_for_the_tracked_table(
    account: Any, base: type[DeclarativeBase], pg_engine: Engine, recorded: Recorded
) -> None:
    account.events.table.create(pg_engine)
    account.__table__.create(pg_engine)
    write(pg_engine)
    assert recorded(account, "id", "colour") == WRITTEN


def test_events_outlive_the_tracked_table_and_go_on_with_a_new_one(
    account: Any,
    create_all: Callable[[], None],
    standing: Standing,
    pg_engine: Engine,
    recorded: Recorded,
) -> None:
    create_all()
    before = standing()
    write(pg_engine)
    account.__table__.drop(pg_engine)
    assert recorded(account, "id", "colour") == WRITTEN
    assert "account_event_record()" not in standing()
    account.__table__.create(pg_engine)
    assert standing() == before
    write(pg_engine)
    assert recorded(account, "id", "colour") == WRITTEN * 2


def test_tables_of_one_metadata_go_one_by_one(
    account: Any,
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    standing: Standing,
    pg_engine: Engine,
) -> None:
    create_all()
    for table in reversed(base.metadata.sorted_tables):
        table.drop(pg_engine)
    assert standing() == []


# An ENUM is one object that both tables use


def make_car(base: type[DeclarativeBase], level: str, **options: Any) -> Any:
    @track(level=level)
    class Car(base):  # type: ignore[misc, valid-type]
        __tablename__ = "car"
        id: Mapped[int] = mapped_column(primary_key=True)
        colour: Mapped[Colour | None] = mapped_column(
            Enum(Colour, name="colour", **options)
        )

    return Car


def test_enum_is_made_once_by_table_create(
    base: type[DeclarativeBase], level: str, pg_engine: Engine, recorded: Recorded
) -> None:
    car = make_car(base, level)
    car.__table__.create(pg_engine)
    car.__table__.create(pg_engine, checkfirst=True)
    write(pg_engine, "car")
    assert [event[:3] for event in recorded(car, "colour")] == [
        ("snapshot", "I", None),
        ("snapshot", "U", Colour.RED),
        ("delete", "D", Colour.RED),
    ]


@pytest.mark.parametrize("which", ["tracked", "events"])
def test_enum_of_the_metadata_stays_while_one_table_uses_it(
    base: type[DeclarativeBase],
    level: str,
    create_all: Callable[[], None],
    pg_engine: Engine,
    standing: Standing,
    which: str,
) -> None:
    # SQLAlchemy 2.0 needs metadata= for a type of two tables; 2.1 gives it itself.
    car = make_car(base, level, metadata=base.metadata)
    create_all()
    table = car.__table__ if which == "tracked" else car.events.table
    table.drop(pg_engine)
    assert "colour::" in standing()
    table.create(pg_engine)
    write(pg_engine, "car")
    base.metadata.drop_all(pg_engine)
    assert standing() == []


# Copies


def test_copy_in_another_metadata_is_a_plain_table(
    account: Any, standing: Standing, pg_engine: Engine
) -> None:
    copies = MetaData()
    copy = account.__table__.to_metadata(copies)
    copies.create_all(pg_engine)
    assert standing() == ["account", "account_id_seq"]
    write(pg_engine)
    with pytest.raises(history.exc.EventsError, match="not tracked"):
        history.events(copy)
    copies.drop_all(pg_engine)
    assert standing() == []


def test_copies_of_ours_are_plain_tables_too(
    account: Any,
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    standing: Standing,
    pg_engine: Engine,
    recorded: Recorded,
) -> None:
    create_all()
    before = standing()
    copies = MetaData()
    for table in base.metadata.sorted_tables:
        table.to_metadata(copies, schema="archive")
    with pg_engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA archive"))
        copies.create_all(connection)
    write(pg_engine, "archive.account")
    with pg_engine.connect() as connection:
        for events in ("account_event", "archive.account_event"):
            count = text(f"SELECT count(*) FROM {events}")
            assert connection.scalar(count) == 0
    copies.drop_all(pg_engine)
    assert standing() == before
    write(pg_engine)
    assert recorded(account, "id", "colour") == WRITTEN


def test_copy_can_be_tracked_anew(
    account: Any,
    level: str,
    create_all: Callable[[], None],
    pg_engine: Engine,
    recorded: Recorded,
) -> None:
    copy = account.__table__.to_metadata(MetaData(), name="copy")
    track(level=level)(copy)
    create_all()
    copy.metadata.create_all(pg_engine)
    write(pg_engine, "copy")
    assert recorded(account) == []
    assert recorded(copy, "id", "colour") == [
        event for event in WRITTEN if event[0] in ("snapshot", "delete")
    ]


def test_copy_in_another_schema_can_be_tracked_anew(
    account: Any, level: str, pg_engine: Engine, recorded: Recorded
) -> None:
    with pg_engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA other"))
    copy = account.__table__.to_metadata(MetaData(schema="other"), schema="other")
    track(level=level)(copy)
    copy.metadata.create_all(pg_engine)
    with pg_engine.begin() as connection:
        connection.execute(insert(copy).values(id=1))
    assert history.events(copy).table.schema == "other"
    assert recorded(copy, "id") == [("snapshot", "I", 1, None)]


def test_a_context_is_stored_beside_the_events_of_each_metadata(
    account: Any,
    level: str,
    create_all: Callable[[], None],
    pg_engine: Engine,
    recorded: Recorded,
) -> None:
    """Each has a context table of its own; one transaction writes to both."""
    create_all()
    with pg_engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA other"))
    copy = account.__table__.to_metadata(MetaData(schema="other"), schema="other")
    track(level=level)(copy)
    copy.metadata.create_all(pg_engine)
    with pg_engine.begin() as connection, history.context(connection, user=7):
        for table in (account.__table__, copy, account.__table__):
            connection.execute(insert(table))
    assert recorded(copy, "id") == [("snapshot", "I", 1, {"user": 7})]
    assert recorded(account, "id") == [
        ("snapshot", "I", 1, {"user": 7}),
        ("snapshot", "I", 2, {"user": 7}),
    ]


# Without a connection, and without PostgreSQL


@pytest.fixture
def printed(base: type[DeclarativeBase]) -> Callable[[str | None], list[str]]:
    """What create_all prints on a mock engine."""

    def dump(paramstyle: str | None) -> list[str]:
        options = {"paramstyle": paramstyle} if paramstyle else {}

        def collect(statement: Any, *_: Any, **__: Any) -> None:
            lines.append(str(statement.compile(dialect=engine.dialect)))

        lines: list[str] = []
        engine = create_mock_engine("postgresql+psycopg://", collect, **options)
        base.metadata.create_all(engine, checkfirst=False)
        return lines

    return dump


def test_printed_statements_run_in_psql(
    account: Any,
    printed: Callable[[str | None], list[str]],
    psql: Callable[[str], str],
    pg_engine: Engine,
    recorded: Recorded,
) -> None:
    # A name for the style of parameters, because psql would take %% as it is.
    psql(";\n".join(printed("named")) + ";")
    write(pg_engine)
    assert recorded(account, "id", "colour") == WRITTEN


def test_printed_statements_run_with_the_driver(
    account: Any,
    printed: Callable[[str | None], list[str]],
    pg_engine: Engine,
    recorded: Recorded,
) -> None:
    with pg_engine.begin() as connection:
        for statement in printed(None):
            connection.exec_driver_sql(statement)
    write(pg_engine)
    assert recorded(account, "id", "colour") == WRITTEN


def test_statements_print_as_sql_for_logs(account: Any) -> None:
    lines: list[str] = []

    def collect(statement: Any, *_: Any, **__: Any) -> None:
        lines.append(str(statement))

    engine = create_mock_engine("postgresql://", collect)
    account.metadata.create_all(engine, checkfirst=False)
    assert any(line.startswith("CREATE OR REPLACE TRIGGER") for line in lines)


def test_drop_all_can_be_printed(
    account: Any,
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    psql: Callable[[str], str],
    standing: Standing,
) -> None:
    create_all()
    lines: list[str] = []

    def collect(statement: Any, *_: Any, **__: Any) -> None:
        lines.append(str(statement.compile(dialect=postgresql.dialect())))

    engine = create_mock_engine("postgresql://", collect)
    base.metadata.drop_all(engine, checkfirst=False)
    psql(";\n".join(lines) + ";")
    assert standing() == []


@pytest.fixture
def sent(new_engine: Callable[..., Engine], base: type[DeclarativeBase]) -> Any:
    """Create all with an engine; return the statements that were executed."""

    def create(*url: str, **options: Any) -> list[str]:
        statements: list[str] = []
        engine = new_engine(*url, **options)
        event.listen(
            engine, "before_cursor_execute", lambda *args: statements.append(args[2])
        )
        base.metadata.create_all(engine)
        return [s for s in statements if "note_event_" in s and "INDEX" not in s]

    return create


@pytest.fixture
def new_engine(pg_url: URL) -> Iterator[Callable[..., Engine]]:
    """Make engines of any driver on the test's database."""
    engines: list[Engine] = []

    def make(driver: str = "psycopg", **options: Any) -> Engine:
        url = pg_url.set(drivername=f"postgresql+{driver}")
        engines.append(create_engine(url, **options))
        return engines[-1]

    yield make
    for engine in engines:
        engine.dispose()


@pytest.fixture
def note(base: type[DeclarativeBase]) -> Any:
    @track()
    class Note(base):  # type: ignore[misc, valid-type]
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)

    return Note


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_the_function_and_the_triggers_of_a_table_are_created_in_one_round_trip(
    driver: str, note: Any, sent: Callable[..., list[str]]
) -> None:
    (statement,) = sent(driver)
    assert statement.count("CREATE OR REPLACE") == 5
    assert statement.count("COMMENT ON") == 5


def test_a_driver_that_prepares_statements_creates_them_one_by_one(
    note: Any, sent: Callable[..., list[str]], standing: Standing
) -> None:
    statements = sent(connect_args={"prepare_threshold": 0})
    assert len(statements) == 10
    assert "note_event_insert!" in standing()


def test_asyncpg_creates_them_one_by_one(
    note: Any, pg_url: URL, standing: Standing
) -> None:
    async def create() -> None:
        url = pg_url.set(drivername="postgresql+asyncpg")
        engine = create_async_engine(url, poolclass=NullPool)
        async with engine.begin() as connection:
            await connection.run_sync(note.metadata.create_all)

    asyncio.run(create())
    assert "note_event_insert!" in standing()


def test_create_all_asks_once_which_tables_there_are(
    base: type[DeclarativeBase], new_engine: Callable[..., Engine]
) -> None:
    for name in "abc":
        track()(Table(name, base.metadata, Column("id", Integer, primary_key=True)))
    sent: list[str] = []
    engine = new_engine()
    event.listen(engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
    with engine.begin() as connection:
        connection.execute(text("SELECT 1"))
        sent.clear()
        base.metadata.create_all(connection)
    asked = [s for s in sent if s.startswith("SELECT") and "pg_class" in s]
    assert len(asked) == (7 if sqlalchemy.__version__ < "2.1" else 1)
    assert sum("current_schema()" in statement for statement in sent) == 1


def test_drop_all_drops_the_function_of_a_table_once(
    base: type[DeclarativeBase], new_engine: Callable[..., Engine]
) -> None:
    for name in "abc":
        track()(Table(name, base.metadata, Column("id", Integer, primary_key=True)))
    sent: list[str] = []
    engine = new_engine()
    base.metadata.create_all(engine)
    event.listen(engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
    base.metadata.drop_all(engine)
    assert len([s for s in sent if '_event_record"' in s]) == 3
    assert sum("current_schema()" in statement for statement in sent) == 1


def test_other_database_is_refused(account: Any, plain: Any) -> None:
    engine = create_engine("sqlite://")
    tables = account.__table__, account.events.table
    for table in (*tables, account.metadata.tables["pghistory_context"]):
        with pytest.raises(history.exc.DialectError, match="sqlite"):
            table.create(engine)
    with pytest.raises(history.exc.DialectError, match="sqlite"):
        account.metadata.create_all(engine)
    plain.__table__.create(engine)  # what is not tracked can go anywhere
    with Session(engine) as session:
        session.add(plain(id=1))
        session.commit()
    engine.dispose()


Indexes = Callable[[Engine], list[str]]


@pytest.fixture
def indexes() -> Indexes:
    """Return the indexes of an event table, as the database has them."""

    def read(engine: Engine) -> list[str]:
        with engine.connect() as connection:
            return list(
                connection.scalars(
                    text(
                        "SELECT indexdef FROM pg_indexes"
                        " WHERE tablename = 'note_event' ORDER BY 1"
                    )
                )
            )

    return read


def statements_of(engine: Engine) -> list[str]:
    """Return a list to which the statements of an engine are added."""
    found: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: found.append(args[2]))
    return found


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_the_indexes_of_an_event_table_are_created_in_one_round_trip(
    driver: str,
    note: Any,
    base: type[DeclarativeBase],
    new_engine: Callable[..., Engine],
    indexes: Indexes,
) -> None:
    one_by_one = new_engine(connect_args={"prepare_threshold": 0})
    statements = statements_of(one_by_one)
    base.metadata.create_all(one_by_one)
    assert sum("INDEX ix_note_event" in s for s in statements) == 4
    wanted = indexes(one_by_one)
    base.metadata.drop_all(one_by_one)

    engine = new_engine(driver)
    statements = statements_of(engine)
    base.metadata.create_all(engine)
    (statement,) = [s for s in statements if "INDEX ix_note_event" in s]
    assert statement.count("CREATE INDEX") == 4
    assert indexes(engine) == wanted


def test_an_index_of_an_event_table_is_created_alone(
    note: Any,
    base: type[DeclarativeBase],
    new_engine: Callable[..., Engine],
    indexes: Indexes,
) -> None:
    engine = new_engine()
    base.metadata.create_all(engine)
    wanted = indexes(engine)
    for index in note.events.table.indexes:
        index.drop(engine)
    assert len(indexes(engine)) == 1
    for index in note.events.table.indexes:
        index.create(engine)
    assert indexes(engine) == wanted


def test_an_index_is_created_alone_after_its_table_was_not(
    note: Any,
    base: type[DeclarativeBase],
    new_engine: Callable[..., Engine],
    indexes: Indexes,
) -> None:
    engine = new_engine()
    base.metadata.create_all(engine)
    wanted = indexes(engine)
    first, *_ = note.events.table.indexes
    with engine.connect() as connection:
        with pytest.raises(ProgrammingError):
            base.metadata.create_all(connection, checkfirst=False)
        connection.rollback()
        first.drop(connection)
        first.create(connection)
        connection.commit()
    assert indexes(engine) == wanted


def test_a_listener_of_an_index_finds_it(
    note: Any,
    base: type[DeclarativeBase],
    new_engine: Callable[..., Engine],
    indexes: Indexes,
) -> None:
    engine, found = new_engine(), []

    def look(index: Any, connection: Any, **_: Any) -> None:
        found.append(
            connection.scalar(text("SELECT to_regclass(:name)"), {"name": index.name})
        )

    first, *_ = note.events.table.indexes
    event.listen(first, "after_create", look)
    base.metadata.create_all(engine)
    assert found == [first.name]
    assert len(indexes(engine)) == 5


def test_a_listener_of_an_event_table_finds_its_indexes(
    note: Any, base: type[DeclarativeBase], new_engine: Callable[..., Engine]
) -> None:
    found: list[Any] = []

    def look(table: Any, connection: Any, **_: Any) -> None:
        for index in table.indexes:
            name = {"name": index.name}
            found.append(connection.scalar(text("SELECT to_regclass(:name)"), name))

    event.listen(note.events.table, "after_create", look)
    base.metadata.create_all(new_engine())
    assert len(found) == 4
    assert None not in found
