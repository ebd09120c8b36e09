"""Start Kiosk with a database of its own, and leave nothing behind.

``nox -s example`` does it. PostgreSQL is a throw-away one, unless ``DATABASE_URL``
names a server; there it makes a database, and drops it at the end.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from flask_migrate import upgrade
from kiosk import create_app
from kiosk.extensions import db
from kiosk.seeds import ADMIN, CLERKS, sow
from sqlalchemy import URL, make_url
from werkzeug.serving import make_server

from sa_history.testing import EmbeddedPostgres, PgServer


@contextmanager
def database() -> Iterator[URL]:
    """Give the URL of an empty database."""
    if url := os.environ.get("DATABASE_URL"):
        server = PgServer.from_url(url)
        name = f"kiosk_{os.getpid()}_{secrets.token_hex(4)}"
        try:
            yield server.create_database(name)
        finally:
            server.drop_database(name)
    else:
        with EmbeddedPostgres() as embedded:
            yield make_url(embedded.url())


def main() -> None:
    """Migrate, seed, and serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--port", type=int, default=5000, help="0 is any that is free")
    parser.add_argument("--orders", type=int, default=300, help="how many to make")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        with database() as url:
            app = create_app(SQLALCHEMY_DATABASE_URI=url)
            # First, since it fails where the port is taken.
            server = make_server("127.0.0.1", arguments.port, app, threaded=True)
            with app.app_context():
                upgrade()
                sow(arguments.orders)
            print(f"http://127.0.0.1:{server.port}/history/")
            print(f"Log in as {ADMIN[0]}, who is an admin, or {', '.join(CLERKS)};")
            print(f"everybody's password is {ADMIN[1]}. Ctrl-C ends it.", flush=True)
            server.serve_forever()  # which returns at Ctrl-C
            with app.app_context():
                for engine in db.engines.values():
                    engine.dispose()
    except KeyboardInterrupt:  # before that
        pass
    print("\nAll is gone.")


if __name__ == "__main__":
    main()
