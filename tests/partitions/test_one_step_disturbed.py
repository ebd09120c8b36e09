"""Somebody does something just before one step of maintenance changes anything."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Session

import sa_history as history
from sa_history.ddl.partitions import PartitionedTable
from sa_history.ddl.repartition import Repartition
from sa_history.install import check
from sa_history.sql.compose import Qualified
from tests.partitions.conftest import before

LATER = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=40)

DETACH = "ALTER TABLE account_event DETACH PARTITION account_event_p1"
ATTACH = (
    "ALTER TABLE account_event ATTACH PARTITION account_event_p1"
    " FOR VALUES FROM (1) TO ({})"
)


@pytest.fixture
def remove(base: type[DeclarativeBase], pg_engine: Engine) -> Callable[..., Any]:
    """Remove all that is older than a day, in 40 days from now."""

    def run(**options: Any) -> Any:
        options = {"keep": "1 day", "now": LATER, "lock_timeout": 50, **options}
        return history.partitions(pg_engine, base, **options)[0]

    return run


@pytest.fixture
def closed(write: Any, base: type[DeclarativeBase], pg_engine: Engine) -> int:
    """A closed partition with 25 events; return its upper bound."""
    write(25)
    (report, _) = history.partitions(pg_engine, base)
    upper = report.partitions[0].upper
    assert upper is not None
    return int(upper)


def test_a_partition_that_is_detached_before_its_removal_stays(
    closed: int, remove: Any, pg_engine: Engine, run: Any
) -> None:
    with before(pg_engine, 'account_event_p1" IN SHARE MODE', lambda: run(DETACH)):
        report = remove()
    assert report.done == ()
    assert report.postponed == (
        "remove public.account_event_p1: somebody has detached or changed it",
    )
    with pg_engine.connect() as connection:
        query = text("SELECT count(*) FROM account_event_p1")
        assert connection.scalar(query) == 25


@pytest.mark.usefixtures("english")
def test_a_partition_that_is_dropped_before_its_removal_postpones_it(
    closed: int, remove: Any, pg_engine: Engine, run: Any
) -> None:
    def drop() -> None:
        run(DETACH, "DROP TABLE account_event_p1")

    with before(pg_engine, 'account_event_p1" IN SHARE MODE', drop):
        report = remove()
    assert report.postponed == (
        "remove public.account_event_p1: relation "
        '"public.account_event_p1" does not exist',
    )


def test_what_erases_events_waits_for_the_copies_of_the_last_ones(
    closed: int, remove: Any, pg_engine: Engine, run: Any
) -> None:
    outcomes: list[str] = []

    def erase() -> None:
        try:
            run(
                "SET LOCAL lock_timeout = 50",
                "ALTER TABLE account_event DISABLE TRIGGER USER",
                "UPDATE account_event SET balance = NULL WHERE id = 7",
            )
            outcomes.append("erased")
        except DBAPIError:
            outcomes.append("refused")

    with before(pg_engine, "INSERT INTO public.account_event_p0", erase):
        report = remove()
    assert outcomes == ["refused"]
    assert "drop public.account_event_p1" in report.done
    erase()
    with pg_engine.connect() as connection:
        query = text("SELECT balance FROM account_event WHERE id = 7")
        assert connection.scalars(query).all() == [None]


@pytest.mark.usefixtures("english")
def test_a_row_that_refers_to_an_event_later_puts_off_the_rest_of_the_removal(
    closed: int, remove: Any, base: Any, pg_engine: Engine, run: Any
) -> None:
    run("CREATE TABLE review (event bigint REFERENCES account_event)")
    add = "INSERT INTO review SELECT min(pgh_id) FROM account_event WHERE pgh_id > 0"
    with before(pg_engine, "CONCURRENTLY", lambda: run(add)):
        report = remove()
    assert report.done == ("remove public.account_event_p1",)
    (postponed,) = report.postponed
    assert postponed.startswith("detach public.account_event_p1: ")
    assert "violates foreign key constraint" in postponed
    run("DELETE FROM review")
    assert remove().done == (
        "detach public.account_event_p1",
        "drop public.account_event_p1",
    )
    assert check(pg_engine, base) == []


def test_the_last_events_are_not_said_to_be_kept_of_what_is_not_there(
    closed: int, write: Any, remove: Any, base: Any, pg_engine: Engine, run: Any
) -> None:
    write(20)
    history.partitions(pg_engine, base)
    run(DETACH)
    report = remove()
    assert report.done == ()
    assert "the events from 1 on are not there" in report.postponed[0]
    assert "remove" in remove(keep_last_events=False).done[0]


def test_a_partition_that_is_attached_after_later_ones_were_removed_goes_too(
    closed: int,
    write: Any,
    account: Any,
    remove: Any,
    base: Any,
    pg_engine: Engine,
    run: Any,
) -> None:
    with Session(pg_engine) as session:
        session.get_one(account, 1).balance = 1
        session.commit()
    run(
        # As old as the events before: what was copied stays the newer one.
        "ALTER TABLE account_event_p1 RENAME TO old",
        "ALTER TABLE account_event DETACH PARTITION old",
        "CREATE TABLE account_event_p1 PARTITION OF account_event"
        f" FOR VALUES FROM (1) TO ({closed})",
        "INSERT INTO account_event SELECT * FROM old",
        "DROP TABLE old",
    )
    write(20)
    history.partitions(pg_engine, base)
    run(DETACH)
    run("CREATE TABLE copied AS SELECT * FROM account_event_p1")
    run(ATTACH.format(closed))
    first = remove()
    assert first.postponed == ()
    run(
        "CREATE TABLE account_event_p1 (LIKE account_event INCLUDING ALL)",
        "INSERT INTO account_event_p1 SELECT * FROM copied",
        "COMMENT ON TABLE account_event_p1 IS 'Events of account'",
        ATTACH.format(closed),
    )
    second = remove()
    assert "drop public.account_event_p1" in second.done
    with history.as_of(pg_engine, LATER) as past:
        assert {row.id for row in past.scalars(select(account))} == set(range(1, 46))
        assert past.get_one(account, 1).balance == 1
    assert check(pg_engine, base) == []


def test_a_run_that_converts_goes_on_when_the_first_partition_is_gone(
    closed: int, remove: Any, base: Any, pg_engine: Engine
) -> None:
    assert "drop public.account_event_p1" in remove(convert=True).done
    assert remove(convert=True).done == ()


def test_an_event_ahead_of_the_sequence_stays_in_its_partition(
    write: Any, base: Any, pg_engine: Engine, run: Any, bounds: Any
) -> None:
    """A partition that is wide, and filled too fast, gets an end before its own."""
    write(1)
    run("SELECT setval('pghistory_id_seq', 20)")
    write(4)
    history.partitions(pg_engine, base)
    (_, upper), *_ = bounds()
    write(11)
    run(
        "INSERT INTO account_event (pgh_id, pgh_op, pgh_label, pgh_obj_id, id, balance)"
        f" SELECT {upper} - 2, 'I', 'snapshot', 1, 1, 1",
    )
    report, _ = history.partitions(pg_engine, base)
    assert "end public.account_event_p1 before event 36" in report.done
    assert bounds() == [(1, upper - 1), (upper - 1, None)]
    assert check(pg_engine, base) == []


def test_one_table_has_no_event_twice_of_a_partition_that_goes(
    closed: int, remove: Any, pg_engine: Engine
) -> None:
    with pg_engine.begin() as reader:
        reader.execute(text("SELECT FROM account_event"))
        assert remove().done == ("remove public.account_event_p1",)
    table = PartitionedTable(Qualified("public", "account_event"), "pgh_id", "bigint")
    first = Qualified("public", "account_event_p1")
    engine = pg_engine.execution_options(isolation_level="READ COMMITTED")
    with engine.connect() as connection:
        Repartition(connection, table, first, 1, str).unpartition()
        ids = connection.scalars(text("SELECT id FROM account_event ORDER BY id"))
        assert ids.all() == list(range(1, 26))
