#!/usr/bin/env bash
# DuckDB 2.0.1: text that is compared with an integer is rounded to one.
#
# Expected: a column of text compared with an integer is an error, as in PostgreSQL, or is
#   compared as numbers are.
# Seen: the text is cast to the type of the integer, which rounds: '1.5' = 2 is true, and
#   '2.4' is among the rows that are equal to 2. As DECIMAL literals they are not.
# Who meets it: whoever has exact numerics as text in Parquet, since no decimal type there
#   holds all that PostgreSQL's does, and filters by a whole number.
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

query = "SELECT x FROM (VALUES ('1.5'), ('2'), ('2.4')) AS t (x) WHERE x = {}"
seen = {
    number: [x for (x,) in duckdb.execute(query.format(number)).fetchall()]
    for number in ("2", "2.0")
}
print(f"DuckDB {version('duckdb')}")
print("  expected: an error, or '2' alone for both")
print(f"  seen:     {seen}")
if seen != {"2": ["1.5", "2", "2.4"], "2.0": ["2"]}:
    print("  that has changed")
    sys.exit(1)
END
