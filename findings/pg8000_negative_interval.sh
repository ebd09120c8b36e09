#!/usr/bin/env bash
# pg8000 1.31.6: of a negative interval only the hours are negative.
#
# Expected: the interval -04:05:06, such as a difference of two times, is read as the
#   timedelta of as many seconds.
# Seen: it is -4 hours and +5 minutes and +6 seconds. Half a second less than nothing,
#   -00:00:00.5, is read as half a second more.
# Who meets it: whoever reads differences of times, such as how late a change came: they
#   are wrong by up to two hours, or of the wrong sign, and nothing says so. What helps is
#   extract(epoch FROM ...) in the query.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet pg8000==1.31.6
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import sys
from importlib.metadata import version

import pg8000.native

LATE = """
SELECT took, took::text FROM (VALUES
    (timestamp '2026-01-01 08:00:00' - timestamp '2026-01-01 12:05:06'),
    (timestamp '2026-01-01 08:00:00' - timestamp '2026-01-01 08:00:00.5')
) AS late (took)
"""
connection = pg8000.native.Connection("postgres", unix_sock=f"{sys.argv[1]}/.s.PGSQL.5432")
read = connection.run(LATE)
connection.close()
stored = [text for _, text in read]
seen = [took.total_seconds() for took, _ in read]
print(f"pg8000 {version('pg8000')}, seconds of the intervals {stored}")
print(f"  expected: [-14706.0, -0.5]")
print(f"  seen:     {seen}")
if (stored, seen) != (["-04:05:06", "-00:00:00.5"], [-14094.0, 0.5]):
    print("  that has changed")
    sys.exit(1)
END
