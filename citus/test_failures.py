"""Servers that fail in the middle of statements: rows and events agree."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from sa_history.install import check

from .conftest import Cluster, started
from .models import Distributed


@pytest.fixture(scope="module")
def own() -> Iterator[Cluster]:
    """Servers that no other test needs."""
    bindir = os.environ.get("CITUS_BINDIR")
    if bindir is None:
        pytest.skip("it stops servers, so it needs its own: set CITUS_BINDIR")
    with (
        started(bindir) as servers,
        contextlib.ExitStack() as cleanup,
        servers.database() as cluster,
    ):
        yield cluster
        # What was started again is no child of ours.
        cleanup.callback(servers.pg_ctl, 2, "stop")
        cleanup.callback(servers.pg_ctl, 1, "stop")


def end_sessions(cluster: Cluster, node: int) -> None:
    """End the sessions that the other servers have there."""
    with cluster.connect(node) as worker:
        worker.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database()"
            " AND application_name LIKE 'citus_internal%'"
        )


def kill_session(cluster: Cluster, node: int) -> None:
    """Kill one session, so that the server ends all, and recovers from its log."""
    with cluster.connect(node) as worker:
        (pid,) = worker.execute("SELECT pg_backend_pid()").fetchone() or (0,)
        os.kill(pid, signal.SIGKILL)


def restart(cluster: Cluster, node: int) -> None:
    """Stop the server at once, and start it again."""
    cluster.restart(node)


def wait_for(cluster: Cluster, node: int) -> None:
    """Wait until a server has recovered."""
    for _ in range(200):
        try:
            cluster.connect(node).close()
        except psycopg.OperationalError:
            time.sleep(0.1)
        else:
            return


FAILURES = [end_sessions, kill_session, restart]


@pytest.mark.parametrize("table", ["account", "item"])
@pytest.mark.parametrize("fail", FAILURES, ids=lambda fail: fail.__name__)
def test_rows_and_events_agree_when_a_worker_fails(
    fail: object, table: str, own: Cluster
) -> None:
    """Twenty times, in the middle of statements of many shards."""
    engine = create_engine(own.servers[0], pool_pre_ping=True)
    Distributed.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(
            text(
                f"INSERT INTO {table} SELECT 't' || n % 12, n, 0"
                " FROM generate_series(1, 1000) AS n"
            )
        )
    failed = 0
    for attempt in range(20):
        node = 1 + attempt % 2
        killer = threading.Timer(0.01 * (attempt % 10), fail, [own, node])
        killer.start()
        while killer.is_alive():
            try:
                with engine.begin() as connection:
                    connection.execute(
                        text(f"UPDATE {table} SET balance = balance + 1")
                    )
            except DBAPIError:
                failed += 1
        killer.join()
        wait_for(own, node)
        agree(own, engine, table)
    print(f"{failed} statements failed")
    assert failed
    assert check(engine, Distributed) == []
    Distributed.metadata.drop_all(engine)
    engine.dispose()


def agree(own: Cluster, engine: Engine, table: str) -> None:
    """Compare the rows with what their events say they are."""
    engine.dispose()  # its sessions have sessions that have ended
    with own.connect() as connection:
        # What was prepared on a worker is committed or rolled back.
        connection.execute("SELECT recover_prepared_transactions()")
        (differ, rows, balances) = connection.execute(
            "SELECT count(*) FILTER (WHERE a.balance IS DISTINCT FROM e.balance"
            "    OR a.balance <> e.changes), count(*), count(DISTINCT a.balance)"
            f" FROM {table} AS a LEFT JOIN ("
            "  SELECT tenant, id, max(balance) AS balance, count(*) - 1 AS changes"
            f"  FROM {table}_event GROUP BY tenant, id"
            ") AS e ON e.tenant = a.tenant AND e.id = a.id"
        ).fetchone() or (None, None, None)
        assert (differ, rows, balances) == (0, 1000, 1)
