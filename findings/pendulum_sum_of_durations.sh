#!/usr/bin/env bash
# pendulum 3.3.0: in the sum of two durations, months are thirty days and years are 365.
#
# Expected: a month and a day that are added are a month and a day, as in PostgreSQL and as
#   duration(months=1, days=1) is; the documentation says that a duration keeps its years and
#   months, and a date to which it is added goes on by calendar months.
# Seen: 31 days. The date is another one, silently, and so after duration - duration. A product
#   with an integer keeps the months.
# Who meets it: terms of retention that are put together of two: the end of January and a month
#   and a day is the 1st of March by PostgreSQL, and the 2nd by the sum. What helps is one
#   duration, or to add one after the other. (Known: python-pendulum/pendulum#751.)
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet pendulum==3.3.0

"$python" - <<'END'
import sys
from importlib.metadata import version

import pendulum

MONTH, DAY = pendulum.duration(months=1), pendulum.duration(days=1)
start = pendulum.datetime(2024, 1, 31)
seen = {
    "one duration": start + pendulum.duration(months=1, days=1),
    "one after the other": start + MONTH + DAY,
    "the sum": start + (MONTH + DAY),
    "a product and a sum": start + (MONTH * 2 + DAY),
}
seen = {name: moment.to_date_string() for name, moment in seen.items()}
print(f"pendulum {version('pendulum')}, 2024-01-31 and a month and a day")
print("  expected: 2024-03-01 by each, and 2024-04-01 with two months")
for name, day in seen.items():
    print(f"  seen, {name + ':':20} {day}")
if seen != {
    "one duration": "2024-03-01",
    "one after the other": "2024-03-01",
    "the sum": "2024-03-02",
    "a product and a sum": "2024-04-01",
}:
    print("  that has changed")
    sys.exit(1)
END
