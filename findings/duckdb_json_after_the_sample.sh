#!/usr/bin/env bash
# DuckDB 2.0.1: after 20,480 lines of JSON with whole numbers, 1.5 is read as 2.
#
# Expected: read_json() of a line that does not have the types which were found in the sample is
#   an error, as it is for a text among numbers and for a key that the sample did not have.
# Seen: a number with a fraction is rounded to the integers of the sample, silently.
# Who meets it: exports of events as JSON lines, in which prices, durations or quantities were
#   whole for long. What helps is sample_size = -1, or columns = {...}.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet duckdb==2.0.1

"$python" - "$work/events.json" <<'END'
import json
import sys
from importlib.metadata import version

import duckdb

LAST = {"id": 20_481, "price": 1.5}
with open(sys.argv[1], "w") as file:
    for number in range(1, 20_481):
        print(json.dumps({"id": number, "price": 1}), file=file)
    print(json.dumps(LAST), file=file)
seen = {}
for options in ("", ", sample_size = -1"):
    found = duckdb.sql(f"FROM read_json('{sys.argv[1]}'{options}) WHERE id = 20481")
    (row,) = found.fetchall()
    seen[options] = dict(zip(found.columns, row, strict=True))
print(f"DuckDB {version('duckdb')}, the last line")
print(f"  expected: {LAST}, or an error")
for options, row in seen.items():
    print(f"  seen{options}: {row}")
if seen != {"": {"id": 20_481, "price": 2}, ", sample_size = -1": LAST}:
    print("  that has changed")
    sys.exit(1)
END
