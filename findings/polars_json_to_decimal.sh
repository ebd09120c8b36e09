#!/usr/bin/env bash
# Polars 2.1.0: a Decimal that is read from JSON is another number.
#
# Expected: str.json_decode() with a schema that has Decimal(30, 2) gives the number that
#   stands in the text, as read_csv() does with such a schema.
# Seen: it goes through a float: 12345678901234567.89 is 12345678901234567.68. The text that
#   str.json_path_match() returns for a number is no longer the one in the document: 1.1 for
#   1.10, and 1.2345678901234568e+16.
# Who meets it: whoever reads rows that PostgreSQL wrote as JSON, of to_jsonb() or of a log
#   of changes, into data frames. What helps is to write numbers as text.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet polars==2.1.0

"$python" - <<'END'
import io
import sys
from decimal import Decimal

import polars

NUMBERS = ["1.10", "12345678901234567.89"]
amount = polars.Decimal(30, 2)
documents = polars.Series([f'{{"amount": {number}}}' for number in NUMBERS])
decoded = documents.str.json_decode(polars.Struct({"amount": amount})).struct.field("amount")
csv = io.StringIO("\n".join(["amount", *NUMBERS]))
read = polars.read_csv(csv, schema={"amount": amount})["amount"].to_list()
seen = {
    "json_decode": list(map(str, decoded.to_list())),
    "json_path_match": documents.str.json_path_match("$.amount").to_list(),
}
print(f"Polars {polars.__version__}, numbers in JSON")
print(f"  expected:        {', '.join(NUMBERS)}, as by read_csv: {', '.join(map(str, read))}")
for name, numbers in seen.items():
    print(f"  {name + ':':16} {', '.join(numbers)}")
if read != list(map(Decimal, NUMBERS)) or seen != {
    "json_decode": ["1.10", "12345678901234567.68"],
    "json_path_match": ["1.1", "1.2345678901234568e+16"],
}:
    print("  that has changed")
    sys.exit(1)
END
