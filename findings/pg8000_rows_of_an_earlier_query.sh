#!/usr/bin/env bash
# pg8000 1.31.6: after a value that it cannot read, each query has the rows of an earlier one.
#
# Expected: a time of 24:00, which PostgreSQL has, is an error of that query, and the next query
#   has its own rows, or the connection says that it can no longer be used.
# Seen: the ValueError is raised while the answer is read, and what is left of it is taken for
#   the answer to the next query, which has none; the one after that has the rows of the one
#   before, and so on, until the connection is closed. A ROLLBACK does not help. The same after
#   an array with a lower bound, '[0:1]={1,2}'.
# Who meets it: whoever catches the error and goes on with the connection, or has it in a pool.
#   What helps is to close it, or to cast such columns to text.
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


def rows_after(statement):
    connection = Connection("postgres", database="postgres", unix_sock=sys.argv[1])
    try:
        connection.run(statement)
    except (TypeError, ValueError) as error:
        first = type(error).__name__
    return first, [connection.run(f"SELECT {number}") for number in (1, 2, 3)]


seen = {
    statement: rows_after(f"SELECT {statement}")
    for statement in ("TIME '24:00'", "'[0:1]={1,2}'::int[]")
}
print(f"pg8000 {version('pg8000')}, SELECT 1, 2 and 3 after a value that cannot be read")
print("  expected: [[[1]], [[2]], [[3]]]")
for statement, (error, rows) in seen.items():
    print(f"  seen after {error} for {statement}: {rows}")
if [rows for _, rows in seen.values()] != [[None, [[1]], [[2]]]] * 2:
    print("  that has changed")
    sys.exit(1)
END
