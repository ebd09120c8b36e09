"""Undo of many rows, beside set-based SQL by hand and beside reading the events.

Two tables with a foreign key, of which one transaction updates all rows, or deletes
them by a cascade. Each answer is given and rolled back, and all take turns. Run it with
``python -m benchmarks.undo``; ``DATABASE_URL`` names a server.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Engine,
    ForeignKey,
    create_engine,
    select,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import track
from sa_history.testing import EmbeddedPostgres, PgServer


class Base(DeclarativeBase):
    """The models."""


@track()
class Parent(Base):
    """Rows that others refer to."""

    __tablename__ = "parent"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    amount: Mapped[int]


@track()
class Child(Base):
    """Rows that refer to a parent."""

    __tablename__ = "child"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int] = mapped_column(
        ForeignKey("parent.id", ondelete="CASCADE"), index=True
    )
    name: Mapped[str]
    note: Mapped[str | None]
    amount: Mapped[int]


MODELS = (Parent, Child)

ROWS = (
    "INSERT INTO parent SELECT n, 'name ' || n, n FROM generate_series(1, {rows}) n",
    "INSERT INTO child SELECT n, n, 'name ' || n, 'note ' || n % 7, n % 100"
    " FROM generate_series(1, {rows}) n",
)
CHANGES = {
    "update": (
        "UPDATE parent SET amount = amount + 1",
        "UPDATE child SET amount = amount + 1, note = NULL",
    ),
    "delete": ("DELETE FROM parent",),
}

SET_BACK = """
UPDATE {table} t SET {values}
FROM {table}_event e JOIN LATERAL (
  SELECT * FROM {table}_event p
  WHERE p.pgh_obj_id = e.pgh_obj_id AND p.pgh_id < e.pgh_id
  ORDER BY p.pgh_id DESC LIMIT 1) p ON true
WHERE e.pgh_xact_id = %(transaction)s AND e.pgh_op = 'U' AND t.id = e.id
"""
INSERT_AGAIN = """
INSERT INTO {table} ({columns}) SELECT {columns} FROM {table}_event
WHERE pgh_xact_id = %(transaction)s AND pgh_op = 'D'
"""
BY_HAND = {
    "update": (
        SET_BACK.format(table="child", values="amount = p.amount, note = p.note"),
        SET_BACK.format(table="parent", values="amount = p.amount"),
    ),
    "delete": (
        INSERT_AGAIN.format(table="parent", columns="id, name, amount"),
        INSERT_AGAIN.format(table="child", columns="id, parent_id, name, note, amount"),
    ),
}


def by_hand(session: Session, change: str, transaction: int) -> None:
    """Undo by the statements that somebody would write who knows what was changed."""
    for statement in BY_HAND[change]:
        parameters = {"transaction": transaction}
        session.connection().exec_driver_sql(statement, parameters)


def read_rows(session: Session, transaction: int) -> None:
    """Read the events of the transaction as rows, all into memory."""
    for model in MODELS:
        events = Base.metadata.tables[f"{model.__tablename__}_event"]
        session.execute(select(events).where(events.c.pgh_xact_id == transaction)).all()


def read_objects(session: Session, transaction: int) -> None:
    """Read the events of the transaction as objects, all into memory."""
    for model in MODELS:
        events = history.events(model)
        session.scalars(events.where(events.pgh_xact_id == transaction)).all()


def undo(session: Session, transaction: int, dry_run: bool = False) -> None:
    """Undo the transaction."""
    history.undo(session, Base, transaction=transaction, dry_run=dry_run)


def answers(change: str, transaction: int) -> dict[str, Callable[[Session], Any]]:
    """Return what is measured."""
    return {
        "by hand": lambda session: by_hand(session, change, transaction),
        "undo": lambda session: undo(session, transaction),
        "dry run": lambda session: undo(session, transaction, dry_run=True),
        "events as rows": lambda session: read_rows(session, transaction),
        "events as objects": lambda session: read_objects(session, transaction),
    }


# ---------------------------------------------------------------- the process


def make(engine: Engine, change: str, rows: int) -> int:
    """Make the rows, change all of them in one transaction, and return its number."""
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        for statement in ROWS:
            connection.execute(text(statement.format(rows=rows)))
    _vacuum(engine)
    with engine.begin() as connection:
        for statement in CHANGES[change]:
            connection.execute(text(statement))
        number = text("SELECT pg_current_xact_id()::text::bigint")
        transaction: int = connection.scalar(number)
    _vacuum(engine)
    return transaction


def _vacuum(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(text("VACUUM ANALYZE"))


def work(options: argparse.Namespace) -> dict[str, Any]:
    """Do a part of the work, as a process of its own, and return what came out."""
    engine = create_engine(options.worker)
    (change,) = options.changes
    if options.task == "make":
        return {"transaction": make(engine, change, options.rows)}
    answer = answers(change, options.transaction)[options.task]
    with Session(engine) as session:
        session.execute(text("SELECT 1"))
        before = _peak()
        whole, client = time.perf_counter(), time.process_time()
        answer(session)
        whole, client = time.perf_counter() - whole, time.process_time() - client
        session.rollback()
    peak = _peak() - before
    _vacuum(engine)
    return {"seconds": whole, "client": client, "bytes": peak}


def _peak() -> int:
    """Return the greatest memory that the process had so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# ---------------------------------------------------------------- all of it


def measure(
    server: PgServer, builds: Mapping[str, Path], change: str, options: Any
) -> Iterator[dict[str, Any]]:
    """Measure a change, and yield the medians of each answer.

    :param builds: the checkouts of the builds, by name; ours is the first.
    """
    database = f"{options.prefix}_undo_{change}"
    server.drop_database(database)
    url = server.create_database(database).render_as_string(hide_password=False)

    def run(build: str, task: str, *more: str) -> Any:
        arguments = ["--worker", url, "--task", task, "--changes", change, *more]
        done = subprocess.run(
            [sys.executable, __file__, *arguments, "--rows", str(options.rows)],
            env={**os.environ, "PYTHONPATH": str(builds[build])},
            capture_output=True,
            encoding="utf-8",
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        return json.loads(done.stdout)

    ours, *others = builds
    transaction = str(run(ours, "make")["transaction"])
    turns = [(ours, task) for task in answers(change, 0)]
    turns += [(other, task) for other in others for task in ("undo", "dry run")]
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for number in range(options.rounds):
        # Each round begins with another one.
        for turn in [*turns[number % len(turns) :], *turns[: number % len(turns)]]:
            result = run(*turn, "--transaction", transaction)
            found.setdefault(turn, []).append(result)
    for turn in turns:
        keys = found[turn][0]
        medians = {k: statistics.median(each[k] for each in found[turn]) for k in keys}
        yield {
            "change": change,
            "rows": 2 * options.rows,
            "build": turn[0],
            "answer": turn[1],
            **medians,
        }
    server.drop_database(database)


def main() -> None:
    """Measure, print, and save the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", nargs="+", default=[*CHANGES], choices=CHANGES)
    parser.add_argument("--rows", type=int, default=100_000, help="of each table")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--beside", type=Path, help="the checkout of another build")
    parser.add_argument("--prefix", default="bench", help="of the names of databases")
    parser.add_argument(
        "--output", type=Path, default=Path("benchmarks/results/undo.json")
    )
    parser.add_argument("--transaction", type=int, help=argparse.SUPPRESS)
    for name in ("--task", "--worker"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(work(options)))
        return
    builds = {"this build": Path(__file__).resolve().parent.parent}
    if options.beside is not None:
        builds["beside"] = options.beside.resolve()
    results: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        url = os.environ.get("DATABASE_URL")
        if url is None:
            server = stack.enter_context(
                EmbeddedPostgres(shared_buffers="512MB", max_wal_size="4GB")
            )
            url = server.url()
        for change in options.changes:
            for result in measure(PgServer.from_url(url), builds, change, options):
                results.append(result)
                print(_line(result), flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=1))


def _line(result: dict[str, Any]) -> str:
    return (
        f"{result['change']:7} {result['rows']:,} rows {result['build']:10}"
        f" {result['answer']:18} {result['seconds']:.3f} s,"
        f" client {result['client']:.3f} s, {result['bytes'] / 2**20:.0f} MiB"
    )


if __name__ == "__main__":
    main()
