"""The benchmarks run; what they measure with so few rows means nothing.

They start many programs, so all but one test are left to ``nox -s full``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent

WORKLOADS = [
    "bulk",
    "warmed",
    "condition",
    "noop",
    "wide",
    "orm",
    "size",
    "single",
    "grown",
    "remote",
    "statement",
    "attached",
    "startup",
]


@pytest.fixture
def run(pg_url: URL, tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Runs one round of benchmarks, and returns the series of their results."""

    def run_benchmarks(*arguments: str) -> list[dict[str, Any]]:
        process = subprocess.run(
            [
                *(sys.executable, "-m", "benchmarks", "--rounds", "1"),
                *("--output", str(tmp_path)),
                *("--prefix", f"bench_{pg_url.database}"),
                *arguments,
            ],
            env={
                **os.environ,
                "DATABASE_URL": pg_url.render_as_string(hide_password=False),
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
            cwd=ROOT,
            capture_output=True,
            encoding="utf-8",
        )
        assert process.returncode == 0, process.stderr
        assert process.stdout.startswith("Python ")
        results = json.loads((tmp_path / "results.json").read_text())
        return list(results["series"])

    return run_benchmarks


def test_every_workload_runs(run: Callable[..., list[dict[str, Any]]]) -> None:
    series = run(
        *("--rows", "100", "--models", "2", "--delay", "1"),
        *("--subjects", "by_hand", "statement", "inline_row"),
    )
    assert list(dict.fromkeys(each["workload"] for each in series)) == WORKLOADS
    for each in series:
        assert each["values"], each
        if each["subject"] != "untracked":
            assert each["recorded"] == each["expected"], each
            told = each["recorded"] if each["context"] else 0
            assert (each["told"] or 0) == (told or 0), each


@pytest.mark.full
def test_the_build_of_another_checkout_is_measured_in_the_same_run(
    run: Callable[..., list[dict[str, Any]]], tmp_path: Path
) -> None:
    other = tmp_path / "earlier"
    for package in ("benchmarks", "sa_history"):
        shutil.copytree(ROOT / package, other / package)
    columns = other / "benchmarks" / "columns.py"
    columns.write_text(
        columns.read_text() + "\nimport sys\n\nprint(__file__, file=sys.stderr)\n"
    )
    series = run("noop", "--rows", "10", "--subjects", "row", "--beside", str(other))
    labels = {each["label"] for each in series if not each["context"]}
    assert labels == {"untracked", "sa_history, row", "sa_history, row of earlier"}
    log = (tmp_path / "log.txt").read_text()
    assert log.splitlines() == [str(columns)]


@pytest.mark.full
def test_builds_are_compared_by_the_processor_time_of_each(
    pg_url: URL, tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "sa_history", tmp_path / "earlier" / "sa_history")
    process = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.builds", str(tmp_path / "earlier")),
            *("--processes", "1", "--rounds", "1", "--rows", "20", "--levels", "row"),
            *("--prefix", f"builds_{pg_url.database}"),
        ],
        env={
            **os.environ,
            "DATABASE_URL": pg_url.render_as_string(hide_password=False),
        },
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
    )
    assert process.returncode == 0, process.stderr
    assert "beside earlier" in process.stdout
    for step in (
        *("start: import", "start: map a model", "start: create a table"),
        *("bulk INSERT", "bulk UPDATE, context", "single row", "single row, context"),
        *("single row, async, context", "orm add", "orm delete, context"),
        *("SELECT 1 by a session", "SELECT 1 by an async session"),
    ):
        assert f"row: {step} " in process.stdout


@pytest.mark.full
def test_reading_over_many_models_is_measured(pg_url: URL, tmp_path: Path) -> None:
    output = tmp_path / "many_models.json"
    process = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.many_models", "--sizes", "2x4"),
            *("--events", "200", "--feed-events", "2000", "--rounds", "1"),
            *("--jit", "off", "--output", str(output)),
            *("--prefix", f"bench_{pg_url.database}"),
        ],
        env={
            **os.environ,
            "DATABASE_URL": pg_url.render_as_string(hide_password=False),
        },
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
    )
    assert process.returncode == 0, process.stderr
    answers = {
        (each["task"], each["answer"]) for each in json.loads(output.read_text())
    }
    assert ("newest", "by hand") in answers
    assert ("contexts", "of user 7, by hand") in answers
    assert ("feed", "last, by hand") in answers
    assert ("timeline", "?user=7") in answers


@pytest.mark.full
def test_undo_of_many_rows_is_measured(pg_url: URL, tmp_path: Path) -> None:
    output = tmp_path / "undo.json"
    process = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.undo", "--rows", "150"),
            *("--rounds", "1", "--output", str(output)),
            *("--prefix", f"bench_{pg_url.database}"),
        ],
        env={
            **os.environ,
            "DATABASE_URL": pg_url.render_as_string(hide_password=False),
        },
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
    )
    assert process.returncode == 0, process.stderr
    answers = {
        (each["change"], each["answer"]) for each in json.loads(output.read_text())
    }
    assert {("update", "by hand"), ("update", "undo"), ("delete", "dry run")} < answers


@pytest.mark.full
def test_what_seals_cost_is_measured() -> None:
    command = [sys.executable, "-m", "benchmarks.seals", "--events", "2000"]
    process = subprocess.run(
        [*command, "--objects", "10", "--rounds", "1"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
    )
    assert process.returncode == 0, process.stderr
    assert "of reading as text" in process.stdout
    assert "erase of 10 objects" in process.stdout


@pytest.mark.full
def test_partitions_are_measured_beside_one_table() -> None:
    command = [sys.executable, "-m", "benchmarks.partitions", "--events", "24000"]
    process = subprocess.run(
        [*command, "--rounds", "1", "--undisturbed", "0.2"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
    )
    assert process.returncode == 0, process.stderr
    assert "newest 50 of an object" in process.stdout
    assert "--keep, no last events" in process.stdout
    assert process.stdout.rstrip().endswith(", 0 lost")
