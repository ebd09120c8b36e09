"""Workers that write at random, and know what they have committed, and as whom."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    create_engine,
    delete,
    func,
    insert,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import AfterDelete, Snapshot, track

Write = tuple[str, int, int, str | None]
"""An operation, the id of its row, the row's version, and who has done it."""


def entries(base: type[DeclarativeBase], level: str) -> Any:
    """Map a tracked table, of which each write has a version of its own."""

    @track(Snapshot, AfterDelete, level=level)
    class Entry(base):  # type: ignore[misc, valid-type]
        __tablename__ = "entry"
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        worker: Mapped[int]
        version: Mapped[int]
        author: Mapped[str | None]
        backend: Mapped[int] = mapped_column(server_default=func.pg_backend_pid())
        __mapper_args__ = {"eager_defaults": False}

    return Entry


@dataclass(frozen=True)
class Plan:
    """What all workers of a run have in common.

    :param workers: how many there are.
    :param writes: how many each has to commit, at least.
    :param connections: how many of them the pool has.
    :param ending: how transactions end: ``commit``, ``two-phase`` or ``autocommit``.
    :param prepares: whether the driver may prepare statements.
    """

    workers: int
    writes: int
    connections: int
    ending: str = "commit"
    prepares: bool = True

    @property
    def options(self) -> dict[str, Any]:
        """Options of the engine."""
        options: dict[str, Any] = {
            "pool_size": self.connections,
            "max_overflow": 0,
            # A greenlet that gives a connection back may take it again before others.
            "pool_timeout": 600,
        }
        if not self.prepares:
            options["connect_args"] = {"prepare_threshold": None}
        if self.ending == "autocommit":
            options["isolation_level"] = "AUTOCOMMIT"
        return options

    def make(self, entry: Any, is_async: bool = False) -> list[Worker]:
        """Return the workers."""
        return [Worker(self, entry, number, is_async) for number in range(self.workers)]


class Failed(Exception):
    """A statement has failed; the transaction, or a savepoint, is to be rolled back."""


class Stopped(Exception):
    """A statement was interrupted, and with it the connection is lost."""


class Worker:
    """Writes in random blocks, savepoints and transactions.

    Its rows are its own, so that workers do not wait for each other's transactions.
    """

    interrupt: Callable[[Callable[[], None]], bool] | None = None
    """Does something, for a short time at most; returns whether that was too short."""

    def __init__(self, plan: Plan, entry: Any, number: int, is_async: bool) -> None:
        self.written: list[Write] = []
        self.plan = plan
        self.number = number
        self.luck = random.Random(number)
        self._entry = entry
        self._is_async = is_async
        self._ids = number * 1_000_000
        self._names = 0
        # What the open transaction has done, and the rows that there are for it.
        self._open: list[Write] = []
        self._rows: dict[int, int] = {}
        self._kept: dict[int, int] = {}
        self._authors: list[str] = []
        self._savepoints = 0
        self._is_stopping = False

    @property
    def is_done(self) -> bool:
        return len(self.written) >= self.plan.writes

    # One session's life.

    def visit(self, session: Session) -> None:
        """Write with a session, and end the last transaction, mostly by a commit."""
        self._session = session
        self._authors.clear()
        self._savepoints = 0
        self._target: tuple[Any, ...] = (session,)
        if isinstance(session.bind, Connection):
            self._target = (session.bind,)
        elif not self._is_async and self.luck.random() < 0.3:
            self._target = ()  # the thread
        try:
            self._block(0)
        except (Failed, Stopped):
            session.rollback()
            self._lost()
        self._commit() if self.luck.random() < 0.8 else self._rollback()

    # What it does.

    def _block(self, depth: int) -> None:
        for _ in range(self.luck.randrange(1, 5)):
            steps: dict[Callable[[int], None], float] = {self._change: 6, self._fail: 1}
            if depth < 3:
                steps[self._nest] = 4
            if depth < 3 and self.plan.ending != "autocommit":
                steps[self._savepoint] = 2
            if self._authors:
                steps[self._annotate] = 0.5
            if self._savepoints == 0:
                steps[self._end] = 1.5
            if self.interrupt is not None:
                steps[self._stop] = 0.2
            ((step),) = self.luck.choices(list(steps), list(steps.values()))
            step(depth)

    def _nest(self, depth: int) -> None:
        self._names += 1
        author = f"{self.number}.{self._names}"
        if self._authors and self.luck.random() < 0.2:
            # A block that does not say who; the one around it does.
            with history.context(*self._target, reason=author):
                self._block(depth + 1)
            return
        with history.context(*self._target, user=author):
            self._authors.append(author)
            try:
                self._block(depth + 1)
            finally:
                self._authors.pop()

    def _annotate(self, depth: int) -> None:
        history.annotate(*self._target, step=self._ids)

    def _savepoint(self, depth: int) -> None:
        point = self._session.begin_nested()
        before = len(self._open), dict(self._rows), list(self._authors)
        self._savepoints += 1
        try:
            self._block(depth + 1)
            is_kept = self.luck.random() < 0.6
        except Failed:
            is_kept = False
        finally:
            self._savepoints -= 1
        if is_kept:
            point.commit()
        else:
            point.rollback()
            self._rows = before[1]
            del self._open[before[0] :]

    def _end(self, depth: int) -> None:
        ways = {
            self._commit: 4,
            self._rollback: 1,
            self._close: 1,
            self._invalidate: 0.2,
            self._recycle: 0.2,
            self._break: 0.05,
        }
        self.luck.choices(list(ways), list(ways.values()))[0]()

    def _commit(self) -> None:
        if self.plan.ending == "two-phase" and self.luck.random() < 0.5:
            self._session.prepare()
        self._session.commit()
        self._committed()

    def _rollback(self) -> None:
        if self.plan.ending == "two-phase" and self.luck.random() < 0.5:
            self._session.prepare()
        self._session.rollback()
        self._lost()

    def _close(self) -> None:
        self._session.close()
        self._lost()

    def _invalidate(self) -> None:
        self._session.connection()
        self._session.invalidate()
        self._lost()

    def _recycle(self) -> None:
        """Have the pool connect anew when the connection is taken next."""
        self._session.connection().connection.invalidate(soft=True)
        self._close()

    def _stop(self, depth: int) -> None:
        """Write, and be interrupted in it, or not."""
        assert self.interrupt is not None
        self._session.connection()
        self._is_stopping = True
        try:
            was_stopped = self.interrupt(lambda: self._change(depth))
        finally:
            self._is_stopping = False
        if was_stopped:
            raise Stopped

    def _break(self) -> None:
        """Lose the connection, after which the pool connects all anew."""
        self._refused(
            lambda: self._session.execute(
                text("SELECT pg_terminate_backend(pg_backend_pid())")
            )
        )
        self._session.rollback()
        self._lost()

    def _fail(self, depth: int) -> None:
        entry, session, luck = self._entry, self._session, self.luck
        row = self._new()
        if luck.random() < 0.3:
            # The driver refuses the value, and the server never sees the statement.
            self._refused(
                lambda: session.execute(insert(entry).values({**row, "id": object()}))
            )
            return
        if luck.random() < 0.5:
            session.add(entry(**{**row, "version": None}))
            self._refused(session.flush)
        elif self._rows:
            row["id"] = luck.choice(list(self._rows))
            self._refused(lambda: session.execute(insert(entry).values(row)))
        else:
            self._refused(lambda: session.execute(text("SELECT 1 / 0")))
        if self._savepoints or luck.random() < 0.5:
            raise Failed
        session.rollback()
        self._lost()

    @staticmethod
    def _refused(function: Callable[[], object]) -> None:
        try:
            function()
        except DBAPIError:
            return
        raise AssertionError("the statement has not failed")

    def _lost(self) -> None:
        self._open = []
        self._rows = dict(self._kept)

    def _committed(self) -> None:
        self.written += self._open
        self._open = []
        # A few rows are enough to be changed again.
        for id_ in list(self._rows)[:-20]:
            del self._rows[id_]
        self._kept = dict(self._rows)

    # How it writes.

    def _change(self, depth: int) -> None:
        if self._rows and self.luck.random() < 0.35:
            rows = self._some_of_its_rows()
            if self.luck.random() < 0.2:
                self.luck.choice([self._delete_core, self._delete_orm])(rows[:1])
                self._wrote("D", rows[:1])
                return
            for row in rows:
                row["version"] += 1
                row["author"] = self._author
            ways = [self._update_core, self._update_orm]
            ways += [self._update_many, self._update_bulk]
            self.luck.choice(ways)(rows)
            self._wrote("U", rows)
        else:
            rows = [self._new() for _ in range(self.luck.choice((1, 1, 2, 3, 25)))]
            ways = [self._flush, self._core, self._values, self._executemany]
            ways += [self._bulk, self._returning, self._driver_sql, self._text]
            # SQLAlchemy does not know of what is interrupted in the driver.
            if not self._is_async and not self._is_stopping:
                ways += [self._copy]
            self.luck.choice(ways)(rows)
            self._wrote("I", rows)

    @property
    def _author(self) -> str | None:
        return self._authors[-1] if self._authors else None

    def _new(self) -> dict[str, Any]:
        self._ids += 1
        return self._row(self._ids, 1, self._author)

    def _row(self, id_: int, version: int, author: str | None) -> dict[str, Any]:
        return {"id": id_, "worker": self.number, "version": version, "author": author}

    def _some_of_its_rows(self) -> list[dict[str, Any]]:
        count = min(len(self._rows), self.luck.randrange(1, 4))
        chosen = self.luck.sample(list(self._rows), count)
        return [self._row(id_, self._rows[id_], None) for id_ in chosen]

    def _wrote(self, op: str, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            self._open.append((op, row["id"], row["version"], self._author))
            if op == "D":
                del self._rows[row["id"]]
            else:
                self._rows[row["id"]] = row["version"]
        if self.plan.ending == "autocommit":
            self._committed()

    def _flush(self, rows: list[dict[str, Any]]) -> None:
        self._session.add_all([self._entry(**row) for row in rows])
        self._session.flush()

    def _core(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            self._session.execute(insert(self._entry.__table__).values(row))

    def _values(self, rows: list[dict[str, Any]]) -> None:
        self._session.execute(insert(self._entry.__table__).values(rows))

    def _executemany(self, rows: list[dict[str, Any]]) -> None:
        self._session.connection().execute(insert(self._entry.__table__), rows)

    def _bulk(self, rows: list[dict[str, Any]]) -> None:
        self._session.execute(insert(self._entry), rows)

    def _returning(self, rows: list[dict[str, Any]]) -> None:
        entry = self._entry
        ids = self._session.scalars(insert(entry).returning(entry.id), rows)
        assert sorted(ids) == sorted(row["id"] for row in rows)

    def _text(self, rows: list[dict[str, Any]]) -> None:
        self._session.execute(
            text("INSERT INTO entry VALUES (:id, :worker, :version, :author)"), rows
        )

    def _driver_sql(self, rows: list[dict[str, Any]]) -> None:
        sql = "INSERT INTO entry VALUES (%(id)s, %(worker)s, %(version)s, %(author)s)"
        self._session.connection().exec_driver_sql(sql, rows)

    def _copy(self, rows: list[dict[str, Any]]) -> None:
        columns = ", ".join(rows[0])
        with (
            self._session.connection().connection.cursor() as cursor,
            cursor.copy(f"COPY entry ({columns}) FROM STDIN") as copy,
        ):
            for row in rows:
                copy.write_row(list(row.values()))

    def _update_core(self, rows: list[dict[str, Any]]) -> None:
        entry = self._entry
        for row in rows:
            self._session.execute(
                update(entry).where(entry.id == row["id"]).values(row)
            )

    def _update_orm(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            found = self._session.get_one(
                self._entry, row["id"], populate_existing=True
            )
            found.version, found.author = row["version"], row["author"]
        self._session.flush()

    def _update_many(self, rows: list[dict[str, Any]]) -> None:
        self._session.execute(
            text(
                "UPDATE entry SET version = :version, author = :author WHERE id = :id"
            ),
            rows,
        )

    def _update_bulk(self, rows: list[dict[str, Any]]) -> None:
        self._session.execute(update(self._entry), rows)

    def _delete_core(self, rows: list[dict[str, Any]]) -> None:
        entry = self._entry
        self._session.execute(delete(entry).where(entry.id == rows[0]["id"]))

    def _delete_orm(self, rows: list[dict[str, Any]]) -> None:
        entry = self._entry
        found = self._session.get_one(entry, rows[0]["id"], populate_existing=True)
        self._session.delete(found)
        self._session.flush()


@contextmanager
def a_session(worker: Worker, engine: Engine) -> Iterator[Session]:
    """Yield a session of its own, or on a connection of its own."""
    twophase = worker.plan.ending == "two-phase"
    if worker.luck.random() < 0.3:
        with (
            engine.connect() as connection,
            Session(connection, twophase=twophase) as session,
        ):
            yield session
    else:
        with Session(engine, twophase=twophase) as session:
            yield session


def live(worker: Worker, engine: Engine) -> None:
    """Have a worker do its work, in a thread or a greenlet."""
    while not worker.is_done:
        with a_session(worker, engine) as session:
            worker.visit(session)


def in_threads(url: URL, plan: Plan, entry: Any) -> list[Worker]:
    """Run all workers, each in a thread."""
    engine, workers = create_engine(url, **plan.options), plan.make(entry)
    with ThreadPoolExecutor(plan.workers) as threads:
        list(threads.map(live, workers, [engine] * plan.workers))
    engine.dispose()
    return workers


async def live_in_a_task(worker: Worker, engine: AsyncEngine) -> None:
    """Have a worker do its work; now and then it is cancelled in a statement."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def interrupt(function: Callable[[], None]) -> bool:
        handle = loop.call_later(worker.luck.random() / 200, task.cancel)
        try:
            function()
        except asyncio.CancelledError:
            return True
        finally:
            handle.cancel()
        return False

    twophase = worker.plan.ending == "two-phase"
    # What is interrupted in autocommit may have been committed or not.
    if worker.plan.ending != "autocommit":
        worker.interrupt = interrupt
    while not worker.is_done:
        async with AsyncExitStack() as stack:
            bind: Any = engine
            if worker.luck.random() < 0.3:
                bind = await stack.enter_async_context(engine.connect())
            session = AsyncSession(bind, twophase=twophase)
            await stack.enter_async_context(session)
            await session.run_sync(worker.visit)


def in_tasks(url: URL, plan: Plan, entry: Any) -> list[Worker]:
    """Run all workers, each in a task of one event loop."""
    workers = plan.make(entry, is_async=True)

    async def main() -> None:
        engine = create_async_engine(url, **plan.options)
        await asyncio.gather(*(live_in_a_task(worker, engine) for worker in workers))
        await engine.dispose()

    asyncio.run(main())
    return workers


def record(url: URL, workers: list[Worker]) -> None:
    """Put into a table what the workers have written."""
    dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE written (op text, id bigint, version int, author text,"
            " number bigserial)"
        )
        with cursor.copy("COPY written (op, id, version, author) FROM STDIN") as copy:
            for worker in workers:
                for write in worker.written:
                    copy.write_row(write)
