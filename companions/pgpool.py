"""A Pgpool-II of our own before a server, with one connection for each client."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import URL

from companions.poolers import wait_for_socket

PORT = 9999

SETTINGS = {
    "backend_clustering_mode": "raw",
    "backend_port0": "5432",
    "connection_cache": "on",
    "enable_pool_hba": "off",
    "health_check_period": "0",
    "load_balance_mode": "off",
    "num_init_children": "4",
    "pcp_port": "9898",
    "port": str(PORT),
    "sr_check_period": "0",
}


@contextlib.contextmanager
def pgpool(url: URL, **settings: str) -> Iterator[URL]:
    """Start it, and give the URL by which it is reached.

    :param url: the server, by its socket.
    :param settings: more of its settings.
    """
    with tempfile.TemporaryDirectory(prefix="pgpool-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        own = {
            "backend_hostname0": str(url.query["host"]),
            "socket_dir": name,
            "pcp_socket_dir": name,
            "pid_file_name": f"{name}/pid",
            "logdir": name,
            "listen_addresses": "",
        }
        lines = [f"{k} = '{v}'" for k, v in (SETTINGS | own | settings).items()]
        (directory / "pgpool.conf").write_text("\n".join(lines) + "\n")
        (directory / "pcp.conf").touch()
        (directory / "pool_hba.conf").touch()
        files = {"-f": "pgpool.conf", "-F": "pcp.conf", "-a": "pool_hba.conf"}
        options = [part for k, v in files.items() for part in (k, str(directory / v))]
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(
                ["/usr/sbin/pgpool", "-n", *options], stdout=log, stderr=log
            )
        try:
            wait_for_socket(directory / f".s.PGSQL.{PORT}", process, directory / "log")
            yield url.set(query={"host": name, "port": str(PORT)})
        finally:
            process.terminate()
            process.wait(20)
