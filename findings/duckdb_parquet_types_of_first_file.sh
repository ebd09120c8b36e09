#!/usr/bin/env bash
# DuckDB 2.0.1: values of several Parquet files are rounded to the types of the first one.
#
# Expected: a type that holds the values of all files, or an error where a value does not
#   fit, as pyarrow and Polars raise for the same files.
# Seen: the types of the first file, silently: 1.2345 of a later one is read as 1.23, and
#   1.7 as 2 where the first file has integers. With union_by_name=true the type holds all.
# Who meets it: whoever has a file for each month of a table, of which a column was once made
#   numeric(10, 4) or double precision: sums over all files have the old digits.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet duckdb==2.0.1

cd "$work"
"$python" - <<'END'
import sys
from importlib.metadata import version

import duckdb

MONTHS = {
    "2026-01": "1.23::DECIMAL(10, 2) AS price, 1::INTEGER AS weight",
    "2026-02": "1.2345::DECIMAL(10, 4) AS price, 1.7::DOUBLE AS weight",
}
for month, columns in MONTHS.items():
    duckdb.execute(f"COPY (SELECT {columns}) TO '{month}.parquet'")


def read(options=""):
    query = f"SELECT price, weight FROM read_parquet('*.parquet'{options}) ORDER BY ALL"
    return [(str(price), str(weight)) for price, weight in duckdb.sql(query).fetchall()]


expected, seen = read(", union_by_name = true"), read()
print(f"DuckDB {version('duckdb')}, rows of two files")
print(f"  expected: {expected}")
print(f"  seen:     {seen}")
if (expected, seen) != (
    [("1.2300", "1.0"), ("1.2345", "1.7")],
    [("1.23", "1"), ("1.23", "2")],
):
    print("  that has changed")
    sys.exit(1)
END
