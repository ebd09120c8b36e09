#!/usr/bin/env bash
# adbc-driver-postgresql 1.13.0: infinity of a date or a timestamp is read as the far past.
#
# Expected: the greatest value that Arrow has, NULL or an error.
# Seen: a value before all others: the count of days or microseconds is moved from 2000 to
#   1970 and wraps round. `valid_to > today` is false for each row that is still valid.
# Who meets it: whoever reads a table of versions whose current rows have 'infinity' as their
#   end, into Polars, DuckDB or pandas: the current rows are those that are missing. What
#   helps is NULLIF(valid_to, 'infinity') in the query.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet adbc-driver-postgresql==1.13.0 \
    adbc-driver-manager==1.13.0 pyarrow==26.0.1
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import datetime
import sys
from importlib.metadata import version

import pyarrow.compute as pc
from adbc_driver_postgresql import dbapi

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
QUERY = "SELECT 'infinity'::date AS day, 'infinity'::timestamptz AS time"
uri = f"postgresql:///postgres?host={sys.argv[1]}&user=postgres"
with dbapi.connect(uri) as connection, connection.cursor() as cursor:
    cursor.execute(QUERY)
    read = cursor.fetch_arrow_table()
seen = {
    name: pc.greater(read[name], now)[0].as_py()
    for name, now in {"day": NOW.date(), "time": NOW}.items()
}
print(f"adbc-driver-postgresql {version('adbc-driver-postgresql')}, infinity after 2026")
print("  expected: {'day': True, 'time': True}, or None")
print(f"  seen:     {seen}")
if seen != {"day": False, "time": False}:
    print("  that has changed")
    sys.exit(1)
END
