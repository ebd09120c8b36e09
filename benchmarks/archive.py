"""An archive: what it takes to write one, and to ask it what the database is asked.

Run it with ``python -m benchmarks.archive``; ``--events`` says how many events there
are, ``--spark`` that Apache Spark is asked as well, which needs Java 17 and PySpark.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.orm import Session

import sa_history as history
from benchmarks.archive_data import fill
from benchmarks.archive_questions import (
    QUESTIONS,
    ByDuckDB,
    ByPostgreSQL,
    BySpark,
    Rows,
    answer,
    choose,
    in_order,
)
from benchmarks.partitions import models
from sa_history.testing import EmbeddedPostgres

PARTITIONED = 10**9
"""How many events a partition may have; the data has partitions by month."""


@contextmanager
def database(events: int) -> Iterator[str]:
    """Give the URL of a database with so many events.

    On the server that ``DATABASE_URL`` names it stays, and is there the next time.
    """
    if named := os.environ.get("DATABASE_URL"):
        yield _filled(named, events)
        return
    settings = {"shared_buffers": "2GB", "max_wal_size": "8GB", "autovacuum": "off"}
    with EmbeddedPostgres(**settings) as server:
        yield _filled(server.url(), events)


def _filled(url: str, events: int) -> str:
    name = f"bench_archive_{events}"
    filled = make_url(url).set(database=name).render_as_string(hide_password=False)
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        known = text("SELECT FROM pg_database WHERE datname = :name")
        if connection.execute(known, {"name": name}).first() is None:
            connection.execute(text(f"CREATE DATABASE {name}"))
            engine = create_engine(filled)
            base, _ = models(PARTITIONED)
            began = time.perf_counter()
            fill(engine, base, events)
            print(f"made {events:,} events in {time.perf_counter() - began:.0f} s")
            engine.dispose()
    admin.dispose()
    return filled


# ---------------------------------------------------------------- writing


def write(url: str, folder: str) -> None:
    """Archive all, and print the seconds and the memory; in a process of its own."""
    import resource

    base, _ = models(PARTITIONED)
    engine = create_engine(url)
    began = time.perf_counter()
    reports = history.archive(engine, base, to=folder, open=True)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    written = [part for report in reports for part in report.archived]
    print(
        json.dumps(
            {
                "seconds": seconds,
                "peak": peak,
                "rows": sum(part.rows for part in written),
                "bytes": sum(part.bytes for part in written),
            }
        )
    )


def measure_writing(url: str, folder: str) -> None:
    """Print what archiving takes, beside the sorted COPY of the same rows."""
    engine = create_engine(url)
    copied = 0.0
    with engine.connect() as connection:
        parts = connection.execute(text(ARCHIVED_PARTITIONS)).all()
        connection.execute(text("SET work_mem = '64MB'"))
        for name, order, _ in parts:
            began = time.perf_counter()
            connection.exec_driver_sql(
                f"COPY (SELECT * FROM {name} ORDER BY {order})"
                " TO '/dev/null' (FORMAT binary)"
            )
            copied += time.perf_counter() - began
        size = sum(part.size for part in parts)
    engine.dispose()
    command = [sys.executable, "-m", "benchmarks.archive", "--write", url, folder]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    print(
        f"archived {found['rows']:,} rows in {found['seconds']:.0f} s, the sorted COPY"
        f" of them {copied:.0f} s: {found['seconds'] / copied:.2f};"
        f" peak {found['peak']} MiB; files {found['bytes'] / 2**20:.0f} MiB,"
        f" 1/{size / found['bytes']:.0f} of tables and indexes"
    )


ARCHIVED_PARTITIONS = """
SELECT c.oid::regclass::text AS name,
  CASE WHEN p.relname = 'account_event' THEN 'pgh_obj_id, pgh_id' ELSE 'id' END,
  pg_total_relation_size(c.oid) AS size
FROM pg_inherits JOIN pg_class AS c ON c.oid = inhrelid
JOIN pg_class AS p ON p.oid = inhparent
WHERE p.relname IN ('account_event', 'pghistory_context') AND c.relkind = 'r'
  AND pg_get_expr(c.relpartbound, c.oid) NOT LIKE '%MAXVALUE%'
  AND c.reltuples > 0
"""
"""The partitions that have an end, with the order of their rows in a file."""


# ---------------------------------------------------------------- asking


def timed(ask: Callable[[], Rows], rounds: int) -> tuple[float, Rows]:
    """Return the fewest seconds that a question takes, and its answer.

    :param rounds: how often it is asked; no more than ten seconds long, but twice, as
        the first answer also opens files and connections; once if it takes a minute.
    """
    seconds: list[float] = []
    rows: Rows = []
    while len(seconds) < rounds and sum(seconds) < (10 if len(seconds) > 1 else 60):
        began = time.perf_counter()
        rows = ask()
        seconds.append(time.perf_counter() - began)
    return min(seconds), in_order(rows)


def measure_asking(
    url: str, folder: str, questions: Sequence[str], rounds: int, spark: Any
) -> None:
    """Print how long each question takes, and whether the answers are equal."""
    import duckdb

    base, account = models(PARTITIONED)
    engine = create_engine(url)
    views = duckdb.connect(config={"threads": 2})
    views.execute("SET TimeZone = 'UTC'")
    views.execute(history.archived(folder, base).sql())
    with Session(engine) as session:
        events = session.execute(text("SELECT max(pgh_id) FROM account_event")).scalar()
        about = choose(session, account, int(events or 0))
    print(
        f"{'':26}{'live s':>10}{'DuckDB s':>10}{'ratio':>8}{'Spark s':>10}{'rows':>10}"
    )
    for question in questions:
        with Session(engine) as session:
            live, expected = timed(
                lambda s=session, q=question: answer(
                    ByPostgreSQL(s, account, about), q
                ),
                rounds,
            )

        # It stays open, as the engine does.
        with history.archived(folder, base, live=engine) as archive:
            by_duckdb = ByDuckDB(archive, views, account, about)
            seconds, rows = timed(lambda q=question, a=by_duckdb: answer(a, q), rounds)
        equal = [] if rows == expected else ["DIFFERENT by DuckDB"]
        line = f"{question:26}{live:10.3f}{seconds:10.3f}{seconds / live:8.2f}"
        if spark is not None:
            asked = BySpark(spark, folder, account, about)
            took, rows = timed(lambda q=question, a=asked: answer(a, q), 1)
            equal += [] if rows == expected else ["DIFFERENT by Spark"]
            line += f"{took:10.1f}"
        else:
            line += f"{'':10}"
        print(f"{line}{len(expected):10,} {' '.join(equal) or 'equal'}", flush=True)
    engine.dispose()


def local_cluster(memory: int) -> Any:
    """Start Apache Spark with two workers, each a process of its own.

    :param memory: that of a worker, in MiB.
    """
    import pyspark
    from pyspark.sql import SparkSession

    os.environ.setdefault("SPARK_HOME", str(Path(pyspark.__file__).parent))
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    builder = SparkSession.builder.master(f"local-cluster[2,1,{memory}]")
    for name, value in {
        "spark.ui.enabled": "false",
        "spark.driver.memory": "2g",
        "spark.executor.memory": f"{memory}m",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "4",
        "spark.network.timeout": "600s",
    }.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session


def main() -> None:
    """Write an archive, and ask it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help="an archive; written if there is none")
    parser.add_argument("--spark", action="store_true", help="ask Apache Spark as well")
    parser.add_argument("--questions", nargs="+", default=QUESTIONS, choices=QUESTIONS)
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write(*options.write)
        return
    with tempfile.TemporaryDirectory() as made, database(options.events) as url:
        folder = options.folder or made
        if not os.path.isdir(folder) or not os.listdir(folder):
            measure_writing(url, folder)
        spark = local_cluster(memory=2048) if options.spark else None
        measure_asking(url, folder, options.questions, options.rounds, spark)
        if spark is not None:
            spark.stop()


if __name__ == "__main__":
    main()
