#!/usr/bin/env bash
# DataFusion 55.0.0: a row is not found by the number that it has.
#
# Expected: WHERE amount = 12345678901234567.01 finds that row of a DECIMAL(20, 2), as in
#   PostgreSQL and DuckDB, and a column of integers equals 9007199254740993.0 in one row.
# Seen: a number with a point is a Float64, and what is compared with it becomes one too:
#   no row in the first case, two in the second. amount + 0.01 has lost the cents.
# Who meets it: whoever asks exported amounts by the statements that the database was asked
#   by. What helps is SET datafusion.sql_parser.parse_float_as_decimal = true.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet datafusion==55.0.0 pyarrow==26.0.1

"$python" - "$work/amounts.parquet" <<'END'
import sys
from decimal import Decimal
from importlib.metadata import version

import pyarrow
import pyarrow.parquet
from datafusion import SessionContext

AMOUNT, BIG = Decimal("12345678901234567.01"), 2**53
STATEMENTS = (
    f"SELECT amount FROM amounts WHERE amount = {AMOUNT}",
    f"SELECT big FROM amounts WHERE big = {BIG + 1}.0",
    "SELECT amount + 0.01 FROM amounts LIMIT 1",
)
table = pyarrow.table(
    {
        "amount": pyarrow.array([AMOUNT, AMOUNT + 1], pyarrow.decimal128(20, 2)),
        "big": pyarrow.array([BIG, BIG + 1], pyarrow.int64()),
    }
)
pyarrow.parquet.write_table(table, sys.argv[1])


def rows(context):
    context.register_parquet("amounts", sys.argv[1])
    return [
        [value for row in context.sql(statement).to_pylist() for value in row.values()]
        for statement in STATEMENTS
    ]


exact = SessionContext()
exact.sql("SET datafusion.sql_parser.parse_float_as_decimal = true").collect()
expected, seen = rows(exact), rows(SessionContext())
print(f"DataFusion {version('datafusion')}")
for statement, right, found in zip(STATEMENTS, expected, seen, strict=True):
    print(f"  {statement}")
    print(f"    expected, as with the setting: {[str(value) for value in right]}")
    print(f"    seen:                          {[str(value) for value in found]}")
if (expected, seen) != (
    [[AMOUNT], [BIG + 1], [AMOUNT + Decimal("0.01")]],
    [[], [BIG, BIG + 1], [1.2345678901234568e16]],
):
    print("  that has changed")
    sys.exit(1)
END
