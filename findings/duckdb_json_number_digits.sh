#!/usr/bin/env bash
# DuckDB 2.0.1: a number taken out of JSON as text has other digits than the JSON has.
#
# Expected: `->>` gives the text of the number as it stands in the JSON, as PostgreSQL's
#   operator of that name does with json, and with jsonb but for the notation.
# Seen: the number goes through a double first: 12345678901234567890.125 comes back as
#   12345678901234567000.0, and 1.50 as 1.5. What is within quotation marks stays.
# Who meets it: whoever asks exported audit data, or logs with money and long numbers in
#   JSON. What helps is to write such numbers as strings.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet duckdb==2.0.1

"$python" - <<'END'
import sys
from importlib.metadata import version

import duckdb

given = ["12345678901234567890.125", "1.50", '"1.50"']
seen = [
    duckdb.execute("SELECT CAST(? AS JSON) ->> 0", [f"[{number}]"]).fetchone()[0]
    for number in given
]
print(f"DuckDB {version('duckdb')}")
print(f"  expected: {[number.strip(chr(34)) for number in given]}")
print(f"  seen:     {seen}")
if seen != ["12345678901234567000.0", "1.5", "1.50"]:
    print("  that has changed")
    sys.exit(1)
END
