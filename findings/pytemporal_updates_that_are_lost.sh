#!/usr/bin/env bash
# pytemporal 1.4.27: updates of a bitemporal table are dropped without a word.
#
# Expected: compute_changes() tells which rows to end and which to insert, so that the timeline has
#   the values of the updates where they apply, as its documentation says of delta updates.
# Seen: nothing to end and nothing to insert, so the updates are lost:
#   - an update with the same value that goes on beyond the end of the row is dropped whole;
#   - of two updates behind the last row, where the first has its value, neither is inserted,
#     though the second has another one. Each alone is inserted.
# Who meets it: a price or a contract that is prolonged is not, and a change for later that
#   comes with it in one set is not stored. What helps is to compare what comes out.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet pytemporal==1.4.27 pandas==2.3.3 pyarrow==18.1.0

"$python" - <<'END'
import sys
from importlib.metadata import version

import pandas
from pytemporal import BitemporalTimeseriesProcessor

END = pandas.Timestamp("2260-12-31 23:59:59")


def frame(as_of, *rows):
    columns = ("id", "price", "effective_from", "effective_to", "as_of_from", "as_of_to")
    days = [
        (1, price, *(pandas.Timestamp(f"2024-01-{day:02}") for day in period), as_of, END)
        for price, *period in rows
    ]
    return pandas.DataFrame(days, columns=columns)


ROW = (3.0, 1, 5)
CASES = {
    "from the 3rd, prolonged to the 7th": ((3.0, 3, 7),),
    "3.0 on the 6th, and 2.0 on the 8th": ((3.0, 6, 7), (2.0, 8, 9)),
    "3.0 on the 6th alone": ((3.0, 6, 7),),
    "2.0 on the 8th alone": ((2.0, 8, 9),),
}
processor = BitemporalTimeseriesProcessor(["id"], ["price"])
seen = {}
print(f"pytemporal {version('pytemporal')}, a row of 3.0 from the 1st to the 5th, and updates")
for name, updates in CASES.items():
    current = frame(pandas.Timestamp("2024-01-01"), ROW)
    changes = frame(pandas.Timestamp("2024-06-01"), *updates)
    ended, inserted = processor.compute_changes(current, changes, system_date="2024-06-01")
    seen[name] = (len(ended), len(inserted))
    print(f"  {name}: {len(ended)} ended, {len(inserted)} inserted")
print("  expected: rows are inserted in each case")
if list(seen.values()) != [(0, 0), (0, 0), (0, 1), (0, 1)]:
    print("  that has changed")
    sys.exit(1)
END
