#!/usr/bin/env bash
# PostgreSQL 18.6: pg_restore --disable-triggers needs the partitions of the dumped database.
#
# Expected: a dump that was made with --load-via-partition-root is loaded through the
#   partitioned table, so that it can be restored where the partitions are others, as the
#   documentation of the option says.
# Seen: with --data-only --disable-triggers it alters the partitions of the dumped database
#   by their names, and fails where these do not exist.
# Who meets it: whoever moves the rows of a table to a database that is partitioned by
#   another period. What helps is session_replication_role = replica in PGOPTIONS, in place
#   of --disable-triggers.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

source "$(dirname "$0")/_postgres.sh"

export PGHOST="$work/data" PGUSER=postgres
if [ ! -x "$bin/psql" ] || [ ! -x "$bin/pg_restore" ]; then
    echo "the wheel has no psql or pg_restore" >&2
    exit 1
fi
psql() { "$bin/psql" --quiet --no-psqlrc --tuples-only --no-align "$@"; }

for name in old new; do
    psql -d postgres -c "CREATE DATABASE $name"
    psql -d $name -c "CREATE TABLE reading (day int) PARTITION BY RANGE (day)"
done
psql -d old -c "CREATE TABLE reading_1 PARTITION OF reading FOR VALUES FROM (1) TO (5)"
psql -d old -c "CREATE TABLE reading_5 PARTITION OF reading FOR VALUES FROM (5) TO (9)"
psql -d new -c "CREATE TABLE reading_all PARTITION OF reading FOR VALUES FROM (1) TO (9)"
psql -d old -c "INSERT INTO reading VALUES (2), (7)"
"$bin/pg_dump" -Fc --data-only --load-via-partition-root -f "$work/dump" old

disabled=restored
"$bin/pg_restore" --data-only --disable-triggers -d new "$work/dump" \
    2>"$work/error" || disabled=fails
says=$(grep -o 'relation "[^"]*" does not exist' "$work/error" | head -n 1 || true)
psql -d new -c "TRUNCATE reading"
replica=restored
PGOPTIONS="-c session_replication_role=replica" \
    "$bin/pg_restore" --data-only -d new "$work/dump" || replica=fails
rows=$(psql -d new -c "SELECT count(*) FROM reading")

echo "PostgreSQL $(psql -d new -c 'SHOW server_version')"
echo "  expected: 2 rows are restored, with --disable-triggers as well"
echo "  seen:     $disabled, $says; as replica $replica, $rows rows"
if [ "$disabled $replica $rows" != "fails restored 2" ]; then
    echo "  that has changed"
    exit 1
fi
