#!/usr/bin/env bash
# DuckDB 2.0.1: intervals lose what is below a millisecond when they are written to Parquet.
#
# Expected: an interval comes back as it was, or is refused, as a negative one is.
# Seen: microseconds are cut off, silently: 1.999999 seconds come back as 1.999.
# Who meets it: whoever keeps durations of a PostgreSQL column in files. They are compared
#   with those of the database and differ. What helps is to write microseconds as BIGINT.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet duckdb==2.0.1

"$python" - "$work/took.parquet" <<'END'
import sys
from importlib.metadata import version

import duckdb

TOOK = "SELECT INTERVAL '1.999999 seconds' AS took"
((expected,),) = duckdb.sql(f"SELECT took::VARCHAR FROM ({TOOK})").fetchall()
duckdb.execute(f"COPY ({TOOK}) TO '{sys.argv[1]}'")
((seen,),) = duckdb.sql(f"SELECT took::VARCHAR FROM '{sys.argv[1]}'").fetchall()
print(f"DuckDB {version('duckdb')}")
print(f"  expected: {expected}")
print(f"  seen:     {seen}")
if (expected, seen) != ("00:00:01.999999", "00:00:01.999"):
    print("  that has changed")
    sys.exit(1)
END
