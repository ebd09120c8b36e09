#!/usr/bin/env bash
# DuckDB 2.0.1: of events with the same time ASOF JOIN takes the first.
#
# Expected: the last of the table's rows, as join_asof of Polars and merge_asof of pandas
#   take from sorted rows, and as one asks a history for what was so at a time.
# Seen: the first row of those with the greatest time, although the row's number is in the
#   table. ASOF JOIN has one inequality, so it cannot be told to look at the number.
# Who meets it: whoever asks events for what was so: all that one transaction does has the
#   time now(), so a row that is written twice in it shows its first state. What helps is
#   to keep the last event of each time before the join, by QUALIFY row_number() = 1.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet duckdb==2.0.1 polars==2.1.0 pyarrow==26.0.1

"$python" - <<'END'
import sys
from importlib.metadata import version

import duckdb
import polars

EVENTS = """
FROM (VALUES (1, 10, 'draft'), (2, 20, 'sent'), (3, 20, 'paid'))
AS event (number, moment, state) ORDER BY number
"""
events = duckdb.sql(EVENTS).pl()
asked = polars.DataFrame({"moment": [25]}, schema=events.select("moment").schema)
expected = asked.join_asof(events, on="moment")["state"].to_list()
seen = [
    state
    for (state,) in duckdb.sql(
        "SELECT events.state FROM asked ASOF JOIN events ON asked.moment >= events.moment"
    ).fetchall()
]
print(f"DuckDB {version('duckdb')}, the state at 25 of an order sent and paid at 20")
print(f"  expected, as by Polars {version('polars')}: {expected}")
print(f"  seen:                        {seen}")
if (expected, seen) != (["paid"], ["sent"]):
    print("  that has changed")
    sys.exit(1)
END
