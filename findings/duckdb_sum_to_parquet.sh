#!/usr/bin/env bash
# DuckDB 2.0.1: the sum of a BIGINT column loses digits when it is written to Parquet.
#
# Expected: an exact type, such as DECIMAL(38, 0), or an error: sum() of BIGINT is a HUGEINT,
#   and Parquet has decimals.
# Seen: the column of the file is a DOUBLE, silently. 9007199254740993 is written as
#   9007199254740992.
# Who meets it: whoever keeps totals of cents, bytes or numbers of events as files of their
#   own: above 2^53 they are not those of the database. What helps is a CAST to BIGINT or
#   DECIMAL(38, 0).
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet duckdb==2.0.1

"$python" - "$work/total.parquet" <<'END'
import sys
from importlib.metadata import version

import duckdb

TOTAL = "SELECT sum(cents) AS total FROM (VALUES (9007199254740992::BIGINT), (1)) AS t (cents)"
((expected,),) = duckdb.sql(TOTAL).fetchall()
duckdb.execute(f"COPY ({TOTAL}) TO '{sys.argv[1]}'")
((seen, kind),) = duckdb.sql(f"SELECT total, typeof(total) FROM '{sys.argv[1]}'").fetchall()
print(f"DuckDB {version('duckdb')}")
print(f"  expected: {expected}")
print(f"  seen:     {seen:.0f}, a {kind}")
if (expected, seen, kind) != (9007199254740993, 9007199254740992.0, "DOUBLE"):
    print("  that has changed")
    sys.exit(1)
END
