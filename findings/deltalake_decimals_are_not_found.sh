#!/usr/bin/env bash
# deltalake 1.6.6: a row is not found by a decimal that it has.
#
# Expected: to_pyarrow_table(filters=[("amount", "=", value)]) gives the rows that are left if
#   the whole table is read and filtered.
# Seen: no row for 99999999999999.99, and none for 0.1 of a decimal(30, 24). The least and the
#   greatest value of a file are kept as floating-point numbers, and files are passed over by
#   these. Whether it happens depends on the digits: 1234567890123.45 is found.
# Who meets it: whoever looks for amounts, shares or rates in a table that was written by this
#   package; a reader of another make has the same numbers. What helps is to filter what was
#   read, at the cost of reading all.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet deltalake==1.6.6 pyarrow==26.0.1

"$python" - "$work" <<'END'
import sys
from decimal import Decimal
from importlib.metadata import version

import pyarrow
import pyarrow.compute
from deltalake import DeltaTable, write_deltalake

GIVEN = (
    (Decimal("1234567890123.45"), pyarrow.decimal128(20, 2)),
    (Decimal("99999999999999.99"), pyarrow.decimal128(20, 2)),
    (Decimal("0.1"), pyarrow.decimal128(30, 24)),
)
seen = []
print(f"deltalake {version('deltalake')}, rows")
for number, (value, kind) in enumerate(GIVEN):
    path = f"{sys.argv[1]}/table_{number}"
    write_deltalake(path, pyarrow.table({"amount": pyarrow.array([value], kind)}))
    table = DeltaTable(path)
    read = table.to_pyarrow_table().filter(pyarrow.compute.field("amount") == value)
    found = table.to_pyarrow_table(filters=[("amount", "=", value)])
    seen.append((read.num_rows, found.num_rows))
    print(f"  {value}: expected {read.num_rows}, seen {found.num_rows}")
if seen != [(1, 1), (1, 0), (1, 0)]:
    print("  that has changed")
    sys.exit(1)
END
