"""An archive is whole after a kill at any moment, and on a full disk."""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL

from sa_history.exc import ArchiveError
from tests.archiving.conftest import LATER

KILLS = int(os.environ.get("SA_HISTORY_KILLS", "2"))

WORKER = Path(__file__).with_name("worker.py")


def test_kills_at_random_moments_lose_and_double_nothing(
    pg_url: URL, folder: Path
) -> None:
    seed = str(random.randrange(10**6))
    url = pg_url.render_as_string(hide_password=False)
    run = subprocess.run(
        [sys.executable, WORKER, url, folder, str(KILLS), seed],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, f"seed {seed}\n{run.stdout}\n{run.stderr}"
    assert f"killed {KILLS} times" in run.stdout


@pytest.fixture
def size_limit() -> Iterator[Any]:
    """Have no file of this process grow beyond a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int | None) -> None:
        limits = (soft if size is None else size, hard)
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    yield limit
    limit(None)


@pytest.mark.parametrize(
    "size",
    [pytest.param(100, marks=pytest.mark.full, id="first"), 3_000],
)
def test_a_file_that_does_not_fit_is_not_left_behind(
    write: Any, archive: Any, files: Any, rows: Any, size_limit: Any, size: int
) -> None:
    write(15)
    before = rows()
    size_limit(size)
    with pytest.raises(ArchiveError, match="File too large"):
        archive(drop=True, now=LATER)
    size_limit(None)
    assert [path for path in files() if "/." in path or "manifest" in path] == []
    assert rows() == before
    assert len(archive(drop=True, now=LATER)["account_event"].archived) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB, for who may mount one."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts a disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    subprocess.run(command, check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.full
def test_a_full_disk_stops_the_archiving_until_there_is_room(
    write: Any, archive: Any, rows: Any, small_disk: Path
) -> None:
    write(205)  # twenty partitions, of which some fit
    before, to = rows(), small_disk / "archive"
    with pytest.raises(ArchiveError, match="No space left"):
        archive(to, drop=True, now=LATER)
    assert [p for p in small_disk.rglob("*") if p.name.startswith(".")] == []
    assert rows() == before
    for command in (["mount", "-o", "remount,size=8m", str(small_disk)],):
        subprocess.run(command, check=True)
    report = archive(to, drop=True, now=LATER, verify=True)["account_event"]
    assert 0 < len(report.archived) < 20
    assert report.problems == ()
    assert len(rows(where="pgh_id > 0")) == 5
