"""What the tests of poolers share: to wait for one, and to walk through it."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL, NullPool, create_engine

from tests.attribution.test_savepoints import Driver, compare_walk


def wait_for_socket(path: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a pooler answers at its Unix socket.

    :raises RuntimeError: it has ended, or does not answer within 20 seconds.
    """
    deadline = time.monotonic() + 20
    while True:
        with socket.socket(socket.AF_UNIX) as client:
            if client.connect_ex(str(path)) == 0:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(
                f"{process.args!r} has not started; it said:\n{log.read_text()}"
            )
        time.sleep(0.05)


def walk_through(
    pooled_url: URL, name: str, driver: Driver, pg_url: URL, entry: Any
) -> None:
    """Compare who has written what through a pooler with what a walk foretells.

    :param pooled_url: leads to the pooler.
    :param name: what the driver is called in what is printed.
    :param pg_url: leads to the server itself.
    :param entry: the tracked model of the walk.
    """
    engine = create_engine(pg_url, poolclass=NullPool)
    walk = compare_walk(driver, pooled_url, engine, entry)
    print(f"{name}: {len(walk.steps)} steps, {len(walk.kept)} writes committed")
