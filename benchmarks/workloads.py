"""The workloads: each is a function of a subject that yields what it measured."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
from sqlalchemy import Connection, NullPool, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks import columns
from benchmarks.measures import Measure, Scale
from benchmarks.proxy import Proxy
from benchmarks.subject import Subject, Write

Workload = Callable[[Subject, Scale, bool], Iterator[Measure]]

QUERY_CANCELED = "57014"

TURN = 50
"""Statements in a row; Python makes itself ready for a class of cursors."""


def insert_of(rows: int, table: str = "item") -> Write:
    """Return the INSERT of the bulk workloads."""
    return Write("I", table, columns.insert_items(table, rows))


UPDATE = Write("U", "item", "UPDATE item SET int_field = int_field + 1, note = 'other'")
NOOP = Write("U", "item", "UPDATE item SET int_field = int_field", "false")
DELETE = Write("D", "item", "DELETE FROM item")
UPDATE_RARE = Write(
    "U",
    "rare",
    "UPDATE rare SET int_field = CASE WHEN mod(id, 100) = 0 THEN -1"
    " ELSE int_field + 1 END",
    "int_field < 0",
)
UPDATE_WIDE = Write(
    "U", "wide", "UPDATE wide SET i1 = i1 + 1, s1 = 'changed', f1 = f1 / 2"
)


def bulk(subject: Subject, scale: Scale, context: bool) -> Iterator[Measure]:
    """INSERT, UPDATE and DELETE of all rows, each on a fresh connection."""
    subject.clear()
    for step, write in (
        ("INSERT", insert_of(scale.rows)),
        ("UPDATE", UPDATE),
        ("DELETE", DELETE),
    ):
        subject.settle("item")
        subject.fresh()
        yield _performed(subject, step, write, context, scale.rows)


def warmed(subject: Subject, scale: Scale, context: bool) -> Iterator[Measure]:
    """The UPDATE after ten of single rows on its connection.

    A trigger's plan that was made for one row may have been kept.
    """
    _fill(subject, insert_of(scale.rows))
    for id_ in range(1, 11):
        # The statement is another than the one of `bulk`; only its trigger is warmed.
        one = Write("U", "item", f"{UPDATE.sql} WHERE id = {id_}", f"id = {id_}")
        with subject.transaction(context) as target:
            subject.perform(target, one)
    yield _performed(subject, "UPDATE", UPDATE, context, scale.rows)


def condition(subject: Subject, scale: Scale, context: bool) -> Iterator[Measure]:
    """UPDATE of all rows, of which a condition wants one in a hundred recorded."""
    _fill(subject, insert_of(scale.rows, "rare"))
    yield _performed(subject, "UPDATE", UPDATE_RARE, context, scale.rows // 100)


def noop(subject: Subject, scale: Scale, context: bool) -> Iterator[Measure]:
    """UPDATE of all rows that changes nothing."""
    _fill(subject, insert_of(scale.rows))
    yield _performed(subject, "UPDATE", NOOP, context, 0)


def wide(subject: Subject, scale: Scale, context: bool) -> Iterator[Measure]:
    """UPDATE of 3 of 40 columns of a tenth of the rows, after their INSERT."""
    subject.clear()
    insert = Write("I", "wide", columns.insert_wide(scale.some))
    for step, write in (("INSERT", insert), ("UPDATE", UPDATE_WIDE)):
        subject.settle("wide")
        subject.fresh()
        yield _performed(subject, step, write, context, scale.some)


def orm(subject: Subject, scale: Scale, context: bool) -> Iterator[Measure]:
    """ORM units of work: add objects; load and change them; load and delete them."""
    subject.clear()
    for step, work in (
        ("add", lambda session: subject.add(session, scale.few)),
        ("change", subject.change),
        ("delete", subject.remove),
    ):
        subject.settle("item")
        subject.fresh()

        def unit(work: Callable[[Any], None] = work) -> None:
            with subject.session(context) as session:
                work(session)

        yield _timed(subject, step, unit, "item", scale.few)


def size(subject: Subject, scale: Scale, context: bool) -> Iterator[Measure]:
    """Bytes on disk per event, of objects that the ORM adds and changes."""
    for table, step in (("item", "5 columns"), ("wide", "40 columns")):
        subject.clear()
        cls = getattr(subject, table)
        with subject.session(context) as session:
            subject.add(session, scale.few, cls)
        added = subject.count(table)
        subject.settle()
        before = subject.size()
        with subject.session(context) as session:
            subject.change(session, cls)
        recorded, told = _since(added, subject.count(table))
        # No VACUUM before this: what it would free is on disk all the same.
        value = (subject.size() - before) / recorded if recorded else None
        note = "" if recorded else "records nothing"
        yield Measure(
            f"3 of {step} changed", value, "bytes", scale.few, recorded, told, note
        )


def single(subject: Subject, scale: Scale, context: bool) -> Iterator[Measure]:
    """Transactions that update one row each, by 1 connection and by 8."""
    for connections in (1, 8):
        _fill(subject, insert_of(scale.few))
        subject.fresh()
        before = subject.count("item")
        seconds = _updates(subject, connections, scale.few, context)
        recorded, told = _since(before, subject.count("item"))
        step = f"{connections} connection{'s' if connections > 1 else ''}"
        rate = scale.few / seconds
        yield Measure(step, rate, "writes/s", scale.few, recorded, told)


def grown(subject: Subject, scale: Scale, context: bool) -> Iterator[Measure]:
    """Transactions of a single row, where there have been many: time, and WAL.

    The first change of a page after a checkpoint takes the whole page to the WAL, on a
    server that keeps what it has.
    """
    _fill(subject, insert_of(scale.few))
    if subject.history:
        subject.grow(scale.stored)
    subject.settle("item")
    with contextlib.suppress(DBAPIError):  # not everybody may
        subject.admin("CHECKPOINT")
    subject.fresh()
    before, begun = subject.count("item"), subject.written()
    seconds = _updates(subject, 1, scale.few, context)
    written = (subject.written() - begun) // scale.few
    recorded, told = _since(before, subject.count("item"))
    for step, value, unit in (
        ("time", scale.few / seconds, "writes/s"),
        ("WAL", written, "bytes"),
    ):
        yield Measure(step, value, unit, scale.few, recorded, told)


def remote(subject: Subject, scale: Scale, context: bool) -> Iterator[Measure]:
    """Transactions through a proxy that adds latency: round trips, and time."""
    subject.clear()
    with subject.transaction(False) as target:
        subject.perform(target, insert_of(scale.few))
    drivers = {"": _through}
    if subject.asynchronous:
        drivers[", async"] = _through_async
    with Proxy(subject.url, scale.delay / 1000) as proxy:
        for driver, through in drivers.items():
            for way, work in subject.ways().items():
                before = subject.count("item")
                runs = through(subject, proxy, work, context, scale.remote + 1)
                recorded, told = _since(before, subject.count("item"))
                expected = len(runs) * (20 if way == "executemany" else 1)
                trips, seconds = zip(*runs[1:], strict=True)  # the first connects
                for what, value, unit in (
                    ("round trips", statistics.mean(trips), "trips"),
                    ("time", statistics.median(seconds), "s"),
                ):
                    step = f"{way}{driver}, {what}"
                    yield Measure(step, value, unit, expected, recorded, told)


def statement(subject: Subject, scale: Scale, context: bool) -> Iterator[Measure]:
    """What cursors and listeners cost a statement that writes nothing: SELECT 1.

    The cost is less than what differs between two processes, so the same connection
    takes turns with psycopg's own cursors, and without a look for listeners.
    """
    subject.fresh()
    select = text("SELECT 1")
    with subject.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        dialect: Any = connection.dialect
        ways = {
            "as it is": (driver.cursor_factory, dialect._has_events),
            "by psycopg alone": (psycopg.Cursor, False),
        }
        for step, end in (
            ("in a transaction", lambda: None),
            ("each in its own transaction", connection.rollback),
        ):
            seconds: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(-(-scale.few // TURN)):
                for name, way in ways.items():
                    driver.cursor_factory, dialect._has_events = way
                    for _ in range(TURN):
                        begun = time.perf_counter()
                        connection.execute(select)
                        end()
                        seconds[name].append(time.perf_counter() - begun)
            for name, values in seconds.items():
                yield Measure(f"{step}, {name}", statistics.median(values), "s")
        dialect._has_events = ways["as it is"][1]


def attached(subject: Subject, scale: Scale, context: bool) -> Iterator[Measure]:
    """A trigger that is attached to a model, and the same written by hand."""
    insert = (
        "INSERT INTO filled (id, a) SELECT n, n FROM generate_series"
        f"(1, {scale.rows}) AS n"
    )
    subject.admin("TRUNCATE filled")
    for step, sql in (("INSERT", insert), ("UPDATE", "UPDATE filled SET a = a + 1")):
        subject.admin("VACUUM ANALYZE filled")
        subject.fresh()
        yield _timed(subject, step, lambda sql=sql: _execute(subject, sql), None, None)


WORKLOADS: dict[str, Workload] = {
    function.__name__: function
    for function in (
        bulk,
        warmed,
        condition,
        noop,
        wide,
        orm,
        size,
        single,
        grown,
        remote,
        statement,
        attached,
    )
}


def _fill(subject: Subject, insert: Write) -> None:
    subject.clear()
    with subject.transaction(False) as target:
        subject.perform(target, insert)
    subject.settle(insert.table)
    subject.fresh()


def _execute(subject: Subject, sql: str) -> None:
    with subject.engine.begin() as connection:
        connection.exec_driver_sql(sql)


def _performed(
    subject: Subject, step: str, write: Write, context: bool, expected: int
) -> Measure:
    def action() -> None:
        with subject.transaction(context) as target:
            subject.perform(target, write)

    return _timed(subject, step, action, write.table, expected)


def _timed(
    subject: Subject,
    step: str,
    action: Callable[[], None],
    table: str | None,
    expected: int | None,
) -> Measure:
    before = subject.count(table) if table else (0, 0)
    measure = Measure(step, None, "s", expected)
    begun = time.perf_counter()
    try:
        action()
    except Exception as error:
        if not _is_canceled(error):
            raise
        measure.note = "given up"
        return measure
    measure.value = time.perf_counter() - begun
    if table:
        measure.recorded, measure.told = _since(before, subject.count(table))
    return measure


def _is_canceled(error: BaseException | None) -> bool:
    while error is not None:
        original = getattr(error, "orig", None) or error
        if getattr(original, "sqlstate", None) == QUERY_CANCELED:
            return True
        error = error.__cause__
    return False


def _since(before: tuple[int, int], after: tuple[int, int]) -> tuple[int, int]:
    return after[0] - before[0], after[1] - before[1]


def _updates(subject: Subject, connections: int, count: int, context: bool) -> float:
    """Update rows, each in a transaction, by several threads; return the seconds."""
    failures: list[BaseException] = []
    barrier = threading.Barrier(connections + 1)

    def work(first: int) -> None:
        try:
            with subject.connected() as connection:
                barrier.wait()
                for id_ in range(first, count + 1, connections):
                    subject.update_one(connection, id_, context)
        except BaseException as error:
            failures.append(error)
            barrier.abort()

    threads = [
        threading.Thread(target=work, args=(first,))
        for first in range(1, connections + 1)
    ]
    for thread in threads:
        thread.start()
    with contextlib.suppress(threading.BrokenBarrierError):
        barrier.wait()
    begun = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begun
    if failures:
        raise failures[0]
    return seconds


def _through(
    subject: Subject,
    proxy: Proxy,
    work: Callable[[Any], None],
    context: bool,
    count: int,
) -> list[tuple[int, float]]:
    with subject.connected_to(proxy.url) as connection:
        return [
            _counted(subject, proxy, work, context, connection) for _ in range(count)
        ]


def _through_async(
    subject: Subject,
    proxy: Proxy,
    work: Callable[[Any], None],
    context: bool,
    count: int,
) -> list[tuple[int, float]]:
    def function(connection: Connection) -> tuple[int, float]:
        return _counted(subject, proxy, work, context, connection)

    async def main() -> list[tuple[int, float]]:
        engine = create_async_engine(proxy.url, poolclass=NullPool)
        async with engine.connect() as connection:
            return [await connection.run_sync(function) for _ in range(count)]

    return asyncio.run(main())


def _counted(
    subject: Subject,
    proxy: Proxy,
    work: Callable[[Any], None],
    context: bool,
    connection: Any,
) -> tuple[int, float]:
    proxy.round_trips = 0
    begun = time.perf_counter()
    with subject.in_context(connection, context):
        work(connection)
    return proxy.round_trips, time.perf_counter() - begun
