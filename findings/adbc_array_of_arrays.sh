#!/usr/bin/env bash
# adbc-driver-postgresql 1.13.0: an array of several dimensions is read as a flat one, and a
# large oid is negative.
#
# Expected: {{1,2},{3,4}} is read as [[1, 2], [3, 4]], or is an error, as an Arrow column has one
#   type for all rows. An oid is a number without a sign.
# Seen: [1, 2, 3, 4], silently, as for {1,2,3,4}. The oid 4294967295 is -1.
# Who meets it: whoever exports tables with matrices, or with pairs of old and new values, into
#   Polars, DuckDB or pandas, and cannot tell what belonged together. What helps is to_json()
#   in the query, and a cast to bigint.
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
import sys
from importlib.metadata import version

from adbc_driver_postgresql import dbapi

QUERY = "SELECT '{{1,2},{3,4}}'::int[], '{1,2,3,4}'::int[], 4294967295::oid"
uri = f"postgresql:///postgres?host={sys.argv[1]}&user=postgres"
with dbapi.connect(uri) as connection, connection.cursor() as cursor:
    cursor.execute(QUERY)
    seen = cursor.fetchone()
print(f"adbc-driver-postgresql {version('adbc-driver-postgresql')}")
print("  expected: ([[1, 2], [3, 4]], [1, 2, 3, 4], 4294967295), or errors")
print(f"  seen:     {seen}")
if seen != ([1, 2, 3, 4], [1, 2, 3, 4], -1):
    print("  that has changed")
    sys.exit(1)
END
