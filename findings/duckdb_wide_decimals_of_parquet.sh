#!/usr/bin/env bash
# DuckDB 2.0.1: a decimal of more than 38 digits is read from Parquet as DOUBLE.
#
# Expected: an error, or a text: DECIMAL has 38 digits at most, and the file says what it has.
# Seen: DOUBLE, silently, whatever the values are: 123456789012345678.01 of a DECIMAL(40, 2)
#   becomes 123456789012345680, and is equal to its neighbours.
# Who meets it: numeric columns without a precision that an exporter gave all room to, as
#   pyarrow's decimal256. What helps is decimal128(38, ...), or text.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet duckdb==2.0.1 pyarrow==26.0.1

"$python" - "$work/amounts.parquet" <<'END'
import sys
from decimal import Decimal
from importlib.metadata import version

import duckdb
import pyarrow
import pyarrow.parquet

AMOUNT = Decimal("123456789012345678.01")
CENT = Decimal("0.01")
column = pyarrow.array([AMOUNT - CENT, AMOUNT, AMOUNT + CENT], pyarrow.decimal256(40, 2))
pyarrow.parquet.write_table(pyarrow.table({"amount": column}), sys.argv[1])
file = f"'{sys.argv[1]}'"
seen = duckdb.sql(f"SELECT typeof(amount), count(DISTINCT amount) FROM {file} GROUP BY 1")
rows = seen.fetchall()
print(f"DuckDB {version('duckdb')}, three amounts that differ by a cent")
print("  expected: an error, or 3 amounts")
print(f"  seen:     {rows}")
if rows != [("DOUBLE", 1)]:
    print("  that has changed")
    sys.exit(1)
END
