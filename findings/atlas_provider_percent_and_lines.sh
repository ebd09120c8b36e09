#!/usr/bin/env bash
# atlas-provider-sqlalchemy 0.5.2: percent signs are doubled, and line breaks are taken out of
# values.
#
# Expected: it prints the schema that create_all would make.
# Seen: CHECK (id %% 2 = 0), which PostgreSQL refuses, and LIKE 'a%%'. A server default or a
#   comment of two lines is one line without a space. DDL elements of PL/pgSQL lose their line
#   breaks too: words run into one another, and a -- comment comments out the rest.
# Who meets it: whoever has a CHECK with a percent sign, a default or a comment of several
#   lines, or triggers by DDL elements. What helps is func.mod(...), and E'...' strings.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet atlas-provider-sqlalchemy==0.5.2 SQLAlchemy==2.1.9 \
    psycopg2-binary==2.9.13
"$python" - <<'END'
import subprocess
import sys
import tempfile
from pathlib import Path

MODELS = '''
from sqlalchemy import CheckConstraint, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"
    __table_args__ = (CheckConstraint("id % 2 = 0"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(Text, server_default="one\\ntwo")
'''

with tempfile.TemporaryDirectory() as folder:
    Path(folder, "models.py").write_text(MODELS)
    command = [sys.executable, "-m", "atlas_provider_sqlalchemy.main"]
    command += ["--dialect", "postgresql", "--path", folder]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
seen = "id %% 2 = 0" in printed, "'onetwo'" in printed
print("atlas-provider-sqlalchemy 0.5.2")
print("  expected: CHECK (id % 2 = 0) and DEFAULT 'one(line break)two'")
print(f"  seen:     {printed.splitlines()[-2]}")
if seen != (True, True):
    print("  that has changed")
    sys.exit(1)
END
