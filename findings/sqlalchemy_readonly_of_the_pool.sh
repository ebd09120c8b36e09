#!/usr/bin/env bash
# SQLAlchemy 2.0.58 and 2.1.9, with psycopg 3.3.9: a connection that was used with
# `postgresql_readonly=True` writes for whoever has it next from the pool, where the role
# may only read by default.
#
# Expected: what an option has set is reset when the connection goes back to the pool, to
#   what it was; the role has `default_transaction_read_only`, so whoever has it next may
#   only read, as before.
#   https://docs.sqlalchemy.org/en/20/dialects/postgresql.html#setting-read-only-deferrable
# Seen: it is reset to False and not to the driver's None. psycopg begins the next
#   transactions with READ WRITE, whatever the default of the role is, and an INSERT that
#   was refused before is stored. That PostgreSQL lets a session do so is documented; the
#   default is no guard against who wants to write, but against who does so by mistake.
# Who meets it: reports and readers of history with an engine for reading alone. What helps
#   is `SET TRANSACTION READ ONLY`, or a role without the right to write.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"
. "$(dirname "$0")/_postgres.sh"

for version in 2.0.58 2.1.9; do
    "$python" -m pip install --quiet "SQLAlchemy==$version" "psycopg[binary]==3.3.9"

    "$python" - "$work/data" <<'END'
import sys

import sqlalchemy as sa

url = f"postgresql+psycopg://{{}}@/postgres?host={sys.argv[1]}"
owner = sa.create_engine(url.format("postgres"))
with owner.begin() as connection:
    for statement in (
        "DROP TABLE IF EXISTS note",
        "DROP ROLE IF EXISTS reader",
        "CREATE TABLE note (text text)",
        "CREATE ROLE reader LOGIN",
        "GRANT SELECT, INSERT ON note TO reader",
        "ALTER ROLE reader SET default_transaction_read_only = on",
    ):
        connection.exec_driver_sql(statement)
reader = sa.create_engine(url.format("reader"), pool_size=1, max_overflow=0)


def insert() -> str:
    try:
        with reader.begin() as connection:
            connection.exec_driver_sql("INSERT INTO note VALUES ('by mistake')")
    except sa.exc.DBAPIError as error:
        return type(error.orig).__name__
    return "stored"


before = insert()
with reader.connect() as connection:
    connection = connection.execution_options(postgresql_readonly=True)
    connection.exec_driver_sql("SELECT FROM note")
after = insert()
owner.dispose()
reader.dispose()
print(f"SQLAlchemy {sa.__version__}")
print("  expected: ReadOnlySqlTransaction, before and after")
print(f"  seen:     {before} before, and {after} after")
if (before, after) != ("ReadOnlySqlTransaction", "stored"):
    print("  that has changed")
    sys.exit(1)
END
done
