#!/usr/bin/env bash
# fastavro 1.13.1: a time in a union of date and timestamp is written as a date.
#
# Expected: of ["null", date, timestamp-micros] the branch is chosen that can hold the value: a
#   datetime has its time when it is read again, as it has with the branches in another order.
# Seen: a datetime is written by the branch of date, as a datetime is a date for Python, and
#   comes back as a date. A long gets 1.7 as 1, and Decimal("1.7") too, silently; in a union
#   these are refused.
# Who meets it: a log of changes whose values have a union of types. What helps is to put
#   timestamp before date, or the pair (name of the branch, value).
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet fastavro==1.13.1

"$python" - <<'END'
import io
import sys
from datetime import date, datetime, timezone
from decimal import Decimal
from importlib.metadata import version

import fastavro

DATE = {"type": "int", "logicalType": "date"}
TIMESTAMP = {"type": "long", "logicalType": "timestamp-micros"}
NOON = datetime(2024, 7, 1, 12, 0, tzinfo=timezone.utc)
ROUND_TRIPS = (
    ("timestamp before date", ["null", TIMESTAMP, DATE], NOON),
    ("date before timestamp", ["null", DATE, TIMESTAMP], NOON),
    ("long", "long", 1.7),
    ("long", "long", Decimal("1.7")),
)


def read_again(kind, value):
    schema = {"type": "record", "name": "change", "fields": [{"name": "value", "type": kind}]}
    file = io.BytesIO()
    fastavro.writer(file, fastavro.parse_schema(schema), [{"value": value}])
    file.seek(0)
    return next(iter(fastavro.reader(file)))["value"]


seen = []
print(f"fastavro {version('fastavro')}")
for name, kind, value in ROUND_TRIPS:
    seen.append(read_again(kind, value))
    print(f"  {name}: expected {value!s}, or an error; seen {seen[-1]!s}")
if list(map(repr, seen)) != list(map(repr, (NOON, date(2024, 7, 1), 1, 1))):
    print("  that has changed")
    sys.exit(1)
END
