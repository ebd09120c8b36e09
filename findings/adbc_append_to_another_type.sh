#!/usr/bin/env bash
# adbc-driver-postgresql 1.13.0: appending to a column of another type stores its bits.
#
# Expected: adbc_ingest(mode="append") of integers into a column of double precision converts
#   them, as INSERT does, or is an error, as it is for int32 into bigint.
# Seen: whatever has as many bytes is taken as it is. The integer 1 is stored as 5e-324, the
#   float 1.0 in a bigint column as 4607182418800017408, and an integer in a timestamp
#   column is a time of the year 2000.
# Who meets it: whoever loads frames into a table that was made by a migration: one column
#   of whole numbers, which the reader made int64, is enough. What helps is to cast the
#   Arrow table to the types that `SELECT ... LIMIT 0` has.
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

import pyarrow
from adbc_driver_postgresql import dbapi

GIVEN = {"price": [1], "amount": [1.0], "at": [1]}
uri = f"postgresql:///postgres?host={sys.argv[1]}&user=postgres"
with dbapi.connect(uri) as connection, connection.cursor() as cursor:
    cursor.execute('CREATE TABLE loaded (price float8, amount bigint, "at" timestamp)')
    cursor.adbc_ingest("loaded", pyarrow.table(GIVEN), mode="append")
    cursor.execute('SELECT price::text, amount::text, "at"::text FROM loaded')
    seen = cursor.fetchone()
print(f"adbc-driver-postgresql {version('adbc-driver-postgresql')}")
print("  expected: ('1', '1', an error), or errors alone")
print(f"  seen:     {seen}")
if seen != ("5e-324", "4607182418800017408", "2000-01-01 00:00:00.000001"):
    print("  that has changed")
    sys.exit(1)
END
