#!/usr/bin/env bash
# PySpark 4.3.0: collect() of the first day of the year 1 is an error of Python.
#
# Expected: the earliest timestamp that Python and Spark both have comes back from
#   `collect()`, as it does from `toArrow()`.
# Seen: ValueError, "year 0 is out of range", whatever the zone of the session is: the
#   value is made with a function that looks at the day before.
# Who meets it: whoever has 0001-01-01 as "since ever" in a validity column, as .NET and
#   some exports write it. What helps is `toArrow()`, or a later day.
#
# It needs Java 17.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet pyspark==4.3.0 pyarrow==26.0.1 pandas==2.3.3

TZ=UTC SPARK_LOCAL_IP=127.0.0.1 PYSPARK_PYTHON="$python" "$python" - <<'END'
import sys
from importlib.metadata import version

from pyspark.sql import SparkSession

spark = (
    SparkSession.builder.master("local[1]")
    .config("spark.ui.enabled", "false")
    .config("spark.sql.session.timeZone", "UTC")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("OFF")
found = spark.sql("SELECT CAST('0001-01-01 00:00:00+00' AS TIMESTAMP) AS since")
arrow = found.toArrow().column("since")[0].as_py().isoformat()
try:
    collected = found.collect()[0].since.isoformat()
except ValueError as error:
    collected = f"ValueError: {error}"
print(f"PySpark {version('pyspark')}")
print("  expected: 0001-01-01T00:00:00 by both")
print(f"  seen:     {arrow} by toArrow(), {collected} by collect()")
spark.stop()
if not arrow.startswith("0001-01-01T00:00:00") or "year 0" not in collected:
    print("  that has changed")
    sys.exit(1)
END
