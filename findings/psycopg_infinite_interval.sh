#!/usr/bin/env bash
# psycopg 3.3.9 and psycopg2 2.9.13: an infinite interval is read as zero.
#
# Expected: the greatest timedelta, or an error, as psycopg has it for the infinity of a date and
#   for the same interval in the binary format, and asyncpg too.
# Seen: timedelta(0), for infinity and for -infinity, silently. PostgreSQL has them since 17, also
#   as the difference of an infinite time and another.
# Who meets it: "how long is it valid" of rows whose end is infinity: not at all. What is
#   written back is 00:00:00. What helps is a cast to text, or binary=True.
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

VALIDITY = "SELECT 'infinity'::timestamptz - now()"
server = {"host": sys.argv[1], "user": "postgres", "dbname": "postgres"}
seen = {}
with psycopg.connect(**server) as connection:
    (seen["psycopg"],) = connection.execute(VALIDITY).fetchone()
    try:
        (seen["psycopg, binary"],) = connection.execute(VALIDITY, binary=True).fetchone()
    except psycopg.DataError as error:
        seen["psycopg, binary"] = error
with psycopg2.connect(**server) as connection, connection.cursor() as cursor:
    cursor.execute(VALIDITY)
    (seen["psycopg2"],) = cursor.fetchone()
seen = {name: str(value) for name, value in seen.items()}
print(f"psycopg {psycopg.__version__}, psycopg2 {psycopg2.__version__}")
print("  expected: an error, or the greatest timedelta")
for name, value in seen.items():
    print(f"  seen, {name + ':':16} {value}")
binary = seen.pop("psycopg, binary")
if seen != {"psycopg": "0:00:00", "psycopg2": "0:00:00"} or binary == "0:00:00":
    print("  that has changed")
    sys.exit(1)
END
