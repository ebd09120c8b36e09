"""Reading over many models: this build, another one, and SQL by hand.

Every answer is asked for as an application does: the statement is made anew, executed,
and its rows are fetched. Each build has a process of its own, and they take turns. Run
it with ``python -m benchmarks.many_models``; ``DATABASE_URL`` names a server, which has
to have JIT compilation for ``--jit`` to matter.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    MetaData,
    Table,
    create_engine,
    event,
    make_url,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

import sa_history as history
from sa_history import AggregateEvent, track
from sa_history.testing import EmbeddedPostgres, PgServer

PAGE = 50
FEED_PAGE = 1000
PATIENCE = 20
"""The seconds after which an answer is not asked for again."""


def models(number: int, columns: int) -> tuple[Any, list[str]]:
    """Return a declarative base with tracked models, and the names of their tables."""

    class Base(DeclarativeBase):
        metadata = MetaData()

    for n in range(number):
        table = Table(
            f"thing_{n}",
            Base.metadata,
            Column("id", Integer, primary_key=True),
            *(Column(f"c{k}", Integer) for k in range(1, columns)),
        )
        track()(type(f"Thing{n}", (Base,), {"__table__": table}))
    return Base, [f"thing_{n}" for n in range(number)]


def declare_indexes(base: Any, tables: Sequence[str]) -> None:
    """Have the MetaData know the indexes that the timeline uses if it knows them."""
    for table in tables:
        events = base.metadata.tables[f"{table}_event"].c
        columns = events.pgh_created_at, events.pgh_id
        Index(f"{table}_until", *columns, postgresql_using="brin")


# ---------------------------------------------------------------- the data


def fill(
    connection: Connection, tables: Sequence[str], columns: int, events: int
) -> None:
    """Make events in bulk, those of all tables by turns, ten of each row."""
    number = len(tables)
    contexts = max(events // 10, 1)
    connection.execute(
        text(
            "INSERT INTO pghistory_context (id, metadata) SELECT md5(n::text)::uuid,"
            " jsonb_build_object('user', n % 1000, 'url', '/' || n % 10000)"
            f" FROM generate_series(0, {contexts - 1}) n"
        )
    )
    names = ", ".join(f"c{k}" for k in range(1, columns))
    rows = events // 10 or 1
    # An event changes three columns.
    values = ", ".join(
        f"v{f' % {rows}' if k > 3 else ''} + {k}" for k in range(1, columns)
    )
    for n, table in enumerate(tables):
        connection.execute(
            text(
                f"INSERT INTO {table}_event (pgh_id, pgh_label, pgh_op, pgh_created_at,"
                f" pgh_xact_id, pgh_context_id, pgh_obj_id, id, {names})"
                f" SELECT v * {number} + {n},"
                " CASE WHEN v % 50000 = 7 THEN 'delete' ELSE 'snapshot' END, 'U',"
                f" now() - interval '2 years' * ({events} - v) / {events},"
                f" v + 10, md5((v % {contexts})::text)::uuid, v % {rows},"
                f" v % {rows}, {values}"
                f" FROM generate_series(1, {events}) v"
            )
        )
    connection.commit()
    connection.execution_options(isolation_level="AUTOCOMMIT")
    connection.execute(text("VACUUM ANALYZE"))


def fill_feed(connection: Connection, events: int, transactions: int) -> None:
    """Make events of so many transactions in one table, all finished."""
    connection.execute(
        text(
            "INSERT INTO thing_0_event (pgh_id, pgh_label, pgh_op, pgh_created_at,"
            " pgh_xact_id, pgh_obj_id, id, c1) SELECT v, 'snapshot', 'U', now(),"
            f" v * {transactions}::bigint / {events} - {transactions + 1}, v % 100000,"
            f" v % 100000, v FROM generate_series(1, {events}) v"
        )
    )
    connection.commit()
    connection.execution_options(isolation_level="AUTOCOMMIT")
    connection.execute(text("VACUUM ANALYZE"))


# ---------------------------------------------------------------- by hand

OWN = ["pgh_id", "pgh_created_at", "pgh_xact_id", "pgh_context_id", "pgh_obj_id"]
OWN += ["pgh_op", "pgh_label", "pgh_old_key"]

DETAILS = """
SELECT e.pgh_id, e.pgh_label, e.pgh_op, e.pgh_created_at, e.pgh_xact_id, e.pgh_obj_id,
  e.pgh_context_id, c.metadata, to_jsonb(e.*) - '{{{own}}}'::text[] AS data,
  (SELECT jsonb_object_agg(n.key, jsonb_build_array(w.value, n.value))
   FROM jsonb_each(to_jsonb(e.*)) n
   JOIN jsonb_each((SELECT to_jsonb(p.*) FROM {table}_event p
     WHERE p.pgh_obj_id = e.pgh_obj_id AND p.pgh_id < e.pgh_id
     ORDER BY p.pgh_id DESC LIMIT 1)) w ON w.key = n.key
   WHERE w.value IS DISTINCT FROM n.value AND n.key <> ALL ('{{{own}}}'::text[]))
FROM {table}_event e LEFT JOIN pghistory_context c ON c.id = e.pgh_context_id
WHERE e.pgh_id = ANY (%({table})s)
"""


def by_hand(session: Session, tables: Sequence[str]) -> list[Any]:
    """Return the newest events of all tables: their numbers first, then the rest."""
    connection = session.connection()
    keys = " UNION ALL ".join(
        f"(SELECT pgh_id, {n} AS source FROM {table}_event"
        f" ORDER BY pgh_id DESC LIMIT {PAGE})"
        for n, table in enumerate(tables)
    )
    found = connection.exec_driver_sql(
        f"SELECT * FROM ({keys}) k ORDER BY pgh_id DESC LIMIT {PAGE}"
    ).all()
    return details_by_hand(connection, [(key, tables[n]) for key, n in found])


def details_by_hand(connection: Connection, found: Sequence[tuple[int, str]]) -> Any:
    """Return what a page shows of events."""
    of_table: dict[str, list[int]] = {}
    for number, table in found:
        of_table.setdefault(table, []).append(number)
    own = ",".join(OWN)
    statement = " UNION ALL ".join(DETAILS.format(table=t, own=own) for t in of_table)
    return connection.exec_driver_sql(f"{statement} ORDER BY 1 DESC", of_table).all()


def context_by_hand(
    session: Session, tables: Sequence[str], criterion: str, value: str
) -> list[Any]:
    """Return the newest events of contexts: the contexts first, then the rest."""
    connection = session.connection()
    contexts = f"SELECT id FROM pghistory_context WHERE {criterion}"
    ids = [row.id for row in connection.exec_driver_sql(contexts, (value,))]
    keys = " UNION ALL ".join(
        f"(SELECT pgh_id, {n} AS source FROM {table}_event"
        f" WHERE pgh_context_id = ANY (%(ids)s) ORDER BY pgh_id DESC LIMIT {PAGE})"
        for n, table in enumerate(tables)
    )
    found = connection.exec_driver_sql(
        f"SELECT * FROM ({keys}) k ORDER BY pgh_id DESC LIMIT {PAGE}", {"ids": ids}
    ).all()
    if not found:
        return []
    answer: list[Any] = details_by_hand(connection, [(k, tables[n]) for k, n in found])
    return answer


def feed_by_hand(session: Session, after: tuple[int, int]) -> list[Any]:
    """Return a page of the feed."""
    connection = session.connection()
    found = connection.exec_driver_sql(
        "SELECT pgh_id FROM thing_0_event WHERE (pgh_xact_id, pgh_id) > (%s, %s)"
        " AND pgh_xact_id < pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
        f" ORDER BY pgh_xact_id, pgh_id LIMIT {FEED_PAGE}",
        after,
    ).scalars()
    answer: list[Any] = details_by_hand(connection, [(n, "thing_0") for n in found])
    return answer


# ---------------------------------------------------------------- what is asked for


def newest(session: Session, base: Any) -> Any:
    """Return the newest events, as this build reads a page."""
    if hasattr(AggregateEvent, "page"):
        return AggregateEvent.page(session, base, limit=PAGE, newest_first=True)
    return newest_selected(session, base)


def newest_selected(session: Session, base: Any) -> Any:
    """Return the newest events by one SELECT."""
    statement = AggregateEvent.select(base, limit=PAGE, newest_first=True)
    return session.execute(statement).all()


def of_context(session: Session, base: Any, context: Any) -> Any:
    """Return the newest events of contexts, as this build reads a page."""
    return AggregateEvent.page(
        session, base, context=context, limit=PAGE, newest_first=True
    )


def feed_page(session: Session, base: Any, after: tuple[int, int]) -> Any:
    """Return a page of the feed, as this build reads it."""
    if hasattr(history, "feed_page"):
        return history.feed_page(session, base, after=after, limit=FEED_PAGE)
    return session.execute(history.feed(base, after=after, limit=FEED_PAGE)).all()


def timeline_client(engine: Engine, base: Any) -> Any:
    """Return a client of an application with the timeline."""
    import flask

    from sa_history.flask import History, timeline

    app = flask.Flask("benchmark")
    app.secret_key = "benchmark"
    History(sessionmaker(engine), models=base).init_app(app)
    app.register_blueprint(timeline(authorize=lambda: True), url_prefix="/history")
    return app.test_client()


# ---------------------------------------------------------------- the process


class Clock:
    """Measures answers: as a whole, in the program, and in statements."""

    def __init__(self, engine: Engine) -> None:
        self.in_statements = 0.0
        self._started = 0.0
        event.listen(engine, "before_cursor_execute", self._before)
        event.listen(engine, "after_cursor_execute", self._after)

    def _before(self, *_: Any) -> None:
        self._started = time.perf_counter()

    def _after(self, *_: Any) -> None:
        self.in_statements += time.perf_counter() - self._started

    def measure(self, answer: Callable[[], Any], times: int) -> dict[str, float]:
        """Return the seconds of the first call, and the medians of later ones."""
        first, calls = self._one(answer), []
        began = time.perf_counter()
        while len(calls) < times and (
            not calls or time.perf_counter() - began < PATIENCE
        ):
            calls.append(self._one(answer))
        later = {k: statistics.median(call[k] for call in calls) for k in calls[0]}
        return {"first": first["whole"], **later}

    def _one(self, answer: Callable[[], Any]) -> dict[str, float]:
        self.in_statements = 0.0
        whole, cpu = time.perf_counter(), time.process_time()
        answer()
        return {
            "whole": time.perf_counter() - whole,
            "client": time.process_time() - cpu,
            "statements": self.in_statements,
        }


def work(options: argparse.Namespace) -> None:
    """Make data or measure, as the process of a build, and print what came out."""
    base, tables = models(options.models, options.columns)
    url = make_url(options.worker).update_query_dict(
        {"options": f"-c jit={options.jit}"}
    )
    engine = create_engine(url)
    if options.task == "make":
        base.metadata.create_all(engine)
        with engine.connect() as connection:
            if options.transactions:
                fill_feed(connection, options.events, options.transactions)
            else:
                fill(connection, tables, options.columns, options.events)
        return
    clock, found = Clock(engine), {}
    with Session(engine) as session:
        for name, answer in _answers(options, session, base, tables, engine):
            found[name] = clock.measure(answer, options.times)
            session.rollback()
    print(json.dumps(found))


def _answers(
    options: argparse.Namespace,
    session: Session,
    base: Any,
    tables: Sequence[str],
    engine: Engine,
) -> Iterator[tuple[str, Callable[[], Any]]]:
    if options.task == "newest":
        yield "page", lambda: newest(session, base)
        if hasattr(AggregateEvent, "page"):
            yield "one SELECT", lambda: newest_selected(session, base)
            yield "by hand", lambda: by_hand(session, tables)
    elif options.task == "contexts":
        metadata = "metadata ->> 'user' = %s"
        any_context = text("SELECT pgh_context_id FROM thing_0_event LIMIT 1")
        known = session.connection().scalar(any_context)
        yield "of an id", lambda: of_context(session, base, known)
        yield (
            "of an id, by hand",
            lambda: context_by_hand(session, tables, "id = %s", known),
        )
        for user in (7, -1):
            named = {"user": user}
            yield f"of user {user}", lambda n=named: of_context(session, base, n)
            yield (
                f"of user {user}, by hand",
                lambda u=user: context_by_hand(session, tables, metadata, str(u)),
            )
        model = base.registry._class_registry["Thing0"]
        yield "subject", lambda: history.subject(session, model, 7, user=7)
    elif options.task == "timeline":
        if len(options.paths) > 1:
            declare_indexes(base, tables)
        client = timeline_client(engine, base)
        for path in options.paths:

            def get(path: str = path) -> None:
                answer = client.get(f"/history/{path}")
                assert answer.status_code == 200, answer.status

            yield path, get
    else:
        events, transactions = options.events, options.transactions
        for part, number in (("first", 0), ("middle", events // 2), ("last", -1)):
            number = events - FEED_PAGE if number == -1 else number
            transaction = number * transactions // events - transactions - 1
            after = (transaction, number)

            def page(after: tuple[int, int] = after) -> None:
                assert len(feed_page(session, base, after)) == FEED_PAGE

            yield part, page
            if hasattr(history, "feed_page"):
                yield f"{part}, by hand", lambda a=after: feed_by_hand(session, a)


# ---------------------------------------------------------------- all of it

FILTERS = (
    "",
    "?label=delete",
    "?label=snapshot",
    "?user=7",
    "?user=nobody",
    "?context=url%3D/77",
    "?context=url%3D/nowhere",
    "?table=thing_1_event",
    "?since=2025-03-01&until=2025-03-02",
    "?until=2025-12-01",
    "?until=2025-12-01&label=delete",
    "?label=delete&since=2025-01-01&until=2025-06-01",
    "?key=77",
    "objects/thing_1_event/77",
)
"""Pages of the timeline, as what follows its address."""

INDEXES = """
CREATE INDEX ON {table}_event (pgh_label, pgh_id);
CREATE INDEX ON {table}_event (pgh_created_at, pgh_id);
CREATE INDEX ON {table}_event USING brin (pgh_created_at, pgh_id);
"""
CONTEXT_INDEX = "CREATE INDEX ON pghistory_context ((metadata ->> 'url'))"


class Benchmark:
    """What is measured, on one server.

    :param builds: the checkouts of the builds, by name; ours is the first.
    """

    def __init__(
        self, server: PgServer, builds: dict[str, Path], options: argparse.Namespace
    ) -> None:
        self._server = server
        self._builds = builds
        self._options = options
        self.results: list[dict[str, Any]] = []

    def newest(self, number: int, columns: int, events: int) -> None:
        """Measure the newest page of so many models, and the timeline's first page."""
        size = {"models": number, "columns": columns, "events": events}
        with self._database("newest", **size) as url:
            for jit in self._options.jit:
                for task, paths in (("newest", []), ("timeline", [""])):
                    self._rounds(task, url, paths=paths, jit=jit, **size)

    def contexts(self, number: int, columns: int, events: int) -> None:
        """Measure the events of contexts, and all that is known of one object."""
        size = {"models": number, "columns": columns, "events": events}
        with self._database("contexts", **size) as url:
            for jit in self._options.jit:
                self._rounds("contexts", url, jit=jit, **size)

    def filters(self, events: int) -> None:
        """Measure the filters of the timeline, with the indexes that it documents."""
        size = {"models": 5, "columns": 4, "events": events}
        with self._database("filters", **size) as url:
            engine = create_engine(url, isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                for n in range(5):
                    connection.execute(text(INDEXES.format(table=f"thing_{n}")))
                connection.execute(text(CONTEXT_INDEX))
                connection.execute(text("VACUUM ANALYZE"))
            engine.dispose()
            for jit in self._options.jit:
                self._rounds("timeline", url, paths=[*FILTERS], jit=jit, **size)

    def feed(self, events: int, transactions: int) -> None:
        """Measure pages of the feed through so many transactions."""
        size = {"models": 1, "columns": 2, "events": events}
        for build in self._builds:
            name = f"feed_{build.replace(' ', '_')}"
            with self._database(name, build, transactions=transactions, **size) as url:
                for jit in self._options.jit:
                    self._rounds(
                        "feed", url, build, jit=jit, transactions=transactions, **size
                    )

    def _rounds(self, task: str, url: str, *builds: str, **size: Any) -> None:
        rounds = [
            (build, self._run(build, task, url, times=self._options.times, **size))
            for _ in range(self._options.rounds)
            for build in builds or self._builds
        ]
        named: dict[tuple[str, str], list[dict[str, float]]] = {}
        for build, found in rounds:
            for name, times in found.items():
                named.setdefault((build, name), []).append(times)
        for (build, name), many in named.items():
            times = {k: statistics.median(each[k] for each in many) for k in many[0]}
            result = {"task": task, "build": build, "answer": name, **size, **times}
            self.results.append(result)
            print(_line(result), flush=True)

    @contextlib.contextmanager
    def _database(self, name: str, build: str = "", **size: Any) -> Iterator[str]:
        database = f"{self._options.prefix}_{name}"
        self._server.drop_database(database)
        url = self._server.create_database(database)
        shown = url.render_as_string(hide_password=False)
        self._run(build or next(iter(self._builds)), "make", shown, **size)
        yield shown
        self._server.drop_database(database)

    def _run(self, build: str, task: str, url: str, **size: Any) -> Any:
        arguments = ["--task", task, "--worker", url]
        for name, value in size.items():
            many = value if isinstance(value, list) else [value]
            arguments += [f"--{name}", *map(str, many)] if many else []
        done = subprocess.run(
            [sys.executable, __file__, *arguments],
            env={**os.environ, "PYTHONPATH": str(self._builds[build])},
            capture_output=True,
            encoding="utf-8",
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        return json.loads(done.stdout) if done.stdout.strip() else None


def _line(result: dict[str, Any]) -> str:
    size = ", ".join(
        f"{key} {result[key]}"
        for key in ("models", "columns", "events", "transactions", "jit")
        if key in result
    )
    times = " ".join(
        f"{key} {result[key] * 1000:.1f}"
        for key in ("first", "whole", "client", "statements")
    )
    return f"{result['task']:9} {size:60} {result['build']:10} " + (
        f"{result['answer']:20} {times} ms"
    )


def picture(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw how the newest page costs with more models, and with more events.

    :raises ImportError: if matplotlib is not installed.
    """
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "sa_history", "svg.fonttype": "none"}
    from matplotlib import pyplot

    named = {
        ("this build", "page"): "AggregateEvent.page",
        ("this build", "one SELECT"): "AggregateEvent.select",
        ("this build", "by hand"): "two statements by hand",
        ("beside", "page"): "AggregateEvent.select, build before",
    }
    newest = [r for r in results if r["task"] == "newest" and r["jit"] == "off"]
    figure, both = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for axes, key in zip(both, ("models", "events"), strict=True):
        other = "events" if key == "models" else "models"
        # Along one of the two, with the other as in most results.
        fixed = statistics.mode(r[other] for r in newest)
        for (build, answer), label in named.items():
            times = {
                r[key]: r["whole"] * 1000
                for r in newest
                if (r["build"], r["answer"], r[other]) == (build, answer, fixed)
            }
            places = sorted(times)
            axes.plot(places, [times[k] for k in places], "o-", label=label)
        axes.set_yscale("log")
        axes.set_ylabel("ms")
        axes.set_xlabel(f"{key}, with {fixed:,} {other}")
    both[0].legend(fontsize="small")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    """Measure, print, and save the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        help="newest, contexts, feed, filters; all, if left out",
    )
    parser.add_argument("--beside", type=Path, help="the checkout of another build")
    parser.add_argument("--sizes", nargs="+", default=["5x40", "20x40", "100x40"])
    parser.add_argument(
        "--events", type=int, nargs="+", default=[10_000], help="of each model"
    )
    parser.add_argument("--feed-events", type=int, default=1_000_000)
    parser.add_argument("--jit", nargs="+", default=["off", "on"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--times", type=int, default=5, help="calls of an answer in a round"
    )
    parser.add_argument("--prefix", default="bench", help="of the names of databases")
    parser.add_argument(
        "--output", type=Path, default=Path("benchmarks/results/many_models.json")
    )
    for name in ("--task", "--worker"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    for name in ("--models", "--columns", "--transactions"):
        parser.add_argument(name, type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--paths", nargs="*", default=[], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        (options.jit,) = options.jit if len(options.jit) == 1 else ("off",)
        (options.events,) = options.events
        work(options)
        return
    builds = {"this build": Path(__file__).resolve().parent.parent}
    if options.beside is not None:
        builds["beside"] = options.beside.resolve()
    with contextlib.ExitStack() as stack:
        url = os.environ.get("DATABASE_URL")
        if url is None:
            server = stack.enter_context(
                EmbeddedPostgres(shared_buffers="512MB", max_wal_size="4GB")
            )
            url = server.url()
        benchmark = Benchmark(PgServer.from_url(url), builds, options)
        names = options.names or ["newest", "contexts", "feed", "filters"]
        for name in ("newest", "contexts"):
            for size in options.sizes if name in names else []:
                number, columns = map(int, size.split("x"))
                for events in options.events:
                    getattr(benchmark, name)(number, columns, events)
        if "feed" in names:
            for transactions in (1, options.feed_events):
                benchmark.feed(options.feed_events, transactions)
        if "filters" in names:
            benchmark.filters(options.feed_events)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(benchmark.results, indent=1))
    with contextlib.suppress(ImportError):  # matplotlib may be missing
        picture(benchmark.results, options.output.with_suffix(".svg"))


if __name__ == "__main__":
    main()
