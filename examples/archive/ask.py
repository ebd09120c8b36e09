"""Ask the archive of the shop, by DuckDB or by Apache Spark.

    python examples/archive/ask.py FOLDER
    python examples/archive/ask.py FOLDER --spark
    python examples/archive/ask.py FOLDER --picture answers.png

Both read the same files and have the same views, which differ in the words of SQL only
where the two do.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import shop

import sa_history as history
from sa_history.archiving.manifest import Manifest

Rows = list[tuple[Any, ...]]
Ask = Callable[[str], Rows]
"""Runs a SELECT of the views."""


def by_duckdb(folder: str) -> Ask:
    """Return what asks DuckDB."""
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(history.archived(folder, shop.Base).sql("duckdb"))
    # What Spark calls the same.
    connection.execute(
        "CREATE MACRO get_json_object(json, path) AS json_extract_string(json, path)"
    )
    connection.execute("CREATE MACRO instant(t) AS CAST(t AS TIMESTAMPTZ)")
    return lambda statement: connection.execute(statement).fetchall()


def by_spark(folder: str, spark: Any) -> Ask:
    """Return what asks Spark.

    :param spark: a session.
    """
    import sa_history.spark as history_spark

    history_spark.register(spark, folder, shop.Base)
    spark.sql(
        "CREATE OR REPLACE TEMPORARY FUNCTION instant(t STRING) RETURNS TIMESTAMP"
        " RETURN CAST(t AS TIMESTAMP)"
    )
    return lambda statement: [tuple(row) for row in spark.sql(statement).collect()]


def start_spark() -> Any:
    """Start a cluster of Spark on this machine, with two workers."""
    import pyspark
    from pyspark.sql import SparkSession

    # The times that PySpark returns are in the zone of this process.
    os.environ["TZ"] = "UTC"
    time.tzset()
    os.environ.setdefault("SPARK_HOME", str(Path(pyspark.__file__).parent))
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    session = (
        SparkSession.builder.master("local-cluster[2,1,1024]")
        .config("spark.executor.memory", "1g")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.ui.enabled", "false")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    return session


def quarters(folder: str) -> list[datetime.date]:
    """Return the days on which the quarters of the archive began."""
    path = Path(folder, "public.orders_event", "_manifest.json")
    manifest = Manifest.from_json(path.read_text(), str(path))
    first, *_, last = [part.since for part in manifest.parts if part.since is not None]
    day = datetime.date.fromisoformat(first[:10]).replace(day=1)
    found = []
    while (day := _next(day)) <= datetime.date.fromisoformat(last[:10]):
        if day.month in (1, 4, 7, 10):
            found.append(day)
    return found


def _next(day: datetime.date) -> datetime.date:
    """Return the first day of the month after that of a day."""
    return (day.replace(day=28) + datetime.timedelta(days=4)).replace(day=1)


CHANGES = """
SELECT CAST(date_trunc('month', pgh_created_at) AS DATE),
  get_json_object(pgh_context, '$.user'), count(*)
FROM orders_event_with_context
WHERE get_json_object(pgh_context, '$.user') IS NOT NULL
GROUP BY 1, 2 ORDER BY 1, 2
"""

SENT = """
SELECT CAST(date_trunc('month', pgh_created_at) AS DATE), status, count(*)
FROM orders_event_with_previous
WHERE pgh_op = 'U' AND status <> previous_status
GROUP BY 1, 2 ORDER BY 1, 2
"""

PRICES = """
SELECT name, CAST(pgh_created_at AS DATE), price FROM product_event
ORDER BY name, pgh_id
"""


def orders_then(ask: Ask, day: datetime.date) -> Rows:
    """Return how many orders of each status there were on a day."""
    return ask(
        f"SELECT DATE '{day}', status, count(*) FROM"
        f" orders_as_of(instant('{day} 00:00:00+00:00')) GROUP BY 2 ORDER BY 2"
    )


def answers(ask: Ask, folder: str) -> dict[str, Rows]:
    """Return the answers to all questions, each by what it is about."""
    return {
        "orders as of the first day of a quarter": [
            row for day in quarters(folder) for row in orders_then(ask, day)
        ],
        "changes of orders a month": ask(CHANGES),
        "orders that got a status a month": ask(SENT),
        "prices": ask(PRICES),
    }


def draw(found: dict[str, Rows], path: str) -> None:
    """Draw the answers."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(12, 8), layout="constrained")
    for axis, (title, rows) in zip(axes.flat, found.items(), strict=True):
        axis.set_title(title)
        if title == "prices":
            _draw_prices(axis, rows)
        else:
            _draw_counts(axis, rows, is_stock="as of" in title)
        axis.legend(fontsize="small", loc="upper left")
        axis.tick_params(axis="x", labelrotation=30)
    figure.savefig(path)


def _draw_counts(axis: Any, rows: Rows, is_stock: bool) -> None:
    """Draw counts of several kinds over one another, month by month."""
    days = sorted({day for day, _, _ in rows})
    kinds = sorted({str(kind) for _, kind, _ in rows})
    counts = {(day, str(kind)): count for day, kind, count in rows}
    series = [[counts.get((day, kind), 0) for day in days] for kind in kinds]
    if is_stock:
        axis.stackplot(days, series, labels=kinds)
        return
    below = [0] * len(days)
    for kind, values in zip(kinds, series, strict=True):
        axis.bar(days, values, width=24, bottom=below, label=kind)
        below = [a + b for a, b in zip(below, values, strict=True)]


def _draw_prices(axis: Any, rows: Rows) -> None:
    """Draw the prices that changed, as steps."""
    last = max(day for _, day, _ in rows)
    by_name: dict[str, list[tuple[datetime.date, Decimal]]] = {}
    for name, day, price in rows:
        by_name.setdefault(name, []).append((day, price))
    for name, steps in by_name.items():
        if len(steps) > 1:
            days, prices = zip(*steps, (last, steps[-1][1]), strict=True)
            axis.step(
                days, [float(price) for price in prices], where="post", label=name
            )


def main() -> None:
    """Ask, and print the answers or draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="the archive")
    parser.add_argument("--spark", action="store_true", help="ask Apache Spark")
    parser.add_argument("--picture", help="the file to draw the answers to")
    arguments = parser.parse_args()
    if not Path(arguments.folder).is_dir():
        parser.error(f"there is no folder {arguments.folder}; make.py makes one")
    if arguments.spark:
        ask = by_spark(arguments.folder, start_spark())
    else:
        ask = by_duckdb(arguments.folder)
    found = answers(ask, arguments.folder)
    for title, rows in found.items():
        print(title)
        for row in rows[-5:]:
            print("  ", *(str(value) for value in row))
    if arguments.picture:
        draw(found, arguments.picture)


if __name__ == "__main__":
    main()
