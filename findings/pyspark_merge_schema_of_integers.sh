#!/usr/bin/env bash
# PySpark 4.3.0: files whose integers have another width cannot be merged.
#
# Expected: `mergeSchema` reads a folder in which a column is int32 in one Parquet file and
#   int64 in another, as it reads columns that some files lack, since every int32 is an
#   int64, and since the same folder can be read with a schema that is given.
# Seen: CANNOT_MERGE_SCHEMAS. With the wider schema given, all rows come.
# Who meets it: whoever archives a table by months, and made a key bigint in one of them.
#
# It needs Java 17.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet pyspark==4.3.0 pyarrow==26.0.1

SPARK_LOCAL_IP=127.0.0.1 PYSPARK_PYTHON="$python" "$python" - "$work/data" <<'END'
import os
import sys
from importlib.metadata import version

import pyarrow
from pyarrow import parquet
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

folder = sys.argv[1]
os.makedirs(folder)
for name, type_ in (("may", pyarrow.int32()), ("june", pyarrow.int64())):
    table = pyarrow.table({"id": pyarrow.array([1, 2], type_)})
    parquet.write_table(table, f"{folder}/{name}.parquet")
spark = (
    SparkSession.builder.master("local[1]")
    .config("spark.ui.enabled", "false")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("OFF")
try:
    merged = spark.read.option("mergeSchema", True).parquet(folder).count()
except Py4JJavaError as error:
    merged = error.java_exception.getCondition()
given = spark.read.schema("id BIGINT").parquet(folder).count()
print(f"PySpark {version('pyspark')}")
print("  expected: 4 rows, with mergeSchema and with the schema given")
print(f"  seen:     {merged} with mergeSchema, {given} rows with the schema given")
spark.stop()
if (merged, given) != ("CANNOT_MERGE_SCHEMAS", 4):
    print("  that has changed")
    sys.exit(1)
END
