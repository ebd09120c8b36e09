#!/usr/bin/env bash
# pytemporal 1.4.27: rows that are ended, end at another system time than their successors begin.
#
# Expected: compute_changes(..., system_date="2024-06-01") ends the old row as of that date, on
#   which the new one begins, so that each system time has one state.
# Seen: the old row ends at the time of the clock, whatever system_date says. Between the two
#   dates both rows hold, with different values.
# Who meets it: whoever loads a backlog by its dates, or replays a load: "as of" a date between has
#   two prices. What helps is to set as_of_to of the rows that are to be ended.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet pytemporal==1.4.27 pandas==2.3.3 pyarrow==18.1.0

"$python" - <<'END'
import sys
from datetime import datetime
from importlib.metadata import version

import pandas
from pytemporal import BitemporalTimeseriesProcessor

FIRST, LAST, END = (
    pandas.Timestamp(text) for text in ("2024-01-01", "2024-02-01", "2260-12-31 23:59:59")
)


def frame(price, as_of):
    row = (1, price, FIRST, LAST, pandas.Timestamp(as_of), END)
    columns = ("id", "price", "effective_from", "effective_to", "as_of_from", "as_of_to")
    return pandas.DataFrame([row], columns=columns)


processor = BitemporalTimeseriesProcessor(["id"], ["price"])
ended, inserted = processor.compute_changes(
    frame(1.0, "2024-01-01"), frame(2.0, "2024-06-01"), system_date="2024-06-01"
)
old_until, new_from = ended["as_of_to"][0], inserted["as_of_from"][0]
print(f"pytemporal {version('pytemporal')}")
print("  expected: the old row holds until 2024-06-01, the new one from then on")
print(f"  seen:     the old row holds until {old_until}, the new one from {new_from.date()} on")
clock = abs((pandas.Timestamp(datetime.now()) - old_until).total_seconds()) < 86_400
if not clock or new_from != pandas.Timestamp("2024-06-01"):
    print("  that has changed")
    sys.exit(1)
END
