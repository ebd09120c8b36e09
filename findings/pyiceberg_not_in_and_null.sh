#!/usr/bin/env bash
# PyIceberg 0.12.0: rows with NULL are found by NOT IN, and not deleted by it.
#
# Expected: one filter has one meaning: what a scan returns for it, delete() deletes.
# Seen: `state NOT IN ('new', 'paid')` returns the row whose state is NULL, and delete()
#   leaves it. With one value in the list the scan leaves it, too, as with !=.
# Who meets it: whoever looks at what a filter finds before it deletes, or moves old events
#   to another table by a scan and then a delete: the rows with NULL are in both. What
#   helps is to say `state IS NULL` or `IS NOT NULL` as well.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet "pyiceberg[sql-sqlite]==0.12.0" pyarrow==26.0.1

"$python" - "$work" <<'END'
import sys
from importlib.metadata import version

import pyarrow
from pyiceberg.catalog.sql import SqlCatalog

ROWS = pyarrow.table({"id": [1, 2, 3], "state": ["new", "sent", None]})
catalog = SqlCatalog(
    "c", uri=f"sqlite:///{sys.argv[1]}/catalog.db", warehouse=f"file://{sys.argv[1]}"
)
catalog.create_namespace("shop")
seen = {}
for number, where in enumerate(["state != 'new'", "state NOT IN ('new', 'paid')"]):
    table = catalog.create_table(f"shop.orders_{number}", schema=ROWS.schema)
    table.append(ROWS)
    found = table.scan(row_filter=where).to_arrow()["id"].to_pylist()
    table.delete(where)
    left = table.scan().to_arrow()["id"].to_pylist()
    seen[where] = found, [id for id in (1, 2, 3) if id not in left]
print(f"PyIceberg {version('pyiceberg')}, rows of 1 new, 2 sent, 3 NULL")
print("  expected: what is found is what is deleted")
for where, (found, deleted) in seen.items():
    print(f"  seen:     {where} finds {found}, deletes {deleted}")
if list(seen.values()) != [([2], [2]), ([2, 3], [2])]:
    print("  that has changed")
    sys.exit(1)
END
