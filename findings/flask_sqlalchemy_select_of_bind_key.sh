#!/usr/bin/env bash
# Flask-SQLAlchemy 3.1.1: a SELECT of a Core table goes to the default database, whatever
# bind key its MetaData has.
#
# Expected: db.session.execute(select(table)) goes where a SELECT of a model with the same
#   __bind_key__ goes, and where an INSERT into the table goes.
# Seen: the session finds the bind key of a Table, and of an INSERT, UPDATE or DELETE, but
#   not of a SELECT. It asks the default database, for another table of that name or none.
# Who meets it: whoever has tables that are not mapped, or subqueries and unions without a
#   class, beside models with __bind_key__. What helps is bind_arguments={"bind": engine}.
#
# Nothing is executed, so that engines of any database will do.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet Flask==3.1.3 Flask-SQLAlchemy==3.1.1 SQLAlchemy==2.0.58
"$python" - <<'END'
import sys

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import insert, select

db = SQLAlchemy()
table = db.Table("t", db.Column("id", db.Integer, primary_key=True), bind_key="other")
app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
app.config["SQLALCHEMY_BINDS"] = {"other": "sqlite://"}
db.init_app(app)

with app.app_context():
    names = {engine: key or "default" for key, engine in db.engines.items()}
    written = names[db.session.get_bind(clause=insert(table))]
    read = names[db.session.get_bind(clause=select(table))]
print("Flask-SQLAlchemy 3.1.1, a table of the bind key 'other'")
print("  expected: INSERT other, SELECT other")
print(f"  seen:     INSERT {written}, SELECT {read}")
if (written, read) != ("other", "default"):
    print("  that has changed")
    sys.exit(1)
END
