#!/usr/bin/env bash
# sqlglot 30.30.0: a numeric of PostgreSQL becomes a DECIMAL of three digits in DuckDB.
#
# Expected: `CAST(x AS numeric)` keeps all digits, as in PostgreSQL, or is refused or warned
#   of, as there is no such type in DuckDB.
# Seen: CAST(x AS DECIMAL), which is DECIMAL(18, 3) there and DECIMAL(10, 0) in Spark. DuckDB
#   gives 1.123 for 1.123456789.
# Who meets it: whoever asks exported rows by the statements that the database was asked by:
#   rates and prices are rounded before they are summed. What helps is numeric(38, 9).
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet sqlglot==30.30.0 duckdb==2.0.1

"$python" - <<'END'
import sys
from importlib.metadata import version

import duckdb
import sqlglot

GIVEN = "SELECT CAST('1.123456789' AS numeric)"
(written,) = sqlglot.transpile(GIVEN, read="postgres", write="duckdb")
((seen,),) = duckdb.sql(written).fetchall()
print(f"sqlglot {version('sqlglot')}, DuckDB {version('duckdb')}: {written}")
print("  expected: 1.123456789")
print(f"  seen:     {seen}")
if str(seen) != "1.123":
    print("  that has changed")
    sys.exit(1)
END
