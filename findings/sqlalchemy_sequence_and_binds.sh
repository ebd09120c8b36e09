#!/usr/bin/env bash
# SQLAlchemy 2.0.58 and 2.1.9: a Session with binds cannot execute a Sequence.
#
# Expected: Session(bind=engine, binds={table: other}).scalar(Sequence("s")) asks "bind"
#   for the next number, as Session(bind=engine) does: "binds" says of tables and classes
#   where they are, and "bind" serves the rest.
# Seen: Session.get_bind() raises AttributeError: 'Sequence' object has no attribute
#   'get_children', as it looks for tables in the statement, and a Sequence is none that
#   can be iterated over.
# Who meets it: whoever draws numbers from a sequence in a session of several databases.
#   What helps is select(sequence.next_value()).
#
# Nothing is executed, so that an engine of any database will do.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

status=0
for version in 2.0.58 2.1.9; do
    "$python" -m pip install --quiet "SQLAlchemy==$version"
    "$python" - <<'END' || status=1
import sys

import sqlalchemy
from sqlalchemy import Column, Integer, MetaData, Sequence, Table, create_engine
from sqlalchemy.orm import Session

table = Table("t", MetaData(), Column("id", Integer, primary_key=True))
engine, other = create_engine("sqlite://"), create_engine("sqlite://")
session = Session(bind=engine, binds={table: other})
try:
    seen = "bind" if session.get_bind(clause=Sequence("s")) is engine else "another"
except AttributeError as error:
    seen = f"AttributeError: {error}"
print(f"SQLAlchemy {sqlalchemy.__version__}")
print("  expected: bind")
print(f"  seen:     {seen}")
if seen != "AttributeError: 'Sequence' object has no attribute 'get_children'":
    print("  that has changed")
    sys.exit(1)
END
done
exit "$status"
