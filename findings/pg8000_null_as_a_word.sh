#!/usr/bin/env bash
# pg8000 1.31.6: the text "null" in an array becomes NULL, and a NULL in a row is left out.
#
# Expected: ["null"] for a parameter of type text[] is an array with that text, as "NULL" is, and
#   a row of four columns has four values, None among them.
# Seen: "null" and "Null" are sent without quotes, and PostgreSQL takes each spelling of the word
#   for NULL. ROW(1, 'a', NULL, '') is read as ('1', 'a', ''): what follows a NULL stands one
#   place too early.
# Who meets it: tags, names and keys that people write; a query that returns rows of a table as
#   values. What helps is to send arrays as JSON, and to name the columns.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet pg8000==1.31.6
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data/.s.PGSQL.5432" <<'END'
import sys
from importlib.metadata import version

from pg8000.native import Connection

WORDS = ["NULL", "null", "Null"]
connection = Connection("postgres", database="postgres", unix_sock=sys.argv[1])
((words,),) = connection.run("SELECT CAST(:words AS text[])", words=WORDS)
((row,),) = connection.run("SELECT ROW(1, 'a', NULL, '')")
print(f"pg8000 {version('pg8000')}")
print(f"  expected: {WORDS} and ('1', 'a', None, '')")
print(f"  seen:     {words} and {row}")
if (words, row) != (["NULL", None, None], ("1", "a", "")):
    print("  that has changed")
    sys.exit(1)
END
