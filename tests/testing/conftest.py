"""Directories and processes for the tests of the throw-away server."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user can enter and write to; tmp_path is our own."""
    path = Path(tempfile.mkdtemp(prefix="sa-history-tests-", dir="/tmp"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Wait until something holds, for 15 seconds at most."""

    def wait(holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 15
        while not holds() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert holds()

    return wait


@pytest.fixture
def is_running() -> Callable[[int], bool]:
    """Tell if a process that need not be ours does anything still."""

    def check(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        # In some containers nobody reaps an orphan, which stays as a zombie then.
        # Where there is no /proc, there are no such containers either.
        if not Path("/proc/self/stat").exists():
            return True
        try:
            status = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return False
        return status.rpartition(")")[2].split()[0] != "Z"

    return check
