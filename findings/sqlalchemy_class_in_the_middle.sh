#!/usr/bin/env bash
# SQLAlchemy 2.0.58 and 2.1.9: where an expression tells the class of a row, a query for a
# class that has another one above it and another one below it finds no objects of the one
# below: all rows are objects of the class that was asked for.
#
# Expected: what a column as polymorphic_on does. The documentation of polymorphic_on says
#   that it may be any SQL expression, with a CASE as its example, and names no difference.
#   https://docs.sqlalchemy.org/en/20/orm/mapping_api.html
# Seen: a query for the class at the top finds objects of the right classes, as does one for
#   the class at the bottom. For the one in the middle the expression is in the SELECT, and
#   its value is not looked at.
# Who meets it: hierarchies of joined tables over an older schema, where the class has to be
#   reckoned. Attributes of the class below are missing, what it overrides is not called, and
#   which class an object has depends on the query that found it first.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"
source "$(dirname "$0")/_postgres.sh"

seen() {
    "$python" -m pip install --quiet "sqlalchemy==$1" "psycopg[binary]==3.3.9"
    "$python" - "$work/data" <<'END'
import sys

import sqlalchemy
from sqlalchemy import Column, ForeignKey, Integer, Text, case, create_engine, select
from sqlalchemy.orm import Session, declarative_base


def classes_found(is_expression):
    Base = declarative_base()

    class Vehicle(Base):
        __tablename__ = "vehicle"
        id = Column(Integer, primary_key=True)
        kind = Column(Text)
        __mapper_args__ = {
            "polymorphic_on": case((kind.is_(None), "vehicle"), else_=kind)
            if is_expression
            else kind,
            "polymorphic_identity": "vehicle",
        }

    class Truck(Vehicle):
        __tablename__ = "truck"
        id = Column(ForeignKey(Vehicle.id), primary_key=True)
        load = Column(Integer)
        __mapper_args__ = {"polymorphic_identity": "truck"}

    class Tanker(Truck):
        __tablename__ = "tanker"
        id = Column(ForeignKey(Truck.id), primary_key=True)
        liquid = Column(Text)
        __mapper_args__ = {"polymorphic_identity": "tanker"}

    url = f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}"
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Tanker(id=1, kind="tanker", load=20, liquid="milk"))
        session.commit()
    found = {}
    for asked in (Vehicle, Truck, Tanker):
        with Session(engine) as session:
            found[asked.__name__] = type(session.scalar(select(asked))).__name__
    Base.metadata.drop_all(engine)
    engine.dispose()
    return found


expected, seen = classes_found(False), classes_found(True)
print(f"SQLAlchemy {sqlalchemy.__version__}, the class of a tanker's row by the class asked for")
print(f"  expected, as by a column: {expected}")
print(f"  seen, by an expression:   {seen}")
right = dict.fromkeys(("Vehicle", "Truck", "Tanker"), "Tanker")
if (expected, seen) != (right, {**right, "Truck": "Truck"}):
    print("  that has changed")
    sys.exit(1)
END
}

seen 2.0.58
seen 2.1.9
