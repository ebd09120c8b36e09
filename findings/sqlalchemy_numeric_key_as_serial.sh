#!/usr/bin/env bash
# SQLAlchemy 2.0.58: a primary key of type Numeric is created as SERIAL, an integer.
#
# Expected: the column of a primary key has the type that it was given, NUMERIC(10, 2), as
#   a key of type Float or Date has its own type, and as SQLAlchemy 2.1.9 does it.
# Seen: CREATE TABLE says SERIAL. A key 1.50 is stored as 2.
# Who meets it: whoever has a number with decimals as the only column of a key. What helps
#   is autoincrement=False.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

seen() {
    python3 -m venv "$work/$1"
    "$work/$1/bin/python" -m pip install --quiet "SQLAlchemy==$1"
    "$work/$1/bin/python" - <<'END'
from sqlalchemy import Column, MetaData, Numeric, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

table = Table("t", MetaData(), Column("n", Numeric(10, 2), primary_key=True))
created = str(CreateTable(table).compile(dialect=postgresql.dialect()))
print("SERIAL" if "n SERIAL" in created else "NUMERIC" if "NUMERIC" in created else created)
END
}

before=$(seen 2.0.58)
after=$(seen 2.1.9)
echo "SQLAlchemy 2.0.58, and 2.1.9"
echo "  expected: NUMERIC, NUMERIC"
echo "  seen:     $before, $after"
if [ "$before, $after" != "SERIAL, NUMERIC" ]; then
    echo "  that has changed"
    exit 1
fi
