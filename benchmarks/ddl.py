"""What the objects of tracked tables cost the server when they are created.

The statements that ``create_all`` sends are executed one by one, all of them and some
of them, in databases of their own. What the server's process uses of the processor is
compared with the same tables untracked. Run it with ``python -m benchmarks.ddl``;
``DATABASE_URL`` names a server, which has to be on this machine.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import statistics
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, event
from sqlalchemy.orm import DeclarativeBase

from sa_history import track
from sa_history.testing import EmbeddedPostgres, PgServer

COLUMNS = 15
KINDS = ("TABLE", "INDEX", "FUNCTION", "TRIGGER", "COMMENT")
LEVELS = {
    "the tables": ("TABLE",),
    "and their indexes": ("TABLE", "INDEX"),
    "and the functions": ("TABLE", "INDEX", "FUNCTION"),
    "and the triggers": ("TABLE", "INDEX", "FUNCTION", "TRIGGER"),
    "and the comments": KINDS,
}
"""What is created, each with all that is before it."""


def statements(server: PgServer, number: int, is_tracked: bool) -> list[str]:
    """Return what ``create_all`` of so many models sends, in single statements."""

    class Base(DeclarativeBase):
        metadata = MetaData()

    for n in range(number):
        columns = (Column(f"c{k}", Integer) for k in range(1, COLUMNS))
        table = Table(
            f"thing_{n}",
            Base.metadata,
            Column("id", Integer, primary_key=True),
            *columns,
        )
        model = type(f"Thing{n}", (Base,), {"__table__": table})
        if is_tracked:
            track()(model)
    engine = create_engine(server.create_database("bench_ddl"))
    sent: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def keep(_: Any, __: Any, statement: str, *___: Any) -> None:
        if not statement.lstrip().startswith("SELECT"):
            sent.append(statement.replace("%%", "%"))

    Base.metadata.create_all(engine)
    engine.dispose()
    server.drop_database("bench_ddl")
    return [s for script in sent for s in re.split(r";\n(?=CREATE|COMMENT)", script)]


def kind_of(statement: str) -> str:
    """Return what a statement creates."""
    words = statement.split()[:4]
    if words[0] == "COMMENT":
        return "COMMENT"
    return next((kind for kind in KINDS if kind in words), "TABLE")


def used(server: PgServer, sent: list[str]) -> float:
    """Return the milliseconds of the processor that the server uses for statements."""
    url = server.create_database("bench_ddl").set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False)) as connection:
        connection.execute("SELECT 1")
        # https://docs.kernel.org/scheduler/sched-stats.html
        process = Path(f"/proc/{connection.info.backend_pid}/schedstat")
        before = int(process.read_text().split()[0])
        for statement in sent:
            connection.execute(statement.encode())
        connection.commit()
        after = int(process.read_text().split()[0])
    server.drop_database("bench_ddl")
    return (after - before) / 1e6


def main() -> None:
    """Measure in turns, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        url = os.environ.get("DATABASE_URL")
        if url is None:
            url = stack.enter_context(EmbeddedPostgres()).url()
        server = PgServer.from_url(url)
        tracked = statements(server, options.models, is_tracked=True)
        series = {"untracked": statements(server, options.models, is_tracked=False)}
        for name, kinds in LEVELS.items():
            series[name] = [s for s in tracked if kind_of(s) in kinds]
        found: dict[str, list[float]] = {name: [] for name in series}
        for _ in range(options.rounds):
            for name, sent in series.items():
                found[name].append(used(server, sent))
    untracked = found["untracked"]
    for name, times in found.items():
        ratio = statistics.median(a / b for a, b in zip(times, untracked, strict=True))
        print(f"{name:20} {statistics.median(times):7.0f} ms {ratio:6.2f} x untracked")


if __name__ == "__main__":
    main()
