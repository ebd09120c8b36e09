#!/usr/bin/env bash
# SQLAlchemy 2.0.58 and 2.1.9: a negated Boolean column under another operator has no
# parentheses, and PostgreSQL negates the whole comparison.
#
# Expected: not_(flag).is_distinct_from(x) compares the negation of flag with x, as
#   Python reads it, and as SQLAlchemy writes it of any other negated expression:
#   (NOT flag) IS DISTINCT FROM x.
# Seen: NOT flag IS DISTINCT FROM x. NOT binds weaker in PostgreSQL, so that it negates
#   the comparison. With flag and x both NULL the first is false, and the second is true.
#   The class AsBoolean, which ~ of a Boolean column gives, never groups itself.
# Who meets it: whoever writes conditions of Boolean columns with null-safe operators.
#   What helps is .self_group(), or to compare the column and negate the comparison.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

status=0
for version in 2.0.58 2.1.9; do
    "$python" -m pip install --quiet "SQLAlchemy==$version"
    "$python" - <<'END' || status=1
import sys

import sqlalchemy
from sqlalchemy.dialects import postgresql

flag = sqlalchemy.column("flag", sqlalchemy.Boolean)
x = sqlalchemy.column("x", sqlalchemy.Boolean)
seen = str((~flag).is_distinct_from(x).compile(dialect=postgresql.dialect()))
print(f"SQLAlchemy {sqlalchemy.__version__}")
print("  expected: (NOT flag) IS DISTINCT FROM x")
print(f"  seen:     {seen}")
if seen != "NOT flag IS DISTINCT FROM x":
    print("  that has changed")
    sys.exit(1)
END
done
exit "$status"
