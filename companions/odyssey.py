"""An Odyssey of our own before a server, in transaction mode."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import URL

from companions.poolers import wait_for_socket

PORT = 6432

SETTINGS = """
daemonize no
unix_socket_dir "{directory}"
unix_socket_mode "0777"
log_to_stdout yes
log_format "%p %t %l (%c) %m\\n"
workers 1
listen {{
  port {port}
  tls "disable"
}}
storage "server" {{
  type "remote"
  host "unix://{server}/.s.PGSQL.5432"
}}
database default {{
  user default {{
    authentication "none"
    storage "server"
    storage_user "{user}"
    pool "transaction"
    pool_size 1
    pool_discard no
    pool_reserve_prepared_statement yes
  }}
}}
"""


@contextlib.contextmanager
def odyssey(url: URL) -> Iterator[URL]:
    """Start it with one connection to the server, and give the URL that leads to it.

    :param url: the server, by its socket.
    """
    with tempfile.TemporaryDirectory(prefix="odyssey-") as name:
        directory = Path(name)
        settings = directory / "odyssey.conf"
        server = url.query["host"]
        settings.write_text(
            SETTINGS.format(directory=name, port=PORT, server=server, user=url.username)
        )
        program = Path(os.environ["ODYSSEY_BINDIR"], "odyssey")
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen([program, settings], stdout=log, stderr=log)
        try:
            wait_for_socket(directory / f".s.PGSQL.{PORT}", process, directory / "log")
            yield url.set(query={"host": name, "port": str(PORT)})
        finally:
            process.terminate()
            process.wait(20)
