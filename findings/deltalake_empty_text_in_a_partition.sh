#!/usr/bin/env bash
# deltalake 1.6.6: in a column that a table is partitioned by, an empty text is read as NULL, and
# bytes as another value.
#
# Expected: what was written, or an error on writing.
# Seen: "" is None, as the format has no other way to write it, and b"\x00\xff" is the twelve
#   bytes of \u0000\u00FF, both silently.
# Who meets it: a table partitioned by a tenant, a country or a short digest, with an empty one
#   among them: it is found as IS NULL, and not as ''. What helps is to write another value.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet deltalake==1.6.6 pyarrow==26.0.1

"$python" - "$work" <<'END'
import sys
from importlib.metadata import version

import pyarrow
from deltalake import DeltaTable, write_deltalake

GIVEN = ("a/b c", "", b"\x00\xff")
seen = []
print(f"deltalake {version('deltalake')}")
for number, value in enumerate(GIVEN):
    path = f"{sys.argv[1]}/table_{number}"
    write_deltalake(path, pyarrow.table({"key": [value], "id": [1]}), partition_by=["key"])
    seen += DeltaTable(path).to_pyarrow_table()["key"].to_pylist()
    print(f"  expected {value!r}, seen {seen[-1]!r}")
if seen != ["a/b c", None, rb"\u0000\u00FF"]:
    print("  that has changed")
    sys.exit(1)
END
