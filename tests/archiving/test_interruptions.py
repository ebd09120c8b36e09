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
def full_disk() -> Iterator[Any]:
    """Have no file of this process grow beyond a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int | None) -> None:
        resource.setrlimit(
            resource.RLIMIT_FSIZE, (soft if size is None else size, hard)
        )

    yield limit
    limit(None)


@pytest.mark.parametrize("size", [100, 3_000])
def test_a_file_that_does_not_fit_is_not_left_behind(
    write: Any, archive: Any, files: Any, rows: Any, full_disk: Any, size: int
) -> None:
    write(15)
    before = rows()
    full_disk(size)
    with pytest.raises(ArchiveError, match="File too large"):
        archive(drop=True, now=LATER)
    full_disk(None)
    assert files() == []
    assert rows() == before
    assert len(archive(drop=True, now=LATER)["account_event"].archived) == 1
