"""A program that writes to tracked tables, and notes what the database promised it.

It gets the URL, its number, how it writes and a file for its notes. A transaction is
noted with all its writes before it is committed, and again once COMMIT has answered. It
goes on after it has lost its connection, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import random
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import create_engine, delete, insert, text, update
from sqlalchemy import select as select_
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import AfterDelete, Snapshot, track


class Base(DeclarativeBase):
    pass


@track(Snapshot, AfterDelete)
class AtStatement(Base):
    __tablename__ = "at_statement"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[int]


@track(Snapshot, AfterDelete, level="row")
class AtRow(Base):
    __tablename__ = "at_row"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[int]


MODELS: tuple[Any, ...] = (AtStatement, AtRow)
OWN = 1_000_000
"""How many keys each writer has to itself; those of writer 0 are everybody's."""
SHARED = 3
ROWS = 40

Rows = dict[str, dict[int, int]]

# What a lost connection says: nothing, or that the server goes down or comes up.
_LOST = (None, "57P01", "57P02", "57P03")


class Writer:
    """What one writer has in each table, and what its transaction does to it."""

    def __init__(self, number: int, notes: Path) -> None:
        self.number, self.notes = number, notes
        self.rows: Rows = {model.__tablename__: {} for model in MODELS}
        self.luck = random.Random(number)
        self.transactions = self.serial = 0
        self.after: Rows | None = None
        self.writes: list[Any] = []

    def note(self, **said: Any) -> None:
        with self.notes.open("a") as file:
            file.write(json.dumps(said) + "\n")

    def begin(self) -> dict[str, Any]:
        self.transactions += 1
        self.writes = []
        self.after = {name: dict(rows) for name, rows in self.rows.items()}
        return {"user": self.number, "transaction": self.transactions}

    def committing(self) -> None:
        self.note(transaction=self.transactions, writes=self.writes)

    def committed(self) -> None:
        assert self.after is not None
        self.note(transaction=self.transactions, committed=True)
        self.rows, self.after = self.after, None

    def next(self) -> int:
        self.serial += 1
        return self.number * OWN + self.serial

    def wrote(
        self, model: Any, op: str, id_: int, value: int, step: Any, old: Any = None
    ) -> None:
        assert self.after is not None
        rows = self.after[model.__tablename__]
        if op == "D" or old:
            rows.pop(old or id_)
        if op != "D":
            rows[id_] = value
        self.writes.append([model.__tablename__, op, id_, value, old, step])

    def write(self, session: Session, model: Any, step: Any) -> None:
        """Do one thing to a table; often it is one statement for several rows."""
        assert self.after is not None
        rows = self.after[model.__tablename__]
        kinds = ["delete"] if len(rows) > ROWS else ["add", "insert", "copy"]
        kinds += ["change", "update", "move", "delete"] if rows else []
        kind = self.luck.choice(kinds)
        news = [(self.next(), self.next()) for _ in range(self.luck.randint(1, 8))]
        some = self.luck.sample(sorted(rows), min(len(rows), len(news)))
        if kind == "copy" and session.connection().dialect.is_async:
            kind = "insert"
        if kind == "add":
            session.add_all(model(id=id_, value=value) for id_, value in news)
            session.flush()
        elif kind == "insert":
            several = [{"id": id_, "value": value} for id_, value in news]
            session.execute(insert(model.__table__), several)
        elif kind == "copy":
            cursor: Any = session.connection().connection.cursor()
            statement = f"COPY {model.__tablename__} (id, value) FROM STDIN"
            with cursor.copy(statement) as copy:
                for new in news:
                    copy.write_row(new)
        elif kind == "change":
            for id_, (value, _) in zip(some, news, strict=False):
                session.get_one(model, id_).value = value
                self.wrote(model, "U", id_, value, step)
            session.flush()
        elif kind == "update":
            statement = update(model.__table__).where(model.id.in_(some))
            session.execute(statement.values(value=model.value + 1))
            for id_ in some:
                self.wrote(model, "U", id_, rows[id_] + 1, step)
        elif kind == "move":
            id_ = self.next()
            statement = update(model.__table__).where(model.id == some[0])
            session.execute(statement.values(id=id_))
            self.wrote(model, "U", id_, rows[some[0]], step, old=some[0])
        else:
            session.execute(delete(model.__table__).where(model.id.in_(some)))
            for id_ in some:
                self.wrote(model, "D", id_, rows[id_], step)
        if kind in ("add", "insert", "copy"):
            for id_, value in news:
                self.wrote(model, "I", id_, value, step)

    def transaction(self, session: Session) -> None:
        """Write to all tables, in blocks of two depths, and commit."""
        with history.context(session, **self.begin()):
            for model in MODELS:
                for step in range(self.luck.randint(1, 2)):
                    self.write(session, model, None)
                    with history.context(session, step=step):
                        self.write(session, model, step)
                shared = self.luck.randrange(SHARED)
                row = update(model.__table__).where(model.id == shared)
                session.execute(row.values(value=model.value + 1))
                self.writes.append([model.__tablename__, "U", shared, None, None, None])
            self.committing()
            session.commit()
        self.committed()

    def lone_statement(self, engine: Any) -> None:
        """Write by a statement that is its own transaction."""
        model = self.luck.choice(MODELS)
        with (
            engine.connect().execution_options(
                isolation_level="AUTOCOMMIT"
            ) as connection,
            history.context(connection, **self.begin()),
        ):
            some = sorted(self.rows[model.__tablename__])[:5]
            for id_ in some:
                value = self.rows[model.__tablename__][id_] + 1
                self.wrote(model, "U", id_, value, None)
            self.committing()
            statement = update(model.__table__).where(model.id.in_(some))
            connection.execute(statement.values(value=model.value + 1))
        self.committed()

    def find_out(self, session: Session) -> None:
        """See which end a transaction had whose COMMIT was not answered."""
        if self.after is None:
            return
        first = self.number * OWN
        found: Rows = {}
        for model in MODELS:
            own = select_(model.id, model.value).where(
                model.id.between(first, first + OWN - 1)
            )
            found[model.__tablename__] = dict(map(tuple, session.execute(own)))
        assert found in (self.rows, self.after), (found, self.rows, self.after)
        self.rows, self.after = found, None
        session.rollback()


def go_on(step: Callable[[], None]) -> None:
    while not select.select([sys.stdin], [], [], 0)[0]:
        try:
            step()
        except (DBAPIError, psycopg.OperationalError) as error:
            said = getattr(error, "orig", error)
            if not isinstance(said, psycopg.OperationalError):
                raise
            if said.sqlstate not in _LOST:
                raise
            time.sleep(0.01)


def work(writer: Writer, url: str) -> None:
    engine = create_engine(url)

    def step() -> None:
        with Session(engine) as session:
            writer.find_out(session)
            if writer.luck.random() < 0.8:
                writer.transaction(session)
                return
        writer.lone_statement(engine)

    go_on(step)


def work_async(writer: Writer, url: str) -> None:
    engine = create_async_engine(url)

    async def step() -> None:
        async with AsyncSession(engine) as session:
            await session.run_sync(writer.find_out)
            await session.run_sync(writer.transaction)

    loop = asyncio.new_event_loop()
    go_on(lambda: loop.run_until_complete(step()))
    loop.run_until_complete(engine.dispose())
    loop.close()


BOTH = text(
    "WITH at_row AS (INSERT INTO at_row VALUES (7, 7), (8, 8))"
    " INSERT INTO at_statement VALUES (7, 7), (8, 8)"
)


def stay(writer: Writer, url: str, kind: str) -> None:
    """Write to all tables, and come to no end."""
    lone = {"isolation_level": "AUTOCOMMIT"} if kind == "lone statement" else {}
    engine = create_engine(url, **lone)
    with Session(engine) as session, history.context(session, **writer.begin()):
        session.execute(BOTH)
        if kind == "copy":
            cursor: Any = session.connection().connection.cursor()
            with cursor.copy("COPY at_row (id, value) FROM STDIN") as copy:
                for id_ in range(100, 10_000):
                    copy.write_row((id_, id_))
                print("written", flush=True)
                sys.stdin.read()
        print("written", flush=True)
        sys.stdin.read()


def main() -> None:
    url, number, kind, path = sys.argv[1:]
    writer = Writer(int(number), Path(path))
    if kind == "sync":
        work(writer, url)
    elif kind == "async":
        work_async(writer, url)
    else:
        stay(writer, url, kind)


if __name__ == "__main__":
    main()
