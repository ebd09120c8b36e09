"""Maintenance beside others: writers, readers, other runs, and its own end."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, func, insert, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Session

import sa_history as history
from sa_history.exc import InstallError
from sa_history.install import check
from tests.pgbouncer import PgBouncer

Bounds = Callable[..., list[tuple[int | None, int | None]]]
LATER = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=40)


def test_no_write_is_refused_or_lost_while_partitions_end(
    write: Any,
    account: Any,
    base: type[DeclarativeBase],
    pg_engine: Engine,
    bounds: Bounds,
) -> None:
    write(5)
    stop, errors, written = threading.Event(), [], [5]

    def go_on(start: int) -> None:
        number = start
        try:
            while not stop.is_set():
                number += 1
                with Session(pg_engine) as session:
                    session.add(account(id=number))
                    session.commit()
                written.append(1)
        except DBAPIError as error:
            errors.append(error)

    writers = [threading.Thread(target=go_on, args=(n * 10**6,)) for n in (1, 2)]
    for writer in writers:
        writer.start()
    for _ in range(10):
        history.partitions(pg_engine, base)
    stop.set()
    for writer in writers:
        writer.join()
    assert errors == []
    with Session(pg_engine) as session:
        ids = session.scalars(select(account.events.model.pgh_id)).all()
    assert len(ids) == len(set(ids)) == sum(written)
    assert len(bounds()) > 3
    history.partitions(pg_engine, base)
    assert check(pg_engine, base) == []


def test_two_runs_at_once_do_nothing_twice(
    write: Any, base: type[DeclarativeBase], pg_engine: Engine, bounds: Bounds
) -> None:
    write(25)
    history.partitions(pg_engine, base)
    write(10)
    done: list[str] = []

    def run() -> None:
        for report in history.partitions(pg_engine, base, keep="1 day", now=LATER):
            done.extend(report.done)

    runs = [threading.Thread(target=run) for _ in range(3)]
    for each in runs:
        each.start()
    for each in runs:
        each.join()
    assert sorted(done) == sorted(set(done))
    assert "drop public.account_event_p1" in done
    assert check(pg_engine, base) == []


def test_a_transaction_that_has_written_puts_off_the_end_of_a_partition(
    write: Any,
    account: Any,
    base: type[DeclarativeBase],
    pg_engine: Engine,
    bounds: Bounds,
) -> None:
    write(12)
    with Session(pg_engine) as session:
        session.add(account(id=-1))
        session.flush()
        report, _ = history.partitions(pg_engine, base, lock_timeout=50, attempts=2)
        assert report.done == ()
        assert report.postponed == (
            "end public.account_event_p1 before event 14: others are using the table",
        )
        write(1)
        session.commit()
    report, _ = history.partitions(pg_engine, base)
    assert bounds()[0] == (1, 15)
    assert report.postponed == ()
    with Session(pg_engine) as session:
        assert len(session.scalars(account.events.select()).all()) == 14


def test_a_vacuum_is_waited_for_while_others_write(
    write: Any, base: type[DeclarativeBase], pg_engine: Engine, bounds: Bounds
) -> None:
    """PostgreSQL ends an autovacuum of whoever waits for a second."""
    write(12)
    with pg_engine.connect() as vacuum:
        vacuum.execute(
            text("LOCK TABLE account_event_p1 IN SHARE UPDATE EXCLUSIVE MODE")
        )
        timer = threading.Timer(0.8, vacuum.rollback)
        timer.start()
        write(1)
        report, _ = history.partitions(pg_engine, base, lock_timeout=50, attempts=1)
        timer.join()
    assert report.postponed == ()
    assert bounds()[0] == (1, 14)


def test_an_event_with_an_old_number_comes_late_and_is_in_time(
    write: Any,
    account: Any,
    base: type[DeclarativeBase],
    pg_engine: Engine,
    partitions: Any,
) -> None:
    """A transaction has drawn a number, and the sequence is past the end since."""
    write(5)
    history.partitions(pg_engine, base)
    with Session(pg_engine) as session:
        session.add(account(id=-1))
        session.flush()
        write(15)
        report, _ = history.partitions(pg_engine, base, lock_timeout=50, attempts=1)
        late = "close public.account_event_p1: others are using the table"
        assert late in report.postponed
        session.commit()
    history.partitions(pg_engine, base)
    assert partitions()[0].is_closed
    with Session(pg_engine) as session:
        assert len(session.scalars(account.events.select()).all()) == 21


def test_a_reader_puts_off_the_removal_and_nobody_else_waits(
    write: Any,
    account: Any,
    base: type[DeclarativeBase],
    pg_engine: Engine,
    bounds: Bounds,
) -> None:
    write(25)
    history.partitions(pg_engine, base)
    with Session(pg_engine) as session:
        assert len(session.scalars(account.events.select()).all()) == 25
        report, _ = history.partitions(
            pg_engine, base, keep="1 day", now=LATER, lock_timeout=50, attempts=2
        )
        assert report.done == ("remove public.account_event_p1",)
        assert report.postponed == (
            "detach public.account_event_p1: others are using the table",
        )
        write(3)
        found = check(pg_engine, base)
        assert [str(f) for f in found] == [
            "overdue partition public.account_event_p1: run sa-history partitions"
        ]
    report, _ = history.partitions(pg_engine, base)
    assert report.done[:2] == (
        "detach public.account_event_p1",
        "drop public.account_event_p1",
    )
    assert check(pg_engine, base) == []
    with Session(pg_engine) as session:
        assert len(session.scalars(account.events.select()).all()) == 28


def test_an_event_with_a_number_of_its_own_puts_off_what_it_disturbs(
    write: Any,
    account: Any,
    base: type[DeclarativeBase],
    pg_engine: Engine,
    bounds: Bounds,
    run: Any,
) -> None:
    add = (
        "INSERT INTO account_event (pgh_id, pgh_op, pgh_label, pgh_obj_id, id, balance,"
        " pgh_created_at) VALUES ({}, 'I', 'snapshot', 1, 1, 1, '2020-01-01')"
    )
    run("SELECT setval('pghistory_id_seq', 1)")
    write(1)
    run("SELECT setval('pghistory_id_seq', 20)")
    write(5)
    history.partitions(pg_engine, base)
    (_, upper), (_, after), _ = bounds()
    assert upper is not None
    run(add.format(upper + 1))
    write(12)
    report, _ = history.partitions(pg_engine, base)
    assert report.postponed == (
        f"end public.account_event_p1 before event 38: "
        f"public.account_event_p{upper} has events",
    )
    run(f"SELECT setval('pghistory_id_seq', {after})")

    disturbed: list[str] = []

    def disturb(_: Any, __: Any, statement: str, *___: Any) -> None:
        if 'p1" DROP CONSTRAINT' in statement and not disturbed:
            disturbed.append(statement)
            run(add.format(3))

    event.listen(pg_engine, "before_cursor_execute", disturb)
    report, _ = history.partitions(pg_engine, base)
    event.remove(pg_engine, "before_cursor_execute", disturb)
    own = "close public.account_event_p1: an event came in with a number of its own"
    assert own in report.postponed
    report, _ = history.partitions(pg_engine, base)
    assert "close public.account_event_p1" in report.done
    assert check(pg_engine, base) == []


def _is_a_change(statement: str) -> bool:
    return not statement.lstrip().startswith(("SELECT", "WITH"))


def _killed_at(engine: Engine, number: int) -> Callable[..., None]:
    """Have the connection break before a statement that changes something."""
    seen = [0]

    def kill(connection: Any, _: Any, statement: str, *__: Any) -> None:
        if _is_a_change(statement):
            seen[0] += 1
            if seen[0] == number:
                connection.connection.driver_connection.close()
                raise KeyboardInterrupt

    event.listen(engine, "before_cursor_execute", kill)
    return kill


@pytest.mark.long
def test_a_run_that_is_killed_anywhere_is_finished_by_the_next(
    write: Any,
    account: Any,
    base: type[DeclarativeBase],
    pg_engine: Engine,
    bounds: Bounds,
) -> None:
    number = 0
    while True:
        number += 1
        write(25)
        with Session(pg_engine) as session:
            session.delete(session.scalars(select(account).limit(1)).one())
            session.commit()
        kill = _killed_at(pg_engine, number)
        try:
            history.partitions(pg_engine, base, keep="1 day", now=LATER)
        except BaseException:
            is_done = False
        else:
            is_done = True
        event.remove(pg_engine, "before_cursor_execute", kill)
        pg_engine.dispose()
        with pg_engine.begin() as connection:  # all can be written at any time
            connection.execute(insert(account.__table__), {"id": -number, "balance": 1})
        report, _ = history.partitions(pg_engine, base, keep="1 day", now=LATER)
        assert report.postponed == ()
        assert check(pg_engine, base) == []
        with pg_engine.connect() as connection:
            now = set(connection.scalars(select(account.id)))
        with history.as_of(pg_engine, LATER) as past:
            assert set(past.scalars(select(account.id))) == now
        if is_done:
            break
    assert number > 15
    assert bounds()[0] == (None, 1)


def test_a_connection_that_is_lost_is_told_as_that(
    write: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    write(25)

    def end(connection: Any, _: Any, statement: str, *__: Any) -> None:
        if "DETACH" in statement:
            number = connection.connection.driver_connection.info.backend_pid
            with pg_engine.connect() as other:
                other.execute(select(func.pg_terminate_backend(number, 10_000)))

    history.partitions(pg_engine, base)
    event.listen(pg_engine, "before_cursor_execute", end)
    with pytest.raises(InstallError, match="terminat|closed the connection"):
        history.partitions(pg_engine, base, keep="1 day", now=LATER)
    event.remove(pg_engine, "before_cursor_execute", end)
    pg_engine.dispose()
    (report, _) = history.partitions(pg_engine, base, keep="1 day", now=LATER)
    assert report.postponed == ()


def test_a_pooler_that_keeps_no_sessions_is_refused(
    write: Any, base: type[DeclarativeBase], pg_engine: Engine, pgbouncer: PgBouncer
) -> None:
    write(25)
    engine = create_engine(pgbouncer.url, connect_args=pgbouncer.connect_args)
    with pytest.raises(InstallError, match="of a pooler in transaction mode"):
        history.partitions(engine, base)
    engine.dispose()
    # Neither did anything, nor is its lock left with a session of the pooler.
    assert history.partitions(pg_engine, base)[0].done
