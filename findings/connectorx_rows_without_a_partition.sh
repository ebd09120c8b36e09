#!/usr/bin/env bash
# connectorx 0.4.6: with partition_on, rows with NULL in that column are not read.
#
# Expected: partition_on says how the work is divided, as "the column to partition the result":
#   all rows of the query are read, as without it, or a NULL is an error.
# Seen: each partition asks for a range of the column, and no range has NULL in it. With
#   partition_num=1 these rows are missing as well. polars.read_database_uri() passes it on.
# Who meets it: whoever copies a large table by a column that may be NULL, such as who did
#   something. What helps is a column of the primary key.
#
# SQLite is the database here; it is the same for PostgreSQL.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet connectorx==0.4.6 polars==2.1.0 pyarrow==26.0.1

"$python" - "$work/events.db" <<'END'
import sqlite3
import sys
from importlib.metadata import version

import polars

with sqlite3.connect(sys.argv[1]) as connection:
    connection.execute("CREATE TABLE event (id integer PRIMARY KEY, actor integer)")
    rows = [(1, 1), (2, None), (3, 7), (4, None)]
    connection.executemany("INSERT INTO event VALUES (?, ?)", rows)


def rows_read(**options):
    query, uri = "SELECT id, actor FROM event", f"sqlite://{sys.argv[1]}"
    return polars.read_database_uri(query, uri, engine="connectorx", **options).height


seen = [rows_read()] + [
    rows_read(partition_on="actor", partition_num=number) for number in (1, 2, 3)
]
print(f"connectorx {version('connectorx')}, rows by none, one, two and three partitions")
print("  expected: [4, 4, 4, 4]")
print(f"  seen:     {seen}")
if seen != [4, 2, 2, 2]:
    print("  that has changed")
    sys.exit(1)
END
