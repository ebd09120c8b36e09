#!/usr/bin/env bash
# Daft 0.6.14: of several Parquet files, integers of those with a wider type are other numbers.
#
# Expected: read_parquet() of a file with an int32 column and one with int64 reads both as
#   int64, or raises, as concat() of two such frames does.
# Seen: all have the type of the first file: 2**40 is read as 0, 2**31 as -2147483648, and a
#   decimal 1.25 behind a file with the scale 1 is 1.2, without an error.
# Who meets it: whoever archives a table year by year, whose key became a bigint one day: the
#   rows of later years have keys of others. What helps is schema={...} with the wider types.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet daft==0.6.14 pyarrow==26.0.1

DAFT_PROGRESS_BAR=0 "$python" - "$work" <<'END'
import sys
from decimal import Decimal
from importlib.metadata import version

import daft
import pyarrow
import pyarrow.parquet

COLUMNS = {
    "key": ([1], pyarrow.int32(), [2**40, 2**31], pyarrow.int64()),
    "price": (
        [Decimal("1.5")],
        pyarrow.decimal128(10, 1),
        [Decimal("1.25"), Decimal("0.99")],
        pyarrow.decimal128(10, 2),
    ),
}
seen, wider = {}, {}
print(f"Daft {version('daft')}, two files, of which the second has the wider type")
for name, (early, narrow, late, wide) in COLUMNS.items():
    files = []
    for year, (values, type_) in {2024: (early, narrow), 2025: (late, wide)}.items():
        files.append(f"{sys.argv[1]}/{name}-{year}.parquet")
        pyarrow.parquet.write_table(pyarrow.table({name: pyarrow.array(values, type_)}), files[-1])
    seen[name] = daft.read_parquet(files).to_pydict()[name]
    schema = {name: daft.DataType.from_arrow_type(wide)}
    wider[name] = daft.read_parquet(files, schema=schema).to_pydict()[name]
    print(f"  {name}: expected {[*map(str, early + late)]}, or an error")
    print(f"  {' ' * len(name)}  seen     {[*map(str, seen[name])]}")
    print(f"  {' ' * len(name)}  schema=  {[*map(str, wider[name])]}")
if seen != {"key": [1, 0, -(2**31)], "price": [Decimal("1.5"), Decimal("1.2"), Decimal("0.9")]}:
    print("  that has changed")
    sys.exit(1)
END
