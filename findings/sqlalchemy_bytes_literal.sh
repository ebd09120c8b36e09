#!/usr/bin/env bash
# SQLAlchemy 2.1.9: literal_binds writes bytes that PostgreSQL reads as others.
#
# Expected: of bytes in a LargeBinary or BYTEA column, compile(compile_kwargs=
#   {"literal_binds": True}) writes a literal of the same bytes, or raises CompileError, as
#   it does of other values that it cannot write.
# Seen: the bytes are decoded and put between quotes. PostgreSQL takes a backslash in a
#   literal of bytea for an escape, so b"\\x41", which are four bytes, become b"A", and a
#   single backslash is an error of the server. Only what is no UTF-8 raises CompileError.
# Who meets it: whoever writes a view, a trigger or a migration from an expression. What
#   helps is func.decode(value.hex(), "hex").
#
# libpq's own PQunescapeBytea reads the literal here, as the server would; none is needed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet SQLAlchemy==2.1.9 "psycopg[binary]==3.3.9"
"$python" - <<'END'
import sys

import sqlalchemy
from psycopg.pq import Escaping
from sqlalchemy.dialects import postgresql

written = b"\\x41"
literal = sqlalchemy.literal(written, sqlalchemy.LargeBinary)
sql = str(
    literal.compile(
        dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True}
    )
)
seen = bytes(Escaping().unescape_bytea(sql.strip("'").encode()))
print(f"SQLAlchemy {sqlalchemy.__version__}, which writes {sql}")
print(f"  expected: {written!r}")
print(f"  seen:     {seen!r}")
if seen != b"A":
    print("  that has changed")
    sys.exit(1)
END
