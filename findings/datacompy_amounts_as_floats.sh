#!/usr/bin/env bash
# datacompy 1.1.0: large amounts and keys that differ are told as equal.
#
# Expected: with tolerances of 0, which is the default, two Decimals or integers are equal if they are.
# Seen: they are compared as floats, of sixteen digits: 12345678901234567.88 and .89 match,
#   and 2**60 and 2**60 + 1, with pandas and with Polars, in the report as well.
# Who meets it: the check after a migration, a load or a restore, of amounts in the smallest unit
#   of a currency and of ids of 64 bits: it says that all is well. What helps is to compare text.
#   (The docstring of columns_equal() says that decimals are converted to floats; of integers
#   it says nothing.)
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet "datacompy==1.1.0" pandas==3.0.6 polars==1.33.1

"$python" - <<'END'
import sys
from decimal import Decimal
from importlib.metadata import version

import datacompy
import pandas
import polars

PAIRS = (
    (Decimal("12345678901234567.88"), Decimal("12345678901234567.89")),
    (2**60, 2**60 + 1),
    (Decimal("1.88"), Decimal("1.89")),
)
seen = {}
print(f"datacompy {version('datacompy')}")
for left, right in PAIRS:
    rows = [{"id": [1], "value": [value]} for value in (left, right)]
    by_pandas = datacompy.PandasCompare(*map(pandas.DataFrame, rows), join_columns="id")
    by_polars = datacompy.PolarsCompare(*map(polars.DataFrame, rows), join_columns="id")
    seen[left] = (bool(by_pandas.matches()), bool(by_polars.matches()))
    print(f"  {left} and {right} match: expected (False, False), seen {seen[left]}")
if list(seen.values()) != [(True, True), (True, True), (False, False)]:
    print("  that has changed")
    sys.exit(1)
END
