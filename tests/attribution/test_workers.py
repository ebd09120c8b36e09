"""Whoever shares connections, and however they are used: each write has its author."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL

from tests.pgbouncer import PgBouncer

from .workload import Plan, Worker, in_tasks, in_threads

CheckWorkers = Callable[..., None]
Run = Callable[[URL, Plan, Any], list[Worker]]


@pytest.fixture(params=[in_threads, in_tasks], ids=["threads", "tasks"])
def run(request: pytest.FixtureRequest) -> Run:
    """How the workers run beside each other."""
    return request.param  # type: ignore[no-any-return]


@pytest.mark.parametrize("level", ["statement", "row"])
def test_writes_of_threads_on_a_pool_have_their_own_contexts(
    pg_url: URL, entry: Any, writes: int, check_workers: CheckWorkers
) -> None:
    plan = Plan(workers=16, writes=writes // 16, connections=4)
    check_workers(in_threads(pg_url, plan, entry))


def test_writes_of_interleaved_tasks_have_their_own_contexts(
    pg_url: URL, entry: Any, writes: int, check_workers: CheckWorkers
) -> None:
    plan = Plan(workers=50, writes=writes // 50, connections=8)
    check_workers(in_tasks(pg_url, plan, entry))


@pytest.mark.usefixtures("entry")
def test_writes_of_greenlets_have_their_own_contexts(
    pg_url: URL, writes: int, check: CheckWorkers
) -> None:
    # It patches the whole process.
    process = subprocess.run(
        [
            sys.executable,
            Path(__file__).with_name("greenlets.py"),
            pg_url.render_as_string(hide_password=False),
            str(writes),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        encoding="utf-8",
    )
    assert process.returncode == 0, process.stderr
    check(writes)


@pytest.mark.parametrize("ending", ["two-phase", "autocommit"])
def test_writes_have_their_own_contexts_however_a_transaction_ends(
    ending: str,
    run: Run,
    pg_url: URL,
    entry: Any,
    writes: int,
    check_workers: CheckWorkers,
) -> None:
    plan = Plan(workers=16, writes=writes // 16, connections=4, ending=ending)
    check_workers(run(pg_url, plan, entry))


@pytest.mark.parametrize("ending", ["commit", "autocommit"])
def test_writes_of_clients_of_a_pooler_have_their_own_contexts(
    ending: str,
    run: Run,
    pgbouncer: PgBouncer,
    entry: Any,
    writes: int,
    check_workers: CheckWorkers,
) -> None:
    plan = Plan(
        workers=50, writes=writes // 50, connections=50, ending=ending, prepares=False
    )
    check_workers(run(pgbouncer.url, plan, entry), sharing=10)
