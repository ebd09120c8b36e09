#!/usr/bin/env bash
# SQLAlchemy 2.1.9: literal_binds leaves a parameter in func.pow() for PostgreSQL.
#
# Expected: with `literal_binds`, all values are written into the statement.
#   https://docs.sqlalchemy.org/en/21/faq/sqlexpressions.html#rendering-bound-parameters-inline
# Seen: the values in `func.pow()` stay parameters. Its compiler for PostgreSQL, SQL Server
#   and Oracle does not pass on what it was told (`visit_pow_func`). In 2.0 the function had
#   no compiler of its own, and its values were written.
# Who meets it: whoever makes SQL of expressions that takes no parameters, such as CHECK
#   constraints, indexes, views and triggers, or an offline migration.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"
"$python" -m pip install --quiet "SQLAlchemy==2.1.9"

"$python" - <<'END'
import sys

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

n = sa.Column("n", sa.Integer)
table = sa.Table("t", sa.MetaData(), n, sa.CheckConstraint(sa.func.pow(n, 2) < 100))
seen = str(CreateTable(table).compile(dialect=postgresql.dialect()))
print(f"SQLAlchemy {sa.__version__}")
print("  expected: CHECK (power(n, 2) < 100)")
check = next(line for line in seen.splitlines() if "CHECK" in line)
print(f"  seen:     {check.strip()}")
if "pow_1" not in seen:
    print("  that has changed")
    sys.exit(1)
END
