#!/usr/bin/env bash
# sqlglot 30.30.0: of an interval of days and a time the time is lost.
#
# Expected: INTERVAL '1 day 02:03:00', which is how PostgreSQL itself writes such intervals,
#   keeps its value when it is read as PostgreSQL and written as PostgreSQL.
# Seen: INTERVAL '1 DAY', without an error or a warning, and so for other dialects. What has
#   another unit in place of the time, such as '1 day 2 hours', stays as it is.
# Who meets it: whoever has SQL rewritten by a tool on top of sqlglot: a retention or a
#   window of time is another one. What helps is to write units.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet sqlglot==30.30.0

"$python" - <<'END'
import sys
from importlib.metadata import version

import sqlglot

GIVEN = "SELECT INTERVAL '1 day 02:03:00'"
seen = {
    dialect: sqlglot.transpile(GIVEN, read="postgres", write=dialect)[0]
    for dialect in ("postgres", "duckdb", "spark")
}
print(f"sqlglot {version('sqlglot')}")
print(f"  given: {GIVEN}")
print("  expected: the same interval")
for dialect, written in seen.items():
    print(f"  seen, as {dialect + ':':9} {written}")
if seen != {
    "postgres": "SELECT INTERVAL '1 DAY'",
    "duckdb": "SELECT INTERVAL '1' DAY",
    "spark": "SELECT INTERVAL '1' DAY",
}:
    print("  that has changed")
    sys.exit(1)
END
