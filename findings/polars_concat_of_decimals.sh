#!/usr/bin/env bash
# Polars 2.1.0: concat() of decimals of different scales rounds them.
#
# Expected: pl.concat([a, b]) refuses columns of other types, as it does an integer beside a
#   float, or takes the greater scale, as how="vertical_relaxed" does.
# Seen: what follows takes the scale of the first: 1.25 behind 1.1 is 1.2, and 0.99 is 1.0,
#   without an error.
# Who meets it: whoever reads amounts in pages or files: Polars gives a column the scale of
#   its longest value, so the first page may well have fewer digits than the next, and the
#   sum is wrong. What helps is vertical_relaxed, or a schema with the scale.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet polars==2.1.0

"$python" - <<'END'
import sys
from decimal import Decimal

import polars

PAGES = [[Decimal("1.1"), Decimal("2")], [Decimal("1.25"), Decimal("0.99")]]
pages = [polars.DataFrame({"price": page}) for page in PAGES]
expected = [price for page in PAGES for price in page]
seen = polars.concat(pages)["price"].to_list()
relaxed = polars.concat(pages, how="vertical_relaxed")["price"].to_list()
try:
    others = [polars.DataFrame({"price": [1]}), polars.DataFrame({"price": [1.5]})]
    refused = polars.concat(others)["price"].to_list()
except polars.exceptions.SchemaError as error:
    refused = type(error).__name__
print(f"Polars {polars.__version__}, two pages of prices; an integer and a float: {refused}")
print(f"  expected: {', '.join(map(str, expected))}, sum {sum(expected)}, or an error")
print(f"  seen:     {', '.join(map(str, seen))}, sum {sum(seen)}")
print(f"  relaxed:  {', '.join(map(str, relaxed))}, sum {sum(relaxed)}")
if list(map(str, seen)) != ["1.1", "2.0", "1.2", "1.0"] or relaxed != expected:
    print("  that has changed")
    sys.exit(1)
END
