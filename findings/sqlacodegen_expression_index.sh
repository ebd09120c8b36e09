#!/usr/bin/env bash
# sqlacodegen 4.0.4: the code for an index over an expression has no expression.
#
# Expected: "reads the structure of an existing database and generates the appropriate
#   SQLAlchemy model code": create_all of that code makes the index, or the code says that it
#   left it out.
# Seen: Index('lower_name') without columns is written for an index over lower(name).
#   create_all sends CREATE INDEX lower_name ON person (), a syntax error. Of an index over a
#   column and an expression, only the column is left.
# Who meets it: whoever has an index over lower(email) or over a key of JSON. What helps is to
#   write the expression into the code.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

. "$(dirname "$0")/_postgres.sh"
"$python" -m pip install --quiet sqlacodegen==4.0.4 SQLAlchemy==2.1.9 \
    psycopg[binary]==3.3.9
"$python" - "$work" <<'END'
import subprocess
import sys

import sqlalchemy
from sqlalchemy.schema import CreateIndex

url = f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}/data"
engine = sqlalchemy.create_engine(url)
with engine.begin() as connection:
    connection.exec_driver_sql("CREATE TABLE person (id int PRIMARY KEY, name text)")
    connection.exec_driver_sql("CREATE INDEX lower_name ON person (lower(name))")
command = [sys.executable, "-m", "sqlacodegen", "--generator", "tables", url]
code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
generated = {}
exec(code, generated)
(index,) = generated["metadata"].tables["person"].indexes
seen = str(CreateIndex(index).compile(dialect=engine.dialect))
print("sqlacodegen 4.0.4, an index over lower(name)")
print("  expected: CREATE INDEX lower_name ON person (lower(name))")
print(f"  seen:     {seen}")
if seen != "CREATE INDEX lower_name ON person ()":
    print("  that has changed")
    sys.exit(1)
END
