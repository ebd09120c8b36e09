#!/usr/bin/env bash
# SQLAlchemy 2.0.58 and 2.1.9: an engine that is made of an engine with an isolation level
# keeps that level, whatever it is given.
#
# Expected: `engine.execution_options()` returns an engine with the options of the first
#   one, updated by what is given, also by `isolation_level`.
#   https://docs.sqlalchemy.org/en/20/core/connections.html#sqlalchemy.engine.Engine.execution_options
# Seen: where the first one was made by `execution_options(isolation_level=...)` itself,
#   connections of the second one have its level, while `get_execution_options()` has the
#   one that was given. The listener of the first engine sets it after that of the second.
# Who meets it: libraries that are given an engine and need another level for a part of
#   their work. What helps is the option on the connection.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

for version in 2.0.58 2.1.9; do
    "$python" -m pip install --quiet "SQLAlchemy==$version"

    "$python" - <<'END'
import sys

import sqlalchemy as sa

first = sa.create_engine("sqlite://").execution_options(isolation_level="SERIALIZABLE")
second = first.execution_options(isolation_level="READ UNCOMMITTED")
with second.connect() as connection:
    told = connection.get_execution_options()["isolation_level"]
    level = connection.get_isolation_level()
print(f"SQLAlchemy {sa.__version__}")
print("  expected: READ UNCOMMITTED")
print(f"  seen:     {level}, and {told} in the options")
if (level, told) != ("SERIALIZABLE", "READ UNCOMMITTED"):
    print("  that has changed")
    sys.exit(1)
END
done
