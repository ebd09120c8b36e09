"""A process that measures one build of the library; ``benchmarks.builds`` starts it.

It takes a command from each line of its input, and answers with a line of JSON: the
microseconds of the processor that each step of a workload has used, in the program and
in the process of the server that works for it, for one row, statement or model.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import make_url, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session, declarative_base

LEVELS = {"statement": "tracked:Statement", "row": "tracked:Row"}

Step = tuple[str, Callable[[], Any], int]
"""The name of a step, what it does, and the number of what it writes or executes."""

BULK = 5
"""A bulk statement writes so many times the rows of a unit of work."""
MODELS = 20

BACKENDS = (
    "SELECT coalesce(array_agg(pid), '{}') FROM pg_stat_activity"
    " WHERE datname = current_database() AND backend_type = 'client backend'"
)


def main(build: str, level: str, url: str) -> None:
    """Answer the commands of the input for a build."""
    declarative_base().registry.configure()
    make_url(url).get_dialect()  # what SQLAlchemy imports later is none of ours
    import psycopg  # noqa: F401

    sys.path.insert(0, build)
    gc.collect()
    begun = time.process_time_ns()
    import sa_history

    imported = (time.process_time_ns() - begun) / 1000
    assert sa_history.__file__ is not None
    assert sa_history.__file__.startswith(build), sa_history.__file__
    module, name = LEVELS[level].split(":")
    subject = getattr(importlib.import_module(f"benchmarks.{module}"), name)(
        make_url(url)
    )
    is_new = True
    for line in sys.stdin:
        command = json.loads(line)
        if command["workload"] == "start":
            measured = {"start: import": (imported, 0.0)}
        else:
            measured = {}
            if is_new:
                subject.setup()
                is_new = False
                gc.collect()
                gc.freeze()
        steps = WORKLOADS[command["workload"]](subject, command["rows"])
        for step, action, count in steps:
            program, server = _used(subject, action)
            measured[step] = (program / count, server / count)
        print(json.dumps(measured), flush=True)


def _used(subject: Any, action: Callable[[], Any]) -> tuple[float, float]:
    """Return the microseconds that an action uses in the program and in the server."""
    gc.collect()
    before, program = _backends(subject), time.process_time_ns()
    action()
    program = time.process_time_ns() - program
    server = sum(
        used - before.get(backend, 0) for backend, used in _backends(subject).items()
    )
    return program / 1000, server / 1000


def _backends(subject: Any) -> dict[int, int]:
    """Return the nanoseconds that the server's processes for us have used."""
    (backends,) = subject.admin(BACKENDS)
    used = {}
    for backend in backends:
        with contextlib.suppress(OSError):  # it has just ended
            # The clock of a process, as clock_getcpuclockid() has it.
            used[backend] = time.clock_gettime_ns((~backend << 3) | 2)
    return used


def start(subject: Any, rows: int) -> Iterator[Step]:
    """Map models and create their tables; the import comes before."""
    from benchmarks import columns

    classes: list[Any] = []

    def declare() -> None:
        for number in range(MODELS):
            classes.append(subject.declare(f"model_{number}", columns.usual()))
        subject.configure()

    yield "start: map a model", declare, MODELS
    subject.fresh()
    metadata = classes[0].metadata
    yield "start: create a table", lambda: metadata.create_all(subject.engine), MODELS


def bulk(subject: Any, rows: int) -> Iterator[Step]:
    """One INSERT, UPDATE and DELETE of many rows."""
    from benchmarks.workloads import DELETE, UPDATE, insert_of

    rows *= BULK
    for context in (True, False):
        subject.clear()
        for step, write in (
            ("INSERT", insert_of(rows)),
            ("UPDATE", UPDATE),
            ("DELETE", DELETE),
        ):
            subject.settle("item")
            subject.fresh()

            def perform(write: Any = write, context: bool = context) -> None:
                with subject.transaction(context) as target:
                    subject.perform(target, write)

            yield f"bulk {step}{_said(context)}", perform, rows


def single(subject: Any, rows: int) -> Iterator[Step]:
    """Transactions of a single row."""
    count = rows // 4
    _fill(subject, rows)
    for context in (True, False):
        with subject.connected() as connection:

            def write(context: bool = context, connection: Any = connection) -> None:
                for id_ in range(1, count + 1):
                    subject.update_one(connection, id_, context)

            yield f"single row{_said(context)}", write, count


def single_async(subject: Any, rows: int) -> Iterator[Step]:
    """Transactions of a single row, by an async connection."""
    import sa_history as history

    count = rows // 4
    _fill(subject, rows)
    table = subject.item.__table__

    async def write(context: bool) -> None:
        async with engine.connect() as connection:
            for id_ in range(1, count + 1):
                statement = (
                    update(table)
                    .where(table.c.id == id_)
                    .values(int_field=table.c.int_field + 1)
                )
                if context:
                    async with history.context(connection, user=7, url="/items/1"):
                        await connection.execute(statement)
                        await connection.commit()
                else:
                    await connection.execute(statement)
                    await connection.commit()

    engine = create_async_engine(subject.url, pool_size=1)
    with _event_loop(engine) as run:
        for context in (True, False):
            yield (
                f"single row, async{_said(context)}",
                lambda context=context: run(write(context)),
                count,
            )


def orm(subject: Any, rows: int) -> Iterator[Step]:
    """Units of work: add objects; load and change them; load and delete them."""
    for context in (True, False):
        subject.clear()
        for step, work in (
            ("add", lambda session: subject.add(session, rows)),
            ("change", subject.change),
            ("delete", subject.remove),
        ):
            subject.settle("item")
            subject.fresh()

            def unit(work: Any = work, context: bool = context) -> None:
                with subject.session(context) as session:
                    work(session)

            yield f"orm {step}{_said(context)}", unit, rows


def listener(subject: Any, rows: int) -> Iterator[Step]:
    """Statements that write nothing, and those that fail."""
    _fill(subject, rows)
    one = text("SELECT 1")
    item = subject.item

    def core() -> None:
        for _ in range(rows):
            connection.execute(one)

    with subject.engine.connect() as connection:
        yield "SELECT 1 by a connection", core, rows
    with Session(subject.engine) as session:

        def of_session() -> None:
            for _ in range(rows):
                session.execute(one)

        yield "SELECT 1 by a session", of_session, rows

        def objects() -> None:
            for id_ in range(1, rows // 4 + 1):
                session.scalars(select(item).where(item.id == id_)).one()

        yield "SELECT of an object", objects, rows // 4

    def transactions() -> None:
        for _ in range(rows // 4):
            with Session(subject.engine) as each:
                each.execute(one)

    yield "session with a SELECT", transactions, rows // 4


def listener_async(subject: Any, rows: int) -> Iterator[Step]:
    """Statements of async sessions that write nothing."""
    engine = create_async_engine(subject.url, pool_size=1)
    one = text("SELECT 1")

    async def read() -> None:
        async with AsyncSession(engine) as session:
            for _ in range(rows // 4):
                await session.execute(one)

    with _event_loop(engine) as run:
        yield "SELECT 1 by an async session", lambda: run(read()), rows // 4


WORKLOADS: dict[str, Callable[[Any, int], Iterator[Step]]] = {
    function.__name__: function
    for function in (start, bulk, single, single_async, orm, listener, listener_async)
}


@contextlib.contextmanager
def _event_loop(engine: AsyncEngine) -> Iterator[Callable[[Any], Any]]:
    """Give what runs a coroutine, and an engine that is connected."""

    async def connect() -> None:
        async with engine.connect():
            pass

    loop = asyncio.new_event_loop()
    loop.run_until_complete(connect())
    yield loop.run_until_complete
    loop.run_until_complete(engine.dispose())
    loop.close()


def _fill(subject: Any, rows: int) -> None:
    from benchmarks.workloads import insert_of

    subject.clear()
    with subject.transaction(False) as target:
        subject.perform(target, insert_of(rows))
    subject.settle("item")
    subject.fresh()


def _said(context: bool) -> str:
    return ", context" if context else ""


if __name__ == "__main__":
    main(*sys.argv[1:])
