#!/usr/bin/env bash
# SQLAlchemy 2.0.58 and 2.1.9: a colon in a reflected default, CHECK, generated column or index
# is taken for a parameter, and a word of it becomes NULL.
#
# Expected: a table that is reflected, dropped and created again has the defaults, conditions
#   and expressions that it had. What stands between quotes is no parameter.
# Seen: ':new' is 'NULL' afterwards, in all of these places, silently. Of '{"a":1}', the
#   default of a column of type json, '{"a"NULL}' is left, and CREATE TABLE fails.
# Who meets it: whoever copies tables by reflection, or goes back by an Alembic revision for a
#   dropped table, which has the same texts in text(): a unique index WHERE kind = ':new' is
#   unique for other rows then. What helps is a backslash before the colon.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"
source "$(dirname "$0")/_postgres.sh"

seen() {
    "$python" -m pip install --quiet "sqlalchemy==$1" "psycopg[binary]==3.3.9"
    "$python" - "$work/data" <<'END'
import sys

import sqlalchemy
from sqlalchemy import MetaData, create_engine

DDL = """
    CREATE TABLE event (
        kind text DEFAULT ':new' CHECK (kind <> ':none'),
        label text GENERATED ALWAYS AS (kind || ':label') STORED
    );
    CREATE UNIQUE INDEX one_new ON event (label) WHERE kind = ':new';
"""
EXPRESSIONS = """
    SELECT
        (SELECT string_agg(pg_get_expr(adbin, adrelid), ', ' ORDER BY adnum)
         FROM pg_attrdef WHERE adrelid = 'event'::regclass),
        (SELECT string_agg(pg_get_expr(conbin, conrelid), ', ' ORDER BY conname)
         FROM pg_constraint WHERE conrelid = 'event'::regclass AND contype = 'c'),
        (SELECT pg_get_expr(indpred, indrelid) FROM pg_index WHERE indrelid = 'event'::regclass)
"""
engine = create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
with engine.begin() as connection:
    connection.exec_driver_sql(DDL)
    expected = tuple(connection.exec_driver_sql(EXPRESSIONS).one())
    reflected = MetaData()
    reflected.reflect(connection)
    reflected.drop_all(connection)
    reflected.create_all(connection)
    seen = tuple(connection.exec_driver_sql(EXPRESSIONS).one())
    reflected.drop_all(connection)
print(f"SQLAlchemy {sqlalchemy.__version__}")
for before, after in zip(expected, seen, strict=True):
    print(f"  expected: {before}")
    print(f"  seen:     {after}")
if seen != (
    "'NULL'::text, (kind || 'NULL'::text)",
    "(kind <> 'NULL'::text)",
    "(kind = 'NULL'::text)",
):
    print("  that has changed")
    sys.exit(1)
END
}

seen 2.0.58
seen 2.1.9
