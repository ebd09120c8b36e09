#!/usr/bin/env bash
# deltalake 1.6.6: 1.7 that is appended to a column of integers is stored as 1.
#
# Expected: write_deltalake(mode="append") and merge() of float64 for an int64 column are errors
#   where the value does not fit, as an append of decimals with a longer scale is.
# Seen: 1 and 2 are stored for 1.7 and 2.7, and a merge rounds 1.005 to the scale of its column,
#   all silently.
# Who meets it: frames in which one NULL made floats of a column of integers are fine; those in
#   which the numbers have a fraction now lose it. What helps is to compare the schemas before.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet deltalake==1.6.6 pyarrow==26.0.1

"$python" - "$work/table" <<'END'
import sys
from decimal import Decimal
from importlib.metadata import version

import pyarrow
from deltalake import DeltaTable, write_deltalake

PRICE = pyarrow.decimal128(10, 2)
stored = pyarrow.table(
    {"id": [1], "amount": [1], "price": pyarrow.array([Decimal("1.00")], PRICE)}
)
write_deltalake(sys.argv[1], stored)
appended = pyarrow.table(
    {"id": [2], "amount": [1.7], "price": pyarrow.array([Decimal("1.00")], PRICE)}
)
write_deltalake(sys.argv[1], appended, mode="append")
merged = pyarrow.table({"id": [1], "amount": [2.7], "price": [Decimal("1.005")]})
merger = DeltaTable(sys.argv[1]).merge(
    merged, predicate="target.id = source.id", source_alias="source", target_alias="target"
)
merger.when_matched_update_all().execute()
rows = sorted(DeltaTable(sys.argv[1]).to_pyarrow_table().to_pylist(), key=lambda row: row["id"])
seen = [(row["amount"], str(row["price"])) for row in rows]
print(f"deltalake {version('deltalake')}, what was merged and what was appended")
print("  expected: errors")
print(f"  seen:     {seen}")
if seen != [(2, "1.01"), (1, "1.00")]:
    print("  that has changed")
    sys.exit(1)
END
