#!/usr/bin/env bash
# SQLAlchemy 2.1.9: a parameter with a callable is NULL where a like statement was cached.
#
# Expected: `bindparam("x", callable_=f)` has the value of f() when the statement runs.
#   https://docs.sqlalchemy.org/en/21/core/sqlelement.html#sqlalchemy.sql.expression.bindparam
# Seen: if a statement that differs only in having `bindparam("x", 1)` ran before, the
#   callable is not called. The parameter is NULL, so the query finds nothing.
# Who meets it: whoever gives some queries a value and others a callable, by one name.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"
"$python" -m pip install --quiet "SQLAlchemy==2.1.9"

"$python" - <<'END'
import sys

import sqlalchemy as sa

engine = sa.create_engine("sqlite://")
table = sa.table("t", sa.column("a", sa.Integer))


def larger_than(parameter):
    return connection.scalars(sa.select(table.c.a).where(table.c.a > parameter)).all()


with engine.connect() as connection:
    connection.exec_driver_sql("CREATE TABLE t (a integer)")
    connection.exec_driver_sql("INSERT INTO t VALUES (5)")
    alone = larger_than(sa.bindparam("x", callable_=lambda: 1))
    engine.clear_compiled_cache()
    larger_than(sa.bindparam("x", 1))
    after = larger_than(sa.bindparam("x", callable_=lambda: 1))
print(f"SQLAlchemy {sa.__version__}")
print("  expected: [5] and [5]")
print(f"  seen:     {alone} alone, {after} after the same with a value")
if (alone, after) != ([5], []):
    print("  that has changed")
    sys.exit(1)
END
