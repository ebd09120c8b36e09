"""A random walk of savepoints, errors and blocks: each write has its own author.

``INJECTION_SCALE=12`` makes it twelve times as long, with another seed each time. A
failure shows its seed; ``WALK_SEED`` takes that walk again.
"""

from __future__ import annotations

import asyncio
import os
import random
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from sqlalchemy import (
    URL,
    Engine,
    NullPool,
    create_engine,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError, StatementError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.util import await_only

import sa_history as history
from sa_history import Snapshot, track

SCALE = int(os.environ.get("INJECTION_SCALE", "1"))
SEED = int(os.environ.get("WALK_SEED", "2" if SCALE == 1 else random.randrange(10**6)))
STEPS = 170 * SCALE


@pytest.fixture
def entry(base: type[DeclarativeBase], create_all: Callable[[], None]) -> Any:
    """A tracked model, of which each write has a version of its own."""

    @track(Snapshot)
    class Entry(base):  # type: ignore[misc, valid-type]
        __tablename__ = "entry"
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        version: Mapped[int]

    create_all()
    return Entry


@dataclass(frozen=True)
class Driver:
    """What a walk may do with a driver.

    :param name: as in a URL.
    :param is_async: whether its engine is an async one.
    :param has_scripts: whether it takes several statements at once.
    :param has_savepoints: whether rollbacks by its own savepoints are noticed.
    """

    name: str
    is_async: bool = False
    has_scripts: bool = True
    has_savepoints: bool = False

    def run(self, url: URL, function: Callable[[Session], None]) -> None:
        """Call a function with a session."""
        url = url.set(drivername=f"postgresql+{self.name}")
        if not self.is_async:
            engine = create_engine(url, poolclass=NullPool)
            with Session(engine, expire_on_commit=False) as session:
                function(session)
            return

        async def main() -> None:
            engine = create_async_engine(url, poolclass=NullPool)
            async with AsyncSession(engine, expire_on_commit=False) as session:
                await session.run_sync(function)

        asyncio.run(main())


DRIVERS = {
    "psycopg": Driver("psycopg", has_savepoints=True),
    "psycopg async": Driver("psycopg", is_async=True, has_savepoints=True),
    "psycopg2": Driver("psycopg2"),
    "asyncpg": Driver("asyncpg", is_async=True, has_scripts=False),
}


@dataclass
class Block:
    """An entered block, which gives a context or ignores what is recorded."""

    manager: AbstractContextManager[Any]
    context: uuid.UUID | None
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Write:
    """A write, and what has to be recorded of it."""

    row: tuple[int, int]
    context: uuid.UUID | None
    metadata: dict[str, Any]
    is_ignored: bool
    transaction: int


@dataclass(frozen=True)
class Savepoint:
    """A savepoint, with what there was when it began."""

    kind: str
    handle: Any
    writes: int
    rows: dict[int, int]


class Walk:
    """Random steps of a session; knows what has to be recorded of them."""

    def __init__(self, driver: Driver, entry: Any, session: Session) -> None:
        self.kept: list[Write] = []
        self.steps: list[str] = []
        self._driver = driver
        self._entry = entry
        self._session = session
        self._luck = random.Random(SEED)
        self._number = 0
        self._transaction = 0
        self._target: tuple[Session, ...] = ()
        self._blocks: list[Block] = []
        self._savepoints: list[Savepoint] = []
        self._has_failed = False
        # What the open transaction has written, and the rows that there are for it.
        self._open: list[Write] = []
        self._rows: dict[int, int] = {}
        self._kept_rows: dict[int, int] = {}

    def take(self, steps: int) -> None:
        """Take steps, and leave all blocks and the transaction."""
        try:
            for _ in range(steps):
                self._step()
            while self._savepoints:
                self._release() if not self._has_failed else self._roll_back()
            self._end("commit")
        finally:
            while self._blocks:
                self._leave()

    def _step(self) -> None:
        ways: dict[Callable[[], None], float] = {
            self._enter_context: 2,
            self._enter_ignore: 1,
            self._refused_by_the_driver: 0.5,
        }
        if self._blocks:
            ways |= {self._leave: 2, self._annotate: 0.5}
        if self._has_failed:
            ways |= {self._fail: 0.5, self._recover: 5}
        else:
            ways |= {self._write: 8, self._savepoint: 3, self._end_transaction: 1}
            if self._savepoints:
                ways |= {self._release: 1, self._roll_back: 2}
            is_far = 0.5 if self._savepoints else 0.05  # what an error takes back
            ways |= {self._fail: is_far, self._fail_in_flush: is_far}
        ((way,),) = [self._luck.choices(list(ways), list(ways.values()))]
        self.steps.append(way.__name__)
        way()

    def _next(self) -> int:
        self._number += 1
        return self._number

    # Blocks.

    def _enter_context(self) -> None:
        if not self._blocks and not self._driver.is_async:
            self._target = self._luck.choice([(), (self._session,)])
        elif not self._blocks:
            self._target = (self._session,)
        own = {"who": self._next()}
        manager = history.context(*self._target, **own)
        frame = manager.__enter__()
        self._blocks.append(Block(manager, frame.id, own))

    def _enter_ignore(self) -> None:
        if not self._blocks:
            self._target = (self._session,)
        manager = history.ignore(*self._target, self._entry)
        manager.__enter__()
        self._blocks.append(Block(manager, None, {}))

    def _leave(self) -> None:
        self._blocks.pop().manager.__exit__(None, None, None)

    def _annotate(self) -> None:
        contexts = [block for block in self._blocks if block.context]
        if contexts:
            # A stored context takes more keys, but no other values.
            values = {f"note {self._next()}": "more"}
            history.annotate(*self._target, **values)
            contexts[-1].metadata.update(values)

    # Writes.

    def _write(self) -> None:
        ways = [
            self._insert,
            self._insert_many,
            self._insert_returning,
            self._insert_by_text,
            self._flush,
        ]
        if self._rows:
            ways += [self._update, self._update]
        self._luck.choice(ways)()

    def _new(self) -> dict[str, int]:
        row = {"id": self._next(), "version": self._next()}
        self._wrote(row["id"], row["version"])
        return row

    def _wrote(self, id_: int, version: int) -> None:
        contexts = [block for block in self._blocks if block.context]
        metadata: dict[str, Any] = {}
        for block in contexts:
            metadata |= block.metadata
        self._open.append(
            Write(
                (id_, version),
                contexts[-1].context if contexts else None,
                metadata,
                is_ignored=len(contexts) < len(self._blocks),
                transaction=self._transaction,
            )
        )
        self._rows[id_] = version
        self.steps[-1] += f" {self._open[-1]}"

    def _insert(self) -> None:
        self._session.execute(insert(self._entry).values(self._new()))

    def _insert_many(self) -> None:
        self._session.execute(
            text("INSERT INTO entry (id, version) VALUES (:id, :version)"),
            [self._new(), self._new()],
        )

    def _insert_returning(self) -> None:
        statement = insert(self._entry).returning(self._entry.id)
        self._session.execute(statement, [self._new(), self._new()]).all()

    def _insert_by_text(self) -> None:
        row = self._new()
        sql = f"INSERT INTO entry VALUES ({row['id']}, {row['version']})"
        self._session.connection().exec_driver_sql(self._with_comments(sql))

    def _flush(self) -> None:
        self._session.add(self._entry(**self._new()))
        self._session.flush()
        self._session.expunge_all()

    def _update(self) -> None:
        id_, version = self._luck.choice(list(self._rows)), self._next()
        entry = self._entry
        statement = update(entry).where(entry.id == id_).values(version=version)
        self._wrote(id_, version)
        self._session.execute(
            statement, execution_options={"synchronize_session": False}
        )

    # Errors.

    def _refused_by_the_driver(self) -> None:
        """Fail before anything is sent; the transaction goes on."""
        if self._luck.random() < 0.5:
            statement: Any = insert(self._entry).values(id=object(), version=0)
        else:
            statement = text("INSERT INTO entry VALUES (:missing)")
        with pytest.raises(StatementError):
            self._session.execute(statement)

    def _fail(self) -> None:
        statement: Any = text("SELECT 1 / 0")
        if self._rows and self._luck.random() < 0.5:
            row = {"id": self._luck.choice(list(self._rows)), "version": 0}
            statement = insert(self._entry).values(row)
        with pytest.raises(DBAPIError) as raised:
            self._session.execute(statement)
        in_failed = "current transaction is aborted" in str(raised.value.orig)
        assert in_failed == self._has_failed
        self._has_failed = True

    def _fail_in_flush(self) -> None:
        """Have the session roll back by itself."""
        if self._savepoints and self._savepoints[-1].kind != "session":
            return
        self._session.add(self._entry(id=self._next(), version=None))
        with pytest.raises(DBAPIError):
            self._session.flush()
        self._roll_back_to(len(self._savepoints) - 1)

    def _recover(self) -> None:
        if self._driver_is_inside() or (self._savepoints and self._luck.random() < 0.9):
            self._roll_back()
        elif any(point.kind == "session" for point in self._savepoints):
            self._end("rollback")
        else:
            # A COMMIT of what has failed is a rollback.
            self._end(self._luck.choice(["commit", "rollback", "close"]))

    # Savepoints.

    def _driver_is_inside(self) -> bool:
        return any(point.kind == "driver" for point in self._savepoints)

    def _savepoint(self) -> None:
        if len(self._savepoints) == 4:
            return
        kinds = {"session", "connection", "text", "driver"}
        # Of these two one does not know of the other's.
        for one, other in (("session", "connection"), ("connection", "session")):
            if any(point.kind == one for point in self._savepoints):
                kinds.discard(other)
        if not self._driver.has_savepoints:
            kinds.discard("driver")
        kind = self._luck.choice(sorted(kinds))
        if kind == "session":
            handle: Any = self._session.begin_nested()
        elif kind == "connection":
            handle = self._session.connection().begin_nested()
        elif kind == "text":
            handle = f"point_{self._next()}"
            self._by_text(f"SAVEPOINT {handle}")
        else:
            handle = self._raw().transaction()
            transaction = self._run(handle, "enter__")
            handle = (handle, transaction)
        point = Savepoint(kind, handle, len(self._open), dict(self._rows))
        self._savepoints.append(point)

    def _raw(self) -> Any:
        return self._session.connection().connection.driver_connection

    def _run(self, manager: Any, method: str, *args: Any) -> Any:
        if self._driver.is_async:
            return await_only(getattr(manager, f"__a{method}")(*args))
        return getattr(manager, f"__{method}")(*args)

    def _by_text(self, sql: str) -> None:
        session, luck = self._session, self._luck
        if self._driver.has_scripts and not self._has_failed and luck.random() < 0.3:
            script = luck.choice([f"SELECT 1; {sql}", f"{sql}; SELECT 1"])
            session.connection().exec_driver_sql(script)
        elif luck.random() < 0.5:
            session.connection().exec_driver_sql(self._with_comments(sql))
        else:
            session.execute(text(self._with_comments(sql)))

    def _with_comments(self, sql: str) -> str:
        before = self._luck.choice(["", "", "/* it's a; /* b */ */ ", "-- it's; \n"])
        return before + sql + self._luck.choice(["", "", ";", " /* end */", " -- end"])

    def _some_savepoint(self) -> int:
        """Return the place of the last savepoint, or of one around it."""
        place = len(self._savepoints) - 1
        while place and self._luck.random() < 0.3:
            outer = self._savepoints[place - 1].kind
            inner = {point.kind for point in self._savepoints[place:]}
            # Who has begun a savepoint has to know of its end.
            if inner - {"text", outer} or "driver" in {outer, *inner}:
                break
            if outer == "text" and inner != {"text"}:
                break
            place -= 1
        return place

    def _release(self) -> None:
        place = self._some_savepoint()
        point = self._savepoints[place]
        if point.kind == "text":
            self._by_text(f"RELEASE SAVEPOINT {point.handle}")
        elif point.kind == "driver":
            self._run(point.handle[0], "exit__", None, None, None)
        else:
            for inner in reversed(self._savepoints[place:]):
                if inner.kind != "text":
                    inner.handle.commit()
        del self._savepoints[place:]

    def _roll_back(self) -> None:
        self._roll_back_to(self._some_savepoint())

    def _roll_back_to(self, place: int) -> None:
        if place < 0:
            self._end("rollback")
            return
        point, *inner = self._savepoints[place:]
        del self._savepoints[place:]
        if point.kind == "text":
            sql = f"ROLLBACK TO SAVEPOINT {point.handle}"
            if self._has_failed and self._luck.random() < 0.4:
                # SQLAlchemy does not see it, but has seen the error.
                self._session.connection().connection.cursor().execute(sql)
            else:
                self._by_text(sql)
            if self._luck.random() < 0.5:
                self._savepoints.append(point)  # it is still there
        elif point.kind == "driver":
            manager, transaction = point.handle
            error = psycopg.Rollback(transaction)
            assert self._run(manager, "exit__", type(error), error, None)
        else:
            for each in reversed(inner):
                if each.kind == "connection":
                    each.handle.rollback()
            point.handle.rollback()
        self._has_failed = False
        del self._open[point.writes :]
        self._rows = dict(point.rows)
        if self._luck.random() < 0.6:
            self._write()

    # Transactions.

    def _end_transaction(self) -> None:
        if not self._driver_is_inside():
            self._end(self._luck.choice(["commit"] * 4 + ["rollback", "close"]))

    def _end(self, way: str) -> None:
        getattr(self._session, way)()
        if way == "commit" and not self._has_failed:
            self.kept += self._open
            self._kept_rows = self._rows
        self._transaction += 1
        self._open = []
        self._rows = dict(self._kept_rows)
        self._savepoints.clear()
        self._has_failed = False


@dataclass(frozen=True)
class Stored:
    """A row of the table of contexts.

    :param context: the id of the block.
    :param copied_by: the transaction whose copy it is; None for what was stored first.
    """

    context: uuid.UUID
    copied_by: int | None = None


def foretold(written: list[Write]) -> tuple[list[Stored | None], dict[Stored, Any]]:
    """Return what each write has as its context, and the metadata of each of these.

    What a transaction has stored stays as it is. A later one that knows more of the
    same block, since it was annotated, has a copy of its own.
    """
    contexts: list[Stored | None] = []
    metadata: dict[Stored, Any] = {}
    stored_by: dict[uuid.UUID, int] = {}
    for write in written:
        if write.context is None:
            contexts.append(None)
            continue
        stored = Stored(write.context)
        first = stored_by.setdefault(write.context, write.transaction)
        if first != write.transaction and metadata[stored] != write.metadata:
            stored = Stored(write.context, copied_by=write.transaction)
        contexts.append(stored)
        metadata[stored] = write.metadata
    return contexts, metadata


def compare_walk(
    driver: Driver, url: URL, engine: Engine, entry: Any, kind: type[Walk] = Walk
) -> Walk:
    """Take a walk, compare what was recorded with what it has written, and return it.

    :param url: the database, also behind a pooler.
    :param engine: reads what was recorded.
    """
    walks: list[Walk] = []

    def take(session: Session) -> None:
        walks.append(kind(driver, entry, session))
        walks[0].take(STEPS)

    try:
        driver.run(url, take)
    finally:
        print(f"WALK_SEED={SEED}", *walks[0].steps, sep="\n")
    (walk,) = walks
    written = [write for write in walk.kept if not write.is_ignored]
    expected, metadata = foretold(written)
    model = history.events(entry).model
    mapped = model.pgh_context.property.mapper.class_
    with Session(engine) as session:
        events = session.scalars(select(model).order_by(model.pgh_id)).all()
        assert [(e.id, e.version) for e in events] == [write.row for write in written]
        found = {c.id: c for c in session.scalars(select(mapped))}
        # Nobody can foretell the id of a copy; it is one for the whole transaction.
        ids = {each: each.context for each in metadata if each.copied_by is None}
        for event, stored in zip(events, expected, strict=True):
            if stored is not None and stored not in ids:
                ids[stored] = event.pgh_context_id
                assert found[event.pgh_context_id].parent_id == stored.context
        assert [event.pgh_context_id for event in events] == [
            None if stored is None else ids[stored] for stored in expected
        ]
        assert len({*ids.values()}) == len(ids)
        assert {c.id: c.metadata for c in found.values()} == {
            ids[stored]: own for stored, own in metadata.items()
        }
    assert len(walk.kept) > STEPS / 20
    assert len(written) < len(walk.kept)
    return walk


@pytest.mark.parametrize("driver", DRIVERS)
def test_savepoints_and_errors_change_nothing_in_who_has_written_what(
    driver: str, pg_url: URL, pg_engine: Engine, entry: Any
) -> None:
    compare_walk(DRIVERS[driver], pg_url, pg_engine, entry)
