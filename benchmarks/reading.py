"""Reading history at scale, beside hand-written SQL for the same answers.

Tables of events are made in bulk, at two sizes, so that it shows whether the time grows
with history. Run it with ``python -m benchmarks.reading``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    func,
    select,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Session

import sa_history as history
from sa_history import AggregateEvent, track
from sa_history.testing import EmbeddedPostgres

VERSIONS = 5
"""How many events a row has."""

CHILDREN = 20
"""How many rows refer to a parent."""


def models(tables: int) -> tuple[type[DeclarativeBase], list[type[Any]]]:
    """Return tracked models, each with a foreign key to the first one's rows."""

    class Base(DeclarativeBase):
        metadata = MetaData()

    made: list[type[Any]] = []
    for number in range(tables):
        table = Table(
            f"thing_{number}",
            Base.metadata,
            Column("id", Integer, primary_key=True),
            Column(
                "parent_id",
                *([ForeignKey("thing_0.id")] if number else [Integer]),
            ),
            Column("name", Text),
            Column("amount", Integer),
            Index(f"ix_thing_{number}_parent_id", "parent_id"),
        )
        made.append(
            track(index=["parent_id"])(
                type(f"Thing{number}", (Base,), {"__table__": table})
            )
        )
    return Base, made


def fill(connection: Connection, base: type[DeclarativeBase], events: int) -> None:
    """Make the rows of all tables, with their events and contexts, in bulk."""
    rows = events // VERSIONS
    for statement in (
        "INSERT INTO pghistory_context (id, metadata) SELECT md5(n::text)::uuid,"
        f" jsonb_build_object('user', n % 100) FROM generate_series(0, {rows - 1}) n",
        *(
            statement
            for table in base.metadata.sorted_tables
            if table.name.startswith("thing_") and not table.name.endswith("_event")
            for statement in _fill_table(table.name, rows)
        ),
    ):
        connection.execute(text(statement))
    connection.commit()
    connection.execution_options(isolation_level="AUTOCOMMIT")
    connection.execute(text("VACUUM ANALYZE"))


def _fill_table(name: str, rows: int) -> list[str]:
    events = (
        f"INSERT INTO {name}_event (pgh_label, pgh_op, pgh_created_at, pgh_xact_id,"
        " pgh_context_id, pgh_obj_id, id, parent_id, name, amount)"
        " SELECT 'snapshot', CASE v WHEN 1 THEN 'I' ELSE 'U' END,"
        f" now() - interval '1 day' * ({VERSIONS} - v) / {VERSIONS},"
        f" v * {rows} + n, md5(n::text)::uuid, n + 1, n + 1,"
        f" n / {CHILDREN} + 1, 'name ' || n, v * 100 + n % 100"
        f" FROM generate_series(1, {VERSIONS}) v, generate_series(0, {rows - 1}) n"
    )
    return [
        f"ALTER TABLE {name} DISABLE TRIGGER ALL",
        f"INSERT INTO {name} (id, parent_id, name, amount) SELECT n + 1,"
        f" n / {CHILDREN} + 1, 'name ' || n, {VERSIONS} * 100 + n % 100"
        f" FROM generate_series(0, {rows - 1}) n",
        events,
        f"ALTER TABLE {name} ENABLE TRIGGER ALL",
    ]


def much_changed(connection: Connection, versions: int) -> None:
    """Give the first row of the first table many events more."""
    connection.execute(
        text(
            "INSERT INTO thing_0_event (pgh_label, pgh_op, pgh_obj_id, id, parent_id,"
            f" name, amount) SELECT 'snapshot', 'U', 1, 1, 1, 'name 0', v"
            f" FROM generate_series(1, {versions}) v"
        )
    )
    connection.commit()


DIFF = """
SELECT page.*, c.metadata, to_jsonb(e.*) - '{{pgh_id,pgh_op}}'::text[],
  (SELECT jsonb_object_agg(n.key, jsonb_build_array(w.value, n.value))
   FROM jsonb_each(jsonb_build_object('id', e.id, 'parent_id', e.parent_id,
     'name', e.name, 'amount', e.amount)) n
   JOIN jsonb_each((SELECT jsonb_build_object('id', p.id, 'parent_id', p.parent_id,
     'name', p.name, 'amount', p.amount) FROM {table}_event p
     WHERE p.pgh_obj_id = e.pgh_obj_id AND p.pgh_id < e.pgh_id
     ORDER BY p.pgh_id DESC LIMIT 1)) w ON w.key = n.key
   WHERE w.value IS DISTINCT FROM n.value)
FROM page JOIN {table}_event e ON e.pgh_id = page.pgh_id AND page.source = {number}
LEFT JOIN pghistory_context c ON c.id = e.pgh_context_id
"""


def newest_by_hand(tables: int) -> str:
    """Return the SQL of the newest events of all tables, with diffs and contexts."""
    pages = " UNION ALL ".join(
        f"(SELECT pgh_id, {n} AS source FROM thing_{n}_event"
        " ORDER BY pgh_id DESC LIMIT 50)"
        for n in range(tables)
    )
    details = " UNION ALL ".join(
        DIFF.format(table=f"thing_{n}", number=n) for n in range(tables)
    )
    return (
        f"WITH page AS MATERIALIZED (SELECT * FROM ({pages}) p ORDER BY pgh_id DESC"
        f" LIMIT 50) SELECT * FROM ({details}) d ORDER BY pgh_id DESC"
    )


ONE_BY_HAND = (
    "WITH page AS MATERIALIZED (SELECT pgh_id, 0 AS source FROM thing_0_event"
    " WHERE pgh_obj_id = 1 ORDER BY pgh_id DESC LIMIT 50) "
    + DIFF.format(table="thing_0", number=0)
    + " ORDER BY page.pgh_id DESC"
)

DISTINCT_BY_HAND = (
    "SELECT count(*), sum(amount) FROM (SELECT DISTINCT ON (pgh_obj_id) *"
    " FROM thing_1_event WHERE pgh_created_at <= :moment"
    " ORDER BY pgh_obj_id, pgh_id DESC) t WHERE pgh_op <> 'D'"
)


def measure(
    engine: Engine, made: list[type[Any]], rounds: int
) -> dict[str, tuple[float, float]]:
    """Return the median seconds of each answer, ours and the one to compare with."""
    first, second = made[0], made[1]
    moment = None
    with engine.connect() as connection:
        moment = connection.scalar(text("SELECT now() - interval '10 hours'"))
    keys = iter(range(1, 10_000_000))

    with Session(engine) as session, history.as_of(engine, moment) as past:

        def run(target: Session, statement: Any, **values: Any) -> Callable[[], Any]:
            return lambda: target.execute(statement, values).all()

        def joined(target: Session) -> Callable[[], Any]:
            statement = (
                select(first.name, second.name)
                .join(second, second.parent_id == first.id)
                .where(first.id == 3)
            )
            return run(target, statement)

        def got(target: Session) -> Callable[[], Any]:
            def get() -> None:
                target.expunge_all()
                assert target.get(second, next(keys) % 1000 + 1)

            return get

        whole = select(func.count(), func.sum(second.amount))
        pairs = {
            "newest 50 of all tables": (
                run(
                    session,
                    AggregateEvent.select(*made, limit=50, newest_first=True),
                ),
                run(session, text(newest_by_hand(len(made)))),
            ),
            "newest 50 of one object": (
                run(
                    session,
                    AggregateEvent.select((first, 1), limit=50, newest_first=True),
                ),
                run(session, text(ONE_BY_HAND)),
            ),
            "as_of: get, and get today": (got(past), got(session)),
            "as_of: join of one parent, and today": (joined(past), joined(session)),
            "as_of: a whole table, and DISTINCT ON": (
                run(past, whole),
                run(session, text(DISTINCT_BY_HAND), moment=moment),
            ),
        }
        return {
            name: tuple(  # type: ignore[misc]
                statistics.median(times)
                for times in zip(
                    *(tuple(map(_seconds, pair)) for _ in range(rounds)), strict=True
                )
            )
            for name, pair in pairs.items()
        }


def _seconds(work: Callable[[], Any]) -> float:
    work()  # its SQL is compiled, and its plan cached or not, as in an application
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Measure at both sizes, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=20)
    parser.add_argument("--events", type=int, default=500_000, help="of each table")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    found = {}
    for events in (options.events // 10, options.events):
        with EmbeddedPostgres(shared_buffers="1GB", max_wal_size="8GB") as server:
            engine = create_engine(server.url())
            base, made = models(options.tables)
            base.metadata.create_all(engine)
            with engine.connect() as connection:
                fill(connection, base, events)
            with engine.connect() as connection:
                much_changed(connection, 5000)
            found[events] = measure(engine, made, options.rounds)
            engine.dispose()
    small, large = found.values()
    print(f"{'':40} {'ours':>10} {'compared':>10} {'ratio':>6} {'to a tenth':>10}")
    for name, (ours, compared) in large.items():
        print(
            f"{name:40} {ours * 1000:7.2f} ms {compared * 1000:7.2f} ms"
            f" {ours / compared:6.2f} {ours / small[name][0]:10.2f}"
        )


if __name__ == "__main__":
    main()
