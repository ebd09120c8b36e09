#!/usr/bin/env bash
# deltalake 1.6.6: UPDATE stores another number than it was given.
#
# Expected: update(updates={"amount": "12345678901234567.01"}) stores that number in a column of
#   decimal(20, 2), or is an error. updates are SQL expressions, and SQL has decimals.
# Seen: 12345678901234567.68 is stored: the number was a floating-point number, and its rest
#   was carried into the cents. The sum "amount + 1.00" is made so too, and a DELETE by the number
#   deletes nothing. Between quotes, the number is right.
# Who meets it: whoever corrects amounts of more than 15 digits. What helps is a text of the
#   number, as in CAST('12345678901234567.01' AS DECIMAL(20, 2)).
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
from deltalake import DeltaTable, write_deltalake

AMOUNT = Decimal("12345678901234567.01")
UPDATES = {
    f"'{AMOUNT}'": AMOUNT,
    f"{AMOUNT}": AMOUNT,
    "amount + 1.00": AMOUNT + 1,
}
seen = []
print(f"deltalake {version('deltalake')}")
for number, (update, expected) in enumerate(UPDATES.items()):
    path = f"{sys.argv[1]}/table_{number}"
    column = pyarrow.array([AMOUNT], pyarrow.decimal128(20, 2))
    write_deltalake(path, pyarrow.table({"amount": column}))
    DeltaTable(path).update(updates={"amount": update})
    seen += DeltaTable(path).to_pyarrow_table()["amount"].to_pylist()
    print(f"  {update}: expected {expected}, seen {seen[-1]}")
if list(map(str, seen)) != [str(AMOUNT), "12345678901234567.68", "12345678901234567.68"]:
    print("  that has changed")
    sys.exit(1)
END
