"""Partitioned event tables beside one table with the same events.

Both have a database of their own on one server, and take turns. Run it with
``python -m benchmarks.partitions``; ``--events`` says how many events there are. A
server that ``DATABASE_URL`` names can be given the databases by one run, with ``--only
make``, and be measured by another, with ``--only measure``. It has to run without
autovacuum then, which would be measured as well.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, make_url, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import AggregateEvent, track
from sa_history.testing import EmbeddedPostgres

MONTHS = 24
PAGE = 50
FEED_PAGE = 1000
DAY = timedelta(days=1)
START = datetime(2024, 12, 1, tzinfo=timezone.utc)


def models(partition_by: int | None) -> tuple[Any, Any]:
    """Return a declarative base, and the one model that is tracked."""

    class Base(DeclarativeBase):
        pass

    @track(partition_by=partition_by)
    class Account(Base):
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        owner: Mapped[str]
        balance: Mapped[int]
        status: Mapped[str]

    return Base, Account


# ---------------------------------------------------------------- the data

EVENTS = """
INSERT INTO account_event (pgh_id, pgh_created_at, pgh_xact_id, pgh_context_id,
  pgh_obj_id, pgh_op, pgh_label, id, owner, balance, status)
SELECT i, timestamptz '{start}' + i * (interval '{days} days' / {events}),
  i / 5 - {events}, CASE WHEN i % 2 = 0 THEN md5((i / 10)::text)::uuid END, o,
  CASE WHEN i <= {rows} THEN 'I' ELSE 'U' END, 'snapshot', o,
  'owner of account number ' || o, (i % 10007)::int,
  (ARRAY['new', 'open', 'held', 'closed'])[1 + (i / {rows}) % 4]
FROM (
  SELECT i, ((i * 7919) % {rows} + 1)::int AS o
  FROM generate_series({first}::bigint, {last}) AS i
) AS numbered
"""

ROWS = """
INSERT INTO account
SELECT DISTINCT ON (pgh_obj_id) id, owner, balance, status FROM account_event
WHERE pgh_id > {events} - {rows} ORDER BY pgh_obj_id, pgh_id DESC
"""


def fill(engine: Engine, base: Any, events: int, is_partitioned: bool) -> None:
    """Make all events, forty of each row, and the rows as they are after them."""
    rows, width = events // 40, events // MONTHS
    base.metadata.create_all(engine)
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        if is_partitioned:
            connection.execute(text("DROP TABLE account_event_p1"))
        bounds = [1, *(1 + width * month for month in range(1, MONTHS)), events + 1]
        for lower, upper in itertools.pairwise(bounds):
            if is_partitioned:
                connection.execute(
                    text(
                        f"CREATE TABLE account_event_p{lower} PARTITION OF"
                        f" account_event FOR VALUES FROM ({lower}) TO ({upper})"
                    )
                )
            connection.execute(
                text(
                    EVENTS.format(
                        start=START.isoformat(),
                        days=30 * MONTHS,
                        events=events,
                        rows=rows,
                        first=lower,
                        last=upper - 1,
                    )
                )
            )
        if is_partitioned:
            connection.execute(
                text(
                    f"CREATE TABLE account_event_p{events + 1} PARTITION OF"
                    f" account_event FOR VALUES FROM ({events + 1}) TO (MAXVALUE)"
                )
            )
        for statement in (
            "ALTER TABLE account DISABLE TRIGGER USER",
            ROWS.format(events=events, rows=rows),
            "ALTER TABLE account ENABLE TRIGGER USER",
            "INSERT INTO pghistory_context (id, created_at, metadata)"
            f" SELECT md5(i::text)::uuid, timestamptz '{START.isoformat()}'"
            f" + i * 10 * (interval '{30 * MONTHS} days' / {events}),"
            " jsonb_build_object('user', i % 1000, 'url', '/accounts/' || i)"
            f" FROM generate_series(0, {events // 10}) AS i",
            f"SELECT setval('pghistory_id_seq', {events})",
            "VACUUM ANALYZE",
        ):
            connection.execute(text(statement))
    if is_partitioned:
        history.partitions(engine, base)


# ---------------------------------------------------------------- what is asked


@dataclass(frozen=True)
class Spent:
    """What something took.

    :param seconds: by the clock.
    :param processor: the seconds of the processor that this process and the server have
        used for it, which other work on the machine disturbs less.
    """

    seconds: float
    processor: float

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.seconds - other.seconds, self.processor - other.processor)


class Watch:
    """Tells what has been spent until now.

    :param engine: its database is that of the processes of the server.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._used: dict[int, float] = {}

    def __call__(self) -> Spent:
        """Return the time, and what was used so far."""
        with self._engine.connect() as connection:
            pids = connection.scalars(
                text(
                    "SELECT pid FROM pg_stat_activity"
                    " WHERE datname = current_database()"
                    " AND backend_type <> 'autovacuum worker'"
                )
            ).all()
        for pid in pids:
            # https://docs.kernel.org/scheduler/sched-stats.html
            with suppress(OSError):  # it has ended
                nanoseconds = Path(f"/proc/{pid}/schedstat").read_text().split()[0]
                self._used[pid] = int(nanoseconds) / 1e9
        return Spent(
            time.perf_counter(), time.process_time() + sum(self._used.values())
        )


Question = Callable[[], Any]
"""Asks, and may return what the part has taken that counts."""


def writes(connection: Connection) -> Iterator[tuple[str, Question]]:
    """Yield what writes, each in transactions of its own."""

    def bulk() -> None:
        connection.execute(
            text("UPDATE account SET balance = balance + 1 WHERE id <= 10000")
        )
        connection.commit()

    def single() -> None:
        for number in range(200):
            connection.execute(
                text("UPDATE account SET balance = balance + 1 WHERE id = :id"),
                {"id": 11 + number},
            )
            connection.commit()

    yield "update of 10,000 rows", bulk
    yield "200 transactions of a row", single


def reads(
    session: Session, base: Any, account: Any, events: int, watch: Watch
) -> Iterator[tuple[str, Question]]:
    """Yield what reads."""
    then = START + timedelta(days=15 * MONTHS)
    far = {"a": START + 100 * DAY, "b": START + 130 * DAY}
    position = history.FeedPosition
    feed = {"first": 0, "near the end": events - 2 * FEED_PAGE}

    def as_of(before: int, gets: int) -> Spent:
        """Return what some gets take after others, in one session of the past."""
        with history.as_of(session, then) as past:
            for number in range(before + gets):
                if number == before:
                    began = watch()
                past.get(account, 101 + number)
            return watch() - began

    yield (
        "newest 50",
        lambda: AggregateEvent.page(session, base, limit=PAGE, newest_first=True),
    )
    row = session.get_one(account, 77)
    yield (
        "newest 50 of an object",
        lambda: AggregateEvent.page(session, row, limit=PAGE, newest_first=True),
    )
    yield (
        "all diffs of an object",
        lambda: session.execute(AggregateEvent.select(row)).all(),
    )
    for part, number in feed.items():
        after = position(number // 5 - events, number) if number else None

        def page(after: history.FeedPosition | None = after) -> None:
            history.feed_page(session, base, after=after, limit=FEED_PAGE)

        yield f"page of the feed, {part}", page
    yield "as of: the 2nd to 5th row", lambda: as_of(1, 4)
    # psycopg prepares what it has run five times, and PostgreSQL plans five of those.
    yield "as of: 30 rows, prepared", lambda: as_of(12, 30)
    yield (
        "events of 30 days",
        lambda: session.execute(
            text(
                "SELECT count(*) FROM account_event"
                " WHERE pgh_created_at >= :a AND pgh_created_at < :b"
            ),
            far,
        ).all(),
    )


class Sides:
    """The database with partitions, and the one without, on one server.

    :param url: of any database of the server.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self.engines: dict[str, Engine] = {}
        self.models: dict[str, tuple[Any, Any]] = {}
        for name, partition_by in (("plain", None), ("partitioned", 10**9)):
            self.models[name] = models(partition_by)
            self.engines[name] = create_engine(
                make_url(url).set(database=f"bench_{name}")
            )

    def settle(self) -> None:
        """Do what autovacuum would do, which is off."""
        for engine in self.engines.values():
            with engine.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT")
                for statement in ("VACUUM ANALYZE account", "VACUUM account_event"):
                    connection.execute(text(statement))

    def make(self, events: int) -> None:
        """Create the databases with all events."""
        for name, engine in self.engines.items():
            admin = create_engine(self._url, isolation_level="AUTOCOMMIT")
            with admin.connect() as connection:
                connection.execute(text(f"CREATE DATABASE bench_{name}"))
            admin.dispose()
            base, _ = self.models[name]
            fill(engine, base, events, name == "partitioned")


def compare(sides: Sides, events: int, rounds: int) -> None:
    """Print the medians of all questions, where both sides take turns."""
    spent: dict[str, dict[str, list[Spent]]] = {}
    for _ in range(rounds):
        for name, engine in sides.engines.items():
            base, account = sides.models[name]
            watch = Watch(engine)
            with Session(engine) as session, engine.connect() as connection:
                questions = [
                    *writes(connection),
                    *reads(session, base, account, events, watch),
                ]
                for question, ask in questions:
                    began = watch()
                    measured = ask()
                    took = watch() - began
                    if isinstance(measured, Spent):
                        took = measured
                    spent.setdefault(question, {}).setdefault(name, []).append(took)
                    session.rollback()
    print(f"{'':32}{'plain ms':>12}{'partitions':>12}{'ratio':>8}{'processor':>12}")
    for question, found in spent.items():
        later = {name: took[1:] or took for name, took in found.items()}
        plain, partitioned = (
            statistics.median(one.seconds for one in later[name])
            for name in sides.engines
        )
        of_plain, of_partitioned = (
            statistics.median(one.processor for one in later[name])
            for name in sides.engines
        )
        print(
            f"{question:32}{plain * 1000:12.1f}{partitioned * 1000:12.1f}"
            f"{partitioned / plain:8.2f}{of_partitioned / of_plain:12.2f}"
        )


DELETION = """
DELETE FROM account_event AS old
WHERE pgh_created_at >= :since AND pgh_created_at < :until
"""

OLDEST_PARTITION = """
SELECT inhrelid::regclass::text FROM pg_inherits
WHERE inhparent = 'account_event'::regclass
  AND inhrelid IS DISTINCT FROM to_regclass('account_event_p0')
ORDER BY substr(inhrelid::regclass::text, length('account_event_p') + 1)::bigint
LIMIT 1
"""

AND_IS_NOT_LAST = """
AND EXISTS (
  SELECT FROM account_event AS later
  WHERE later.pgh_obj_id = old.pgh_obj_id AND later.pgh_id > old.pgh_id
    AND later.pgh_created_at < :until
)
"""


def compare_removal(sides: Sides) -> None:
    """Print what it takes to remove the first months on both sides.

    Of a month that is removed, either nothing is left or the last event of each row.
    By hand, nobody is told that it was removed.
    """
    base, _ = sides.models["partitioned"]
    partitioned, plain = sides.engines["partitioned"], sides.engines["plain"]

    def deletion(month: int, statement: str) -> Callable[[Connection], None]:
        since = START + 30 * DAY * month
        times = {"since": since, "until": since + 30 * DAY}

        def delete(connection: Connection) -> None:
            connection.execute(text(statement), times)
            connection.execute(text("VACUUM account_event"))

        return delete

    def removal(months: int, keeps_last: bool) -> Callable[[Connection], None]:
        age = datetime.now(timezone.utc) - (START + 30 * DAY * months)

        def remove(_: Connection) -> None:
            history.partitions(
                partitioned,
                base,
                keep=f"{age.days} days",
                keep_last_events=keeps_last,
            )

        return remove

    def remove_by_hand(connection: Connection) -> None:
        name = connection.execute(text(OLDEST_PARTITION)).scalar_one()
        detach = f"ALTER TABLE account_event DETACH PARTITION {name} CONCURRENTLY"
        connection.execute(text(detach))
        connection.execute(text(f"DROP TABLE {name}"))

    for name, engine, remove in (
        ("DELETE and VACUUM", plain, deletion(0, DELETION)),
        ("DELETE but the last, VACUUM", plain, deletion(1, DELETION + AND_IS_NOT_LAST)),
        # What the command takes by itself, which is in the others as well.
        ("--keep, nothing to remove", partitioned, removal(0, True)),
        ("--keep, the first time", partitioned, removal(1, True)),
        ("--keep", partitioned, removal(2, True)),
        ("--keep, no last events", partitioned, removal(3, False)),
        ("--keep, no last events", partitioned, removal(4, False)),
        ("DETACH and DROP by hand", partitioned, remove_by_hand),
    ):
        sides.settle()
        with engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            where = text("SELECT pg_current_wal_insert_lsn()")
            before = connection.execute(where).scalar_one()
            began = time.perf_counter()
            remove(connection)
            took = time.perf_counter() - began
            written = connection.execute(
                text("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), :lsn)"),
                {"lsn": before},
            ).scalar_one()
        print(f"{name:32}{took * 1000:12.1f} ms{written / 2**20:10.1f} MiB of WAL")


@contextmanager
def writer(engine: Engine, rows: int) -> Iterator[list[float]]:
    """Update rows one by one meanwhile; give the seconds of each transaction.

    :param rows: how many rows there are.
    """
    waits: list[float] = []
    stop = threading.Event()

    def write() -> None:
        with engine.connect() as connection:
            while not stop.is_set():
                began = time.perf_counter()
                connection.execute(
                    text("UPDATE account SET balance = balance + 1 WHERE id = :id"),
                    {"id": 1 + len(waits) % rows},
                )
                connection.commit()
                waits.append(time.perf_counter() - began)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield waits
    finally:
        stop.set()
        thread.join()


def convert_under_load(engine: Engine, rows: int, undisturbed_for: float) -> None:
    """Print how long a writer waits while the plain table becomes partitioned.

    :param rows: how many rows there are.
    :param undisturbed_for: the seconds for which the writer writes before.
    """
    count = text("SELECT count(*) FROM account_event")
    with engine.connect() as connection:
        before = connection.execute(count).scalar_one()
    base, _ = models(10**9)
    with writer(engine, rows) as waits:
        time.sleep(undisturbed_for)
        undisturbed = max(waits)
        began, number = time.perf_counter(), len(waits)
        history.partitions(engine, base, convert=True)
        took = time.perf_counter() - began
        time.sleep(1)
        disturbed = max(waits[number:])
    with engine.connect() as connection:
        after = connection.execute(count).scalar_one()
    lost = before + len(waits) - after
    print(
        f"conversion of {before:,} events: {took:.1f} s; the writer's longest wait"
        f" {disturbed * 1000:.0f} ms, without it {undisturbed * 1000:.0f} ms;"
        f" {len(waits):,} writes, {lost} lost"
    )


@contextmanager
def server_url() -> Iterator[str]:
    """Give the URL of the server that the environment names, or of one of our own."""
    given = os.environ.get("DATABASE_URL")
    if given:
        yield given
        return
    settings = {
        # As a server has that holds so much: the indexes of some months stay in memory.
        "shared_buffers": "2GB",
        "max_wal_size": "8GB",
        "jit": "off",
        # It comes to one side in the turn of the other, and its log is not ours.
        "autovacuum": "off",
    }
    with EmbeddedPostgres(**settings) as server:
        yield server.url()


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument(
        "--undisturbed",
        type=float,
        default=10,
        help="the seconds for which a writer writes before the conversion",
    )
    parser.add_argument(
        "--only",
        choices=("make", "measure"),
        help="make the databases and end, or measure those that were made; on the "
        "server that DATABASE_URL names",
    )
    options = parser.parse_args()
    with server_url() as url:
        sides = Sides(url)
        if options.only != "measure":
            sides.make(options.events)
        if options.only != "make":
            sides.settle()
            compare(sides, options.events, options.rounds)
            compare_removal(sides)
            rows = options.events // 40
            convert_under_load(sides.engines["plain"], rows, options.undisturbed)
        for engine in sides.engines.values():
            engine.dispose()


if __name__ == "__main__":
    main()
