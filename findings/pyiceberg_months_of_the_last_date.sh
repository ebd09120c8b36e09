#!/usr/bin/env bash
# PyIceberg 0.12.0: where a table is partitioned by months or years, a filter up to 9999-12-31 is
# an error.
#
# Expected: valid_from <= '9999-12-31' finds all rows, as where the table is not partitioned, or
#   partitioned by days: the partition of a date is found by an integer.
# Seen: OverflowError: date value out of range. The filter is made one of "less than the next
#   day", which Python does not have. The same for >= '0001-01-01'.
# Who meets it: tables of versions with 9999-12-31 as the end of what is still valid, and
#   reports over all times. What helps is to leave that condition out.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet "pyiceberg[sql-sqlite,pyiceberg-core]==0.12.0" pyarrow==26.0.1

"$python" - "$work" <<'END'
import sys
from datetime import date
from importlib.metadata import version

import pyarrow
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.transforms import DayTransform, IdentityTransform, MonthTransform, YearTransform

catalog = SqlCatalog(
    "catalog", uri=f"sqlite:///{sys.argv[1]}/catalog.db", warehouse=f"file://{sys.argv[1]}"
)
catalog.create_namespace("shop")
rows = pyarrow.table({"valid_from": [date(2024, 7, 1), date(9999, 12, 31)]})
seen = {}
for transform in (IdentityTransform(), DayTransform(), MonthTransform(), YearTransform()):
    name = f"shop.by_{transform}"
    table = catalog.create_table(name, schema=rows.schema)
    with table.update_spec() as update:
        update.add_field("valid_from", transform, "part")
    table = catalog.load_table(name)
    table.append(rows)
    try:
        scan = table.scan(row_filter="valid_from <= '9999-12-31'")
        seen[str(transform)] = scan.to_arrow().num_rows
    except OverflowError as error:
        seen[str(transform)] = str(error)
print(f"PyIceberg {version('pyiceberg')}, rows up to 9999-12-31")
print(f"  expected: {dict.fromkeys(seen, 2)}")
print(f"  seen:     {seen}")
if seen != {
    "identity": 2,
    "day": 2,
    "month": "date value out of range",
    "year": "date value out of range",
}:
    print("  that has changed")
    sys.exit(1)
END
