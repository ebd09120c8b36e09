"""Run a command with a PostgreSQL that nobody tuned, which ``DATABASE_URL`` names.

Servers of tests do without what keeps data safe, and without what PostgreSQL does to be
fast where there is much data. Those of users have both, and speak their language::

    python -m tools.untuned_server "repeatable read" pytest tests/reading
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from sa_history.testing import EmbeddedPostgres

BINDIR = Path("/usr/lib/postgresql/15/bin")
"""Debian's, since wheels have neither jit nor translations."""

SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "jit": "on",
    "max_wal_size": "1GB",
    "shared_buffers": "128MB",
    "lc_messages": "de_DE.UTF-8",
}
"""What PostgreSQL has by default, where the server of the tests has something else.

But for prepared transactions, since some tests are about them.
"""


def main() -> int:
    """Run the command, and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("isolation", help="the level of isolation of transactions")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    settings = {**SETTINGS, "default_transaction_isolation": arguments.isolation}
    with EmbeddedPostgres(bindir=BINDIR, **settings) as server:
        # A newer pg_dump prints what this server has for its own, such as pg_attver.
        environment = {"DATABASE_URL": server.url(), "PG_BINDIR": str(BINDIR)}
        environment = {**os.environ, **environment}
        return subprocess.run(arguments.command, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
