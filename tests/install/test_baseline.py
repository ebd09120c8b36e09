"""First events for rows that were there before their table was tracked."""

from __future__ import annotations

import asyncio
import threading
import uuid
from typing import Any

import pytest
from sqlalchemy import (
    URL,
    Column,
    Connection,
    Date,
    Engine,
    Enum,
    Integer,
    MetaData,
    Numeric,
    Table,
    Text,
    Uuid,
    create_engine,
    event,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import sa_history as history
from sa_history import Snapshot, track
from sa_history.exc import AppendOnlyError, ContextRequiredError, EventsError
from sa_history.writing.baseline import baseline

Rows = list[tuple[Any, ...]]


@pytest.fixture
def account(pg_engine: Engine) -> Table:
    """A tracked table with 25 rows that have no event."""
    return untracked_rows(pg_engine, rows=25)


def untracked_rows(engine: Engine, rows: int, **options: Any) -> Table:
    table = Table(
        "account",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("name", Text),
        Column("secret", Text),
    )
    table.create(engine)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO account SELECT n, 'name ' || n, 'secret'"
                " FROM generate_series(1, :rows) AS n"
            ),
            {"rows": rows},
        )
    track(Snapshot, exclude=["secret"], **options)(table)
    history.events(table).model.__table__.create(engine)
    return table


def events_of(table: Table, bind: Engine | Connection, *names: str) -> Rows:
    statement = history.events(table).select()
    chosen = [statement.selected_columns[name] for name in names]
    ordered = statement.with_only_columns(*chosen).order_by(text("pgh_id"))
    if isinstance(bind, Connection):
        return [tuple(row) for row in bind.execute(ordered)]
    with bind.connect() as connection:
        return [tuple(row) for row in connection.execute(ordered)]


def test_each_row_gets_its_first_event_once(account: Table, pg_engine: Engine) -> None:
    told: list[int] = []

    assert baseline(pg_engine, account, batch=10, progress=told.append) == 25

    assert told == [10, 20, 25]
    stored = events_of(account, pg_engine, "pgh_label", "pgh_op", "pgh_obj_id", "name")
    assert stored == [("baseline", "B", n, f"name {n}") for n in range(1, 26)]
    assert baseline(pg_engine, account, batch=5, label="again") == 0
    assert events_of(account, pg_engine, "pgh_obj_id") == [(n,) for n in range(1, 26)]


def test_a_row_that_has_an_event_is_left_out(account: Table, pg_engine: Engine) -> None:
    with pg_engine.begin() as connection:
        connection.execute(insert(account).values(id=100))
        connection.execute(update(account).where(account.c.id == 1).values(name="b"))
        connection.execute(account.delete().where(account.c.id == 2))

    assert baseline(pg_engine, account, label="start") == 23

    assert events_of(account, pg_engine, "pgh_label", "id")[:3] == [
        ("snapshot", 100),
        ("snapshot", 1),
        ("start", 3),
    ]


def test_an_interruption_keeps_whole_batches(account: Table, pg_engine: Engine) -> None:
    def interrupt(events: int) -> None:
        if events == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        baseline(pg_engine, account, batch=10, progress=interrupt)
    assert len(events_of(account, pg_engine, "id")) == 20

    # The next one fails in the middle of its batch.
    refuse = (
        "ALTER TABLE account_event ADD CONSTRAINT few CHECK (id <> 24) NOT VALID",
        "ALTER TABLE account_event DROP CONSTRAINT few",
    )
    with pg_engine.begin() as connection:
        connection.exec_driver_sql(refuse[0])
    with pytest.raises(Exception, match="CheckViolation.*few"):
        baseline(pg_engine, account, batch=3)
    assert len(events_of(account, pg_engine, "id")) == 21
    with pg_engine.begin() as connection:
        connection.exec_driver_sql(refuse[1])

    assert baseline(pg_engine, account, batch=10) == 4
    assert events_of(account, pg_engine, "id") == [(n,) for n in range(1, 26)]


def test_the_transaction_of_a_connection_stays_open(
    account: Table, pg_engine: Engine
) -> None:
    with pg_engine.connect() as connection:
        assert baseline(connection, account, batch=10) == 25
        connection.rollback()
    assert events_of(account, pg_engine, "id") == []


def test_an_async_connection_runs_it_in_sync(
    account: Table, pg_engine: Engine, pg_async_engine: AsyncEngine
) -> None:
    async def main() -> int:
        async with pg_async_engine.begin() as connection:
            with history.context(connection, reason="start"):
                return await connection.run_sync(baseline, account, batch=10)

    assert asyncio.run(main()) == 25
    assert len(events_of(account, pg_engine, "id")) == 25


@pytest.mark.parametrize("bound", ["engine", "connection"])
@pytest.mark.parametrize("stored", ["reference", "inline"])
def test_the_context_in_force_is_recorded(
    bound: str, stored: str, pg_engine: Engine
) -> None:
    account = untracked_rows(pg_engine, rows=3, context=stored)
    if bound == "engine":
        with history.context(reason="start"):
            baseline(pg_engine, account, batch=2)
    else:
        with (
            pg_engine.begin() as connection,
            history.context(connection, reason="start"),
        ):
            baseline(connection, account, batch=2)

    if stored == "inline":
        contexts = events_of(account, pg_engine, "pgh_context")
        assert contexts == [({"reason": "start"},)] * 3
    else:
        assert len(set(events_of(account, pg_engine, "pgh_context_id"))) == 1
        with pg_engine.connect() as connection:
            (found,) = connection.execute(
                text("SELECT metadata FROM pghistory_context")
            )
        assert found.metadata == {"reason": "start"}


def test_a_required_context_is_required(pg_engine: Engine) -> None:
    tenant = Column("tenant", Integer, nullable=False)
    account = untracked_rows(pg_engine, rows=3, context_columns=[tenant])

    with pytest.raises(ContextRequiredError, match="tenant"):
        baseline(pg_engine, account)
    with history.context(tenant=7):
        assert baseline(pg_engine, account, batch=2) == 3

    assert events_of(account, pg_engine, "tenant", "id") == [(7, 1), (7, 2), (7, 3)]


def test_events_that_can_only_be_appended(pg_engine: Engine) -> None:
    account = untracked_rows(pg_engine, rows=3, append_only=True)
    assert baseline(pg_engine, account) == 3
    with pg_engine.connect() as connection, pytest.raises(AppendOnlyError):
        connection.execute(text("DELETE FROM account_event"))


KEYS: dict[str, tuple[list[Any], list[list[Any]]]] = {
    "of several columns": (
        [Text(collation="C"), Integer],
        [["a", 2], ["a", 10], ["b", 1], ["B", 3]],
    ),
    "a uuid": ([Uuid], [[uuid.UUID(int=n * 2**96)] for n in (3, 1, 2)]),
    "a text": ([Text], [["ä"], ["A"], ["a b"], ["100%"], ["o'x"], [""], [":n"]]),
    "an enum": (
        [Enum("low", "high", "below", name="size")],
        [["high"], ["low"], ["below"]],
    ),
    "a date and a number": (
        [Date, Numeric(8, 3)],
        [["2026-01-02", "1.5"], ["2026-01-01", "-2"], ["2026-01-02", "1.25"]],
    ),
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_baseline_in_batches_reads_each_row_once_for_every_kind_of_key(
    kind: str, pg_engine: Engine
) -> None:
    types, rows = KEYS[kind]
    columns = [
        Column(f"Key {n} %", type_, primary_key=True, key=f"k{n}")
        for n, type_ in enumerate(types)
    ]
    table = Table('Odd "name" %', MetaData(), *columns)
    table.metadata.create_all(pg_engine)
    names = ", ".join(f'"Key {n} %%"' for n in range(len(types)))
    with pg_engine.begin() as connection:
        for row in rows:
            marks = ", ".join(["%s"] * len(row))
            connection.exec_driver_sql(
                f'INSERT INTO "Odd ""name"" %%" ({names}) VALUES ({marks})', tuple(row)
            )
    track(Snapshot)(table)
    history.events(table).model.__table__.create(pg_engine, checkfirst=True)

    assert baseline(pg_engine, table, batch=1) == len(rows)
    assert baseline(pg_engine, table, batch=2) == 0

    with pg_engine.connect() as connection:
        kept = connection.execute(select(*columns).order_by(*columns)).all()
    found = events_of(table, pg_engine, *(f"Key {n} %" for n in range(len(types))))
    assert found == [tuple(row) for row in kept]


def test_rows_that_are_changed_meanwhile_have_one_first_event(
    account: Table, pg_engine: Engine, pg_url: URL
) -> None:
    other = create_engine(pg_url)
    # Even where a transaction sees what there was when it began.
    engine = pg_engine.execution_options(isolation_level="REPEATABLE READ")
    done: list[int] = []
    thread = threading.Thread(
        target=lambda: done.append(baseline(engine, account, batch=10))
    )
    with other.begin() as writer:
        writer.execute(update(account).where(account.c.id == 3).values(name="new"))
        writer.execute(account.delete().where(account.c.id == 4))
        writer.execute(insert(account).values(id=30, name="added"))
        thread.start()
        with pg_engine.connect().execution_options(
            isolation_level="AUTOCOMMIT"
        ) as watcher:
            waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            while not watcher.scalar(waiting):
                assert thread.is_alive()
    thread.join()
    other.dispose()

    assert done == [23]
    found = events_of(account, pg_engine, "pgh_op", "id", "name")
    assert sorted(n for _, n, _ in found) == [n for n in range(1, 26) if n != 4] + [30]
    assert ("U", 3, "new") in found


def test_the_statements_of_a_batch_do_not_grow(
    account: Table, pg_engine: Engine
) -> None:
    sent: list[str] = []
    event.listen(pg_engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
    baseline(pg_engine, account, batch=5)
    assert len(sent) == 2 * 6


def test_a_class_and_one_of_its_histories(
    base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    @track(Snapshot(label="all"))
    @track(Snapshot(label="name"), events="names", event_table="names")
    class User(base):  # type: ignore[misc, valid-type]
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    base.metadata.create_all(pg_engine)
    with pg_engine.begin() as connection, history.ignore(connection, User):
        connection.execute(insert(User).values(id=1, name="Ada"))
    counts = select(func.count()).select_from

    assert baseline(pg_engine, User, events="names") == 1

    with pg_engine.connect() as connection:
        assert connection.scalar(counts(User.names.model)) == 1
        assert connection.scalar(counts(User.events.model)) == 0
    with pytest.raises(EventsError, match="has no events named 'prices'"):
        baseline(pg_engine, User, events="prices")
    base.registry.dispose()


def test_what_cannot_be_done_is_said(account: Table, pg_engine: Engine) -> None:
    keyless = Table("keyless", account.metadata, Column("name", Text))
    track(Snapshot, level="row")(keyless)
    with pytest.raises(EventsError, match="keyless has no primary key, so its rows"):
        baseline(pg_engine, keyless)
    with pytest.raises(EventsError, match="one row at least, got batch=0"):
        baseline(pg_engine, account, batch=0)
    with pytest.raises(EventsError, match="bind is an engine or a connection, got 1"):
        baseline(1, account)  # type: ignore[arg-type]
    base = type("Base", (DeclarativeBase,), {})
    with pytest.raises(EventsError, match="one tracked class or table.*call it for"):
        baseline(pg_engine, base)
    with pytest.raises(EventsError, match="a tracked class or table, got 'account'"):
        baseline(pg_engine, "account")  # type: ignore[arg-type]
    with pytest.raises(EventsError):
        baseline(pg_engine, Table("plain", MetaData(), Column("id", Integer)))
