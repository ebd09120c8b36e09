#!/usr/bin/env bash
# ibis-framework 12.0.0: beside the sqlglot that its requirements allow, create_table() fails.
#
# Expected: a fresh installation of ibis-framework[duckdb] can create a table, as its first page does.
# Seen: with sqlglot 30.30.0 the statement is DROP VIEW IF EXISTS with no name behind it, and each
#   create_table() with DuckDB is a ParserException; with sqlglot 28.6.0 it works.
# Who meets it: whoever reads history with ibis, from PostgreSQL or Parquet, into DuckDB. The error
#   is of DuckDB and speaks of syntax. What helps is to pin sqlglot.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

cat > "$work/create.py" <<'END'
from importlib.metadata import version

import ibis
import pyarrow

connection = ibis.duckdb.connect()
try:
    connection.create_table("event", pyarrow.table({"id": [1]}))
    seen = "created"
except Exception as error:
    seen = type(error).__name__
print(f"sqlglot {version('sqlglot')}: {seen}")
END

echo "ibis-framework 12.0.0, create_table()"
echo "  expected: created"
seen=""
for release in 30.30.0 28.6.0; do
    "$python" -m pip install --quiet "ibis-framework[duckdb]==12.0.0" "sqlglot==$release" duckdb==1.4.3
    line=$("$python" "$work/create.py")
    echo "  seen:     $line"
    seen="$seen$line;"
done
if [ "$seen" != "sqlglot 30.30.0: ParserException;sqlglot 28.6.0: created;" ]; then
    echo "  that has changed"
    exit 1
fi
