"""Partitions end in time, and old ones are removed."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    URL,
    Column,
    Engine,
    Integer,
    MetaData,
    StaticPool,
    Table,
    create_engine,
    event,
    select,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Session

import sa_history as history
from sa_history import track
from sa_history.ddl.partitions import REMOVED, RangePartition
from sa_history.exc import CommandError, DialectError, InstallError
from sa_history.install import check, partition_state, size
from tests.partitions.conftest import before

Partitions = Callable[..., list[RangePartition]]
Bounds = Callable[..., list[tuple[int | None, int | None]]]
UTC = datetime.timezone.utc


def test_a_table_without_events_stays_as_it_is(
    write: Any, base: type[DeclarativeBase], pg_engine: Engine, bounds: Bounds
) -> None:
    report, _ = history.partitions(pg_engine, base)
    assert (report.table, report.done, report.postponed) == (
        "public.account_event",
        (),
        (),
    )
    assert [p.name.name for p in report.partitions] == ["account_event_p1"]
    assert bounds() == [(1, None)]


def test_partitions_of_a_number_of_events(
    write: Any,
    base: type[DeclarativeBase],
    pg_engine: Engine,
    partitions: Partitions,
    bounds: Bounds,
) -> None:
    write(4)
    assert history.partitions(pg_engine, base)[0].done == ()
    write(1)
    report, _ = history.partitions(pg_engine, base)
    assert report.done == (
        "end public.account_event_p1 before event 11",
        "end public.account_event_p11 before event 21",
    )
    assert bounds() == [(1, 11), (11, 21), (21, None)]
    assert history.partitions(pg_engine, base)[0].done == ()
    write(10)
    report, _ = history.partitions(pg_engine, base)
    assert report.done == (
        "end public.account_event_p21 before event 31",
        "close public.account_event_p1",
    )
    first = partitions()[0]
    assert first.is_closed
    assert first.since is not None
    assert first.until is not None
    assert first.since < first.until
    assert check(pg_engine, base) == []


def test_a_partition_whose_numbers_other_tables_have_had_is_closed_empty(
    write: Any,
    base: type[DeclarativeBase],
    pg_engine: Engine,
    partitions: Partitions,
    run: Any,
) -> None:
    write(5)
    history.partitions(pg_engine, base)
    run("SELECT setval('pghistory_id_seq', 21)")
    report, _ = history.partitions(pg_engine, base)
    assert report.done[-2:] == (
        "close public.account_event_p1",
        "close public.account_event_p11",
    )
    empty = partitions()[1]
    assert empty.is_closed
    assert empty.since == empty.until
    assert check(pg_engine, base) == []


def test_a_late_run_ends_the_tail_with_its_events(
    write: Any, base: type[DeclarativeBase], pg_engine: Engine, bounds: Bounds
) -> None:
    write(25)
    report, _ = history.partitions(pg_engine, base)
    assert report.done == (
        "end public.account_event_p1 before event 26",
        "close public.account_event_p1",
    )
    assert bounds() == [(1, 26), (26, None)]
    with pg_engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM account_event_p1")) == 25


def test_what_is_older_than_to_keep_is_removed(
    write: Any,
    account: Any,
    base: type[DeclarativeBase],
    pg_engine: Engine,
    bounds: Bounds,
) -> None:
    write(25)
    with Session(pg_engine) as session:
        session.delete(session.get(account, 1))
        session.commit()
    history.partitions(pg_engine, base)
    later = datetime.datetime.now(UTC) + datetime.timedelta(days=40)
    report, _ = history.partitions(pg_engine, base, keep="1 month", now=later)
    assert report.done == (
        "remove public.account_event_p1",
        "detach public.account_event_p1",
        "drop public.account_event_p1",
    )
    assert bounds() == [(None, 1), (27, None)]
    with Session(pg_engine) as session:
        kept = session.scalars(account.events.select()).all()
        assert [e.id for e in kept] == list(range(2, 26))
    with history.as_of(pg_engine, later) as past:
        assert len(past.scalars(select(account)).all()) == 24


def test_rows_that_refer_to_events_keep_no_partition_from_its_end_but_from_going(
    write: Any, base: type[DeclarativeBase], pg_engine: Engine, bounds: Bounds
) -> None:
    def run(*statements: str) -> None:
        with pg_engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))

    write(10)
    run(
        "CREATE TABLE review (event bigint CONSTRAINT of_event"
        " REFERENCES account_event)",
        "INSERT INTO review SELECT min(pgh_id) FROM account_event",
        "ALTER TABLE review ADD CONSTRAINT not_looked_at FOREIGN KEY (event)"
        " REFERENCES account_event NOT VALID",
    )
    history.partitions(pg_engine, base)
    assert len(bounds()) > 1
    with pg_engine.connect() as connection:
        valid = (
            "SELECT conname, convalidated FROM pg_constraint"
            " WHERE conname IN ('of_event', 'not_looked_at') ORDER BY 1"
        )
        assert connection.execute(text(valid)).all() == [
            ("not_looked_at", False),
            ("of_event", True),
        ]
    later = datetime.datetime.now(UTC) + datetime.timedelta(days=90)
    write(10)
    report, _ = history.partitions(pg_engine, base, keep="1 month", now=later)
    (postponed,) = report.postponed
    assert postponed == (
        "remove public.account_event_p1: rows of public.review refer to its events "
        "(of_event)"
    )
    # Nor does a later one go, whose last events would be kept before those that stay.
    assert not any("remove" in done for done in report.done)
    run("DELETE FROM review")
    report, _ = history.partitions(pg_engine, base, keep="1 month", now=later)
    assert "drop public.account_event_p1" in report.done
    assert report.postponed == ()


def test_several_models_of_a_base_are_looked_at_once(
    write: Any, account: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    reports = history.partitions(pg_engine, account, base, base.metadata)
    assert [report.table for report in reports] == [
        "public.account_event",
        "public.pghistory_context",
    ]


def test_a_time_without_a_time_zone_is_refused(
    write: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    naive = datetime.datetime(2030, 1, 1)
    with pytest.raises(CommandError) as refused:
        history.partitions(pg_engine, base, now=naive)
    assert str(refused.value) == (
        "now is datetime.datetime(2030, 1, 1, 0, 0), which is another moment in each "
        "time zone; give it one, such as tzinfo=datetime.timezone.utc"
    )


def test_an_engine_with_one_connection_for_all_is_refused(
    write: Any, base: type[DeclarativeBase], pg_url: URL
) -> None:
    engine = create_engine(pg_url, poolclass=StaticPool)
    with pytest.raises(InstallError) as refused:
        history.partitions(engine, base)
    assert str(refused.value) == (
        "a StaticPool gives one connection to all, and partitions needs two at once; "
        "give an engine with another pool"
    )
    engine.dispose()


def test_a_pool_that_has_no_second_connection_is_named(
    account: Any, base: type[DeclarativeBase], pg_url: URL
) -> None:
    engine = create_engine(pg_url, pool_size=1, max_overflow=0, pool_timeout=0.1)
    with pytest.raises(InstallError, match="partitions needs two at once; give an"):
        history.partitions(engine, base)
    engine.dispose()


def test_another_database_is_refused(account: Any, base: type[DeclarativeBase]) -> None:
    engine = create_engine("sqlite://")
    with pytest.raises(DialectError, match="partitions needs PostgreSQL, .* sqlite"):
        history.partitions(engine, base)
    engine.dispose()


def test_a_default_partition_puts_off_a_removal_before_it_begins(
    write: Any,
    account: Any,
    base: type[DeclarativeBase],
    pg_engine: Engine,
    bounds: Bounds,
    run: Callable[..., None],
) -> None:
    write(12)
    history.partitions(pg_engine, base)
    run("CREATE TABLE rest PARTITION OF account_event DEFAULT")
    later = datetime.datetime.now(UTC) + datetime.timedelta(days=90)
    report, _ = history.partitions(pg_engine, base, keep="1 month", now=later)
    assert report.done == ()
    assert report.postponed == (
        "remove public.account_event_p1: while there is the default partition "
        "public.rest, PostgreSQL detaches no other one concurrently; detach it",
    )
    with history.as_of(pg_engine, later) as past:
        assert len(past.scalars(select(account)).all()) == 12
    run("ALTER TABLE account_event DETACH PARTITION rest", "DROP TABLE rest")
    report, _ = history.partitions(pg_engine, base, keep="1 month", now=later)
    assert report.postponed == ()
    assert bounds() == [(None, 1), (13, None)]


def _asked(engine: Engine, act: Callable[[], Any]) -> list[str]:
    """Return the statements that something sends."""
    sent: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        sent.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    act()
    event.remove(engine, "before_cursor_execute", note)
    return sent


def test_a_removal_asks_little_of_the_catalog(
    write: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    write(12)
    history.partitions(pg_engine, base)
    later = datetime.datetime.now(UTC) + datetime.timedelta(days=20)
    history.partitions(pg_engine, base, keep="1 month", now=later)
    sent = _asked(
        pg_engine,
        lambda: history.partitions(pg_engine, base, keep="1 day", now=later),
    )
    assert any("DROP TABLE" in statement for statement in sent)
    assert len([s for s in sent if "pg_inherits" in s]) <= 5
    assert len([s for s in sent if "pghistory_archive" in s]) <= 4
    assert len(sent) <= 55


def _notes(count: int) -> MetaData:
    """Return tables whose event tables are partitioned."""
    metadata = MetaData()
    for number in range(count):
        table = Table(
            f"note_{number}", metadata, Column("id", Integer, primary_key=True)
        )
        track(partition_by="month", append_only=True)(table)
    return metadata


@pytest.mark.parametrize(
    ("ask", "most", "more"),
    [
        (lambda *given: history.partitions(*given[:2], keep="1 year"), 14, 2),
        (lambda *given: check(*given[:2]), 20, 2),
        (lambda *given: size(*given[:2], keep="1 year"), 13, 2),
        (lambda *given: history.archive(*given[:2], to=given[2]), 12, 0),
    ],
    ids=["partitions", "check", "size", "archive"],
)
def test_as_little_is_asked_of_many_tables_as_of_one(
    ask: Callable[..., Any],
    most: int,
    more: int,
    pg_engine: Engine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few, many = _notes(1), _notes(7)
    many.create_all(pg_engine)
    with pg_engine.begin() as connection:
        for number in range(7):
            connection.execute(many.tables[f"note_{number}"].insert(), {"id": 1})
    history.partitions(pg_engine, many)
    of_few = _asked(pg_engine, lambda: ask(pg_engine, few, tmp_path))
    of_many = _asked(pg_engine, lambda: ask(pg_engine, many, tmp_path))
    assert len(of_few) == len(of_many) <= most
    monkeypatch.setattr(partition_state, "_AT_ONCE", 3)
    again = _asked(pg_engine, lambda: ask(pg_engine, many, tmp_path))
    assert len(again) == len(of_many) + more


def test_what_others_do_while_one_table_is_maintained_is_seen_before_the_next(
    pg_engine: Engine, run: Any
) -> None:
    metadata = _notes(2)
    metadata.create_all(pg_engine)
    tail = "CREATE TABLE {0}_p1 PARTITION OF {0} FOR VALUES FROM (1) TO (MAXVALUE)"
    run("DROP TABLE note_0_event_p1", "DROP TABLE note_1_event_p1")
    make_another = tail.format("note_1_event")
    with before(
        pg_engine, 'ON TABLE "public"."note_0_event_p1"', lambda: run(make_another)
    ):
        first, second, _ = history.partitions(pg_engine, metadata)
    assert first.done == (
        "create the last partition of public.note_0_event, from event 1",
    )
    assert second.done == (
        "create trigger note_1_event_append_only on public.note_1_event_p1",
    )
    assert check(pg_engine, metadata) == []


def test_what_a_run_has_not_dropped_is_that_of_the_table_in_its_own_schema(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_engine: Engine
) -> None:
    for schema in ("one", "two"):
        table = Table(
            "account",
            base.metadata,
            Column("id", Integer, primary_key=True),
            schema=schema,
        )
        track(partition_by=10, event_name=schema.title())(table)
        # By which partitions are known that were detached.
        base.metadata.tables[f"{schema}.account_event"].comment = "Events"
    with pg_engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA one; CREATE SCHEMA two"))
    create_all()
    with pg_engine.begin() as connection:
        for schema in ("one", "two"):
            rows = f"INSERT INTO {schema}.account SELECT generate_series(1, 5)"
            connection.execute(text(rows))
    history.partitions(pg_engine, base)
    with pg_engine.begin() as connection:
        comment = connection.scalar(
            text("SELECT obj_description('two.account_event_p1'::regclass)")
        )
        for statement in (
            "ALTER TABLE two.account_event DETACH PARTITION two.account_event_p1",
            f"COMMENT ON TABLE two.account_event_p1 IS '{REMOVED}{comment}'",
        ):
            connection.execute(text(statement))
    reports = {r.table: r.done for r in history.partitions(pg_engine, base)}
    assert "drop two.account_event_p1" in reports["two.account_event"]
    assert not [step for step in reports["one.account_event"] if "two." in step]
