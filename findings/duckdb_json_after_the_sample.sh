#!/usr/bin/env bash
# DuckDB 2.0.1: what the first 20,480 lines of a JSON file do not have is lost.
#
# Expected: read_json() of lines, one of which does not have the types that were found in the
#   sample, is an error, as it is for a text among numbers.
# Seen: 1.5 in a column of integers is rounded to 2, and a key that is first seen later is in
#   no column, both silently.
# Who meets it: exports of events as JSON lines, in which a kind of event with a field of its
#   own began later than the file. What helps is sample_size = -1, or columns = {...}.
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

LAST = {"id": 20_481, "price": 1.5, "reason": "a discount"}
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
