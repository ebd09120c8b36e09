#!/usr/bin/env bash
# dlt 1.31.0: with the strategy scd2, an equal number in another form is a new version.
#
# Expected: a row that is loaded again with the same values has one version, also when the
#   source says 1.50 for 1.5, or tells the same instant in another time zone.
# Seen: two versions, which have the same values in all columns of the table: the row is
#   compared by a digest of what the source gave, and stored by the types of the columns.
# Who meets it: histories of rates, prices and times that are loaded from more than one source,
#   or after a driver or a time zone was changed: each row has changed. What helps is to
#   normalize the rows before.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet "dlt[duckdb]==1.31.0" duckdb==1.4.3

export RUNTIME__DLTHUB_TELEMETRY=false HOME="$work"
cd "$work"
"$python" - "$work" <<'END'
import sys
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from importlib.metadata import version

import dlt
import duckdb

NOON = datetime(2024, 7, 1, 12, tzinfo=timezone.utc)
LOADS = (
    [{"id": 1, "rate": Decimal("1.5"), "since": NOON}],
    [{"id": 1, "rate": Decimal("1.5"), "since": NOON}],
    [{"id": 1, "rate": Decimal("1.50"), "since": NOON}],
    [{"id": 1, "rate": Decimal("1.50"), "since": NOON.astimezone(timezone(timedelta(hours=2)))}],
)


def rows_of(rows):
    disposition = {"disposition": "merge", "strategy": "scd2"}
    return dlt.resource(rows, name="rate", write_disposition=disposition)


path = f"{sys.argv[1]}/rates.duckdb"
pipeline = dlt.pipeline(
    "rates",
    pipelines_dir=sys.argv[1],
    destination=dlt.destinations.duckdb(path),
    dataset_name="history",
)
seen = []
for rows in LOADS:
    pipeline.run(rows_of(rows))
    with duckdb.connect(path) as connection:
        count = "SELECT count(*), count(DISTINCT (id, rate, since)) FROM history.rate"
        seen.append(connection.execute(count).fetchone())
print(f"dlt {version('dlt')}, versions, and different ones, after each load")
print("  expected: [(1, 1), (1, 1), (1, 1), (1, 1)]")
print(f"  seen:     {seen}")
if seen != [(1, 1), (1, 1), (2, 1), (3, 1)]:
    print("  that has changed")
    sys.exit(1)
END
