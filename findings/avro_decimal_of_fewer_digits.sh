#!/usr/bin/env bash
# avro 1.12.2: a decimal with fewer digits than its schema's scale is stored as another one.
#
# Expected: with the scale 2, Decimal("1.1") is written as 1.10, or refused, as Decimal("1.105")
#   is. The specification of Avro: the value is the unscaled integer times ten to the minus scale.
# Seen: the digits are written as they are: 1.1 is read as 0.11, 100 as 1.00, without an error.
#   fastavro writes both as they should be.
# Who meets it: whoever writes rows with Avro's own package: a driver gives what a numeric column
#   without a scale has, and Python calculates, with as many digits as there are. What helps is
#   value.quantize(Decimal("0.01")).
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet avro==1.12.2 fastavro==1.13.1

"$python" - <<'END'
import io
import json
import sys
from decimal import Decimal
from importlib.metadata import version

import avro.io
import avro.schema
import fastavro

SCHEMA = {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}
VALUES = [Decimal("1.10"), Decimal("1.1"), Decimal("100"), Decimal("-0.5")]


def by_avro(value):
    schema, buffer = avro.schema.parse(json.dumps(SCHEMA)), io.BytesIO()
    avro.io.DatumWriter(schema).write(value, avro.io.BinaryEncoder(buffer))
    buffer.seek(0)
    return avro.io.DatumReader(schema).read(avro.io.BinaryDecoder(buffer))


def by_fastavro(value):
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, SCHEMA, value)
    buffer.seek(0)
    return fastavro.schemaless_reader(buffer, SCHEMA)


seen = []
print(f"avro {version('avro')}, decimals with the scale 2")
for value in VALUES:
    seen.append(str(by_avro(value)))
    print(f"  {value}: expected {by_fastavro(value)}, as by fastavro; seen {seen[-1]}")
if seen != ["1.10", "0.11", "1.00", "-0.05"] or list(map(by_fastavro, VALUES)) != VALUES:
    print("  that has changed")
    sys.exit(1)
END
