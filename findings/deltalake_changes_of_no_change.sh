#!/usr/bin/env bash
# deltalake 1.6.6: an UPDATE that changes no value is a deletion of all rows in its feed.
#
# Expected: the change data feed has nothing for an UPDATE to the values that are there, or
#   the row that it matched, before and after.
# Seen: each row of the file is told as deleted and as inserted, also those that the
#   predicate did not match.
# Who meets it: whoever has the feed written on as an audit trail or to another store: a job
#   that runs twice tells that the whole table went and came again. What helps is a
#   predicate that leaves out rows that have the value, such as `state IS DISTINCT FROM ...`.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet deltalake==1.6.6 pyarrow==26.0.1

"$python" - "$work/orders" <<'END'
import sys
from importlib.metadata import version

import pyarrow
from deltalake import DeltaTable, write_deltalake

ROWS = pyarrow.table({"id": [1, 2, 3], "state": ["new", "new", "new"]})
write_deltalake(sys.argv[1], ROWS, configuration={"delta.enableChangeDataFeed": "true"})


def changes_of_update():
    table = DeltaTable(sys.argv[1])
    table.update(predicate="id = 1", updates={"state": "'paid'"})
    number = table.version()
    feed = table.load_cdf(starting_version=number, ending_version=number)
    rows = pyarrow.table(feed).to_pylist()
    return sorted((row["_change_type"], row["id"]) for row in rows)


first, again = changes_of_update(), changes_of_update()
print(f"deltalake {version('deltalake')}, an UPDATE of row 1 of 3, and once more")
print("  expected: update_preimage and update_postimage of 1; then the same, or nothing")
print(f"  seen:     {first}")
print(f"            {again}")
if (first, again) != (
    [("update_postimage", 1), ("update_preimage", 1)],
    [(kind, id) for kind in ("delete", "insert") for id in (1, 2, 3)],
):
    print("  that has changed")
    sys.exit(1)
END
