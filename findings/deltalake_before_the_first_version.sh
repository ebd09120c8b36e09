#!/usr/bin/env bash
# deltalake 1.6.6: as of a time before the table existed it has its first rows.
#
# Expected: an error, as Spark raises for a timestamp before the first version, or no rows.
# Seen: load_as_version() with such a time loads version 0, silently.
# Who meets it: whoever asks what was known at a time: rows that were loaded years later are
#   the answer. What helps is to compare with the first timestamp of history().
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet deltalake==1.6.6 pyarrow==26.0.1

"$python" - "$work/orders" <<'END'
import datetime
import sys
from importlib.metadata import version

import pyarrow
from deltalake import DeltaTable, write_deltalake

write_deltalake(sys.argv[1], pyarrow.table({"id": [1, 2, 3]}))
table = DeltaTable(sys.argv[1])
try:
    table.load_as_version(datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc))
    seen = table.to_pyarrow_table().num_rows
except Exception as error:
    seen = f"{type(error).__name__}: {error}"
print(f"deltalake {version('deltalake')}, rows as of 2000 of a table that was made now")
print("  expected: an error, or 0")
print(f"  seen:     {seen}")
if seen != 3:
    print("  that has changed")
    sys.exit(1)
END
