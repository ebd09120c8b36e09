"""The benchmarks run; what they measure with so few rows means nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import URL

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
def results(pg_url: URL, tmp_path: Path) -> dict[str, list[dict[str, object]]]:
    """What one round of all workloads gives, without the peers, by workload."""
    process = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", "--rows", "100"),
            *("--subjects", "by_hand", "statement", "inline_row"),
            *("--rounds", "1", "--models", "2", "--delay", "1"),
            *("--output", str(tmp_path)),
            *("--prefix", f"bench_{pg_url.database}"),
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
    by_workload: dict[str, list[dict[str, object]]] = {}
    for series in json.loads((tmp_path / "results.json").read_text())["series"]:
        by_workload.setdefault(series["workload"], []).append(series)
    return by_workload


def test_every_workload_runs(results: dict[str, list[dict[str, object]]]) -> None:
    assert list(results) == WORKLOADS
    for series in (each for group in results.values() for each in group):
        assert series["values"], series
        if series["subject"] != "untracked":
            assert series["recorded"] == series["expected"], series
            told = series["recorded"] if series["context"] else 0
            assert (series["told"] or 0) == (told or 0), series
