"""A PGlite of our own, which is reached by a socket."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import URL

PACKAGES = ["@electric-sql/pglite@0.5.14", "@electric-sql/pglite-socket@0.2.17"]

_START_TIMEOUT = 90


def install(directory: Path) -> None:
    """Install the packages of npm into a folder; Node.js has to be there."""
    options = ["--no-audit", "--no-fund", "--legacy-peer-deps", "--prefix"]
    command = ["npm", "install", *options, str(directory), *PACKAGES]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


@contextlib.contextmanager
def pglite(directory: Path, connections: int) -> Iterator[URL]:
    """Start it with an empty database, and give the URL by which it is reached.

    :param directory: where it is installed.
    :param connections: how many clients it has at a time, which share one session.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = str(directory / "node_modules" / ".bin" / "pglite-server")
    options = [f"--port={port}", f"--max-connections={connections}"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(["node", server, *options], stdout=log, stderr=log)
    try:
        _wait(port, process)
        yield URL.create(
            "postgresql+psycopg",
            username="postgres",
            host="127.0.0.1",
            port=port,
            database="postgres",
            query={"sslmode": "disable"},
        )
    finally:
        process.terminate()
        process.wait(20)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while True:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("PGlite has not started")
        time.sleep(0.2)
