#!/usr/bin/env bash
# pg8000 1.31.6: ROLLBACK TO SAVEPOINT with a comment before it is told to have failed.
#
# Expected: a comment before a statement changes nothing. After an error, ROLLBACK TO
#   SAVEPOINT brings the transaction back to the savepoint, and no error is raised.
# Seen: InterfaceError "in failed transaction block". The driver looks at the beginning of
#   the text to find out whether a statement may be sent in a failed transaction.
# Who meets it: whoever adds comments to statements, for example with the name of the
#   request by a before_cursor_execute listener of SQLAlchemy. What helps is to write the
#   comment after the statement.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet pg8000==1.31.6
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import sys
from importlib.metadata import version

import pg8000.dbapi


def roll_back(statement):
    connection = pg8000.dbapi.connect(
        user="postgres", database="postgres", unix_sock=f"{sys.argv[1]}/.s.PGSQL.5432"
    )
    cursor = connection.cursor()
    cursor.execute("SAVEPOINT before")
    try:
        cursor.execute("SELECT 1 / 0")
    except pg8000.dbapi.DatabaseError:
        pass
    try:
        cursor.execute(statement)
        cursor.execute("SELECT 'no error'")
        told = cursor.fetchone()[0]
    except pg8000.dbapi.InterfaceError as error:
        told = f"InterfaceError: {error}"
    connection.close()
    return told


without = roll_back("ROLLBACK TO SAVEPOINT before")
after = roll_back("ROLLBACK TO SAVEPOINT before /* request 7 */")
seen = roll_back("/* request 7 */ ROLLBACK TO SAVEPOINT before")
print(f"pg8000 {version('pg8000')}")
print(f"  without the comment: {without}; with one at the end: {after}")
print("  expected: no error")
print(f"  seen:     {seen}")
if (
    {without, after} != {"no error"}
    or seen != "InterfaceError: in failed transaction block"
):
    print("  that has changed")
    sys.exit(1)
END
