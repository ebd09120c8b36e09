#!/usr/bin/env bash
# SQLAlchemy 2.1.9: the implementation of REAL in the dialect of PostgreSQL is FLOAT.
#
# Expected: REAL().dialect_impl(dialect) is the same type of the database: "the dialect's
#   implementation" of a type compiles as the type does.
# Seen: it compiles as FLOAT, which is double precision. A CAST to it is another value:
#   0.1::real = CAST('0.1' AS FLOAT) is false on the server.
# Who meets it: whoever renders a type by its implementation, as tools do that take a
#   TypeDecorator to what is below it. What helps is to compile the type itself.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet SQLAlchemy==2.1.9
"$python" - <<'END'
import sys

import sqlalchemy
from sqlalchemy.dialects import postgresql

dialect = postgresql.dialect()
real = postgresql.REAL()
written = real.compile(dialect)
seen = real.dialect_impl(dialect).compile(dialect)
print(f"SQLAlchemy {sqlalchemy.__version__}, which writes the type as {written}")
print("  expected of its implementation: REAL")
print(f"  seen:                           {seen}")
if (written, seen) != ("REAL", "FLOAT"):
    print("  that has changed")
    sys.exit(1)
END
