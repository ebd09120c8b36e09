#!/usr/bin/env bash
# Polars 2.1.0: of a list of dictionaries, what the first hundred rows do not have is lost.
#
# Expected: DataFrame(rows) and from_dicts(rows) are strict by default: "any data value [that]
#   does not exactly match the given or inferred data type" is an error. A row with 1.5 in a
#   column of integers is one, and so is a row with a key of its own.
# Seen: after a hundred rows of integers 1.5 becomes 1, and a key that comes later is left
#   out, both silently. A text among integers is an error.
# Who meets it: events of a feed as dictionaries, of which one kind has a field of its own, or
#   a price that was a whole number so far. What helps is infer_schema_length=None, or a
#   schema.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet polars==2.1.0

"$python" - <<'END'
import sys

import polars

rows = [{"price": 1} for _ in range(100)] + [{"price": 1.5, "reason": "a discount"}]
seen = {}
for name, frame in {
    "DataFrame": polars.DataFrame(rows),
    "from_dicts": polars.from_dicts(rows),
    "of all rows": polars.from_dicts(rows, infer_schema_length=None),
}.items():
    seen[name] = frame.row(-1, named=True)
print(f"Polars {polars.__version__}, the last row")
print(f"  expected: {rows[-1]}, or an error")
for name, row in seen.items():
    print(f"  seen, {name + ':':12} {row}")
if seen != {
    "DataFrame": {"price": 1},
    "from_dicts": {"price": 1},
    "of all rows": rows[-1],
}:
    print("  that has changed")
    sys.exit(1)
END
