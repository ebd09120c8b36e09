#!/usr/bin/env bash
# SQLAlchemy 2.0.58 and 2.1.9: an UPDATE that moves values from column to column leaves
# others in the objects of the session.
#
# Expected: update(Order).values(status="sent", previous=Order.status) gives "previous" the
#   status that was before, as in SQL, where all expressions read the old row. The objects
#   of the session are synchronized with the row.
# Seen: the values of an object are calculated one after the other from what it has by then, in
#   the order of a set of names, which differs from process to process. In some of them
#   "previous" is "sent" too; of two columns that are swapped, one is wrong in all of them.
#   The same with "fetch", which fetches keys alone.
# Who meets it: whoever keeps the last value beside the new one, swaps two columns or counts
#   two up by one statement, and reads the objects before the commit. If such a value
#   is written somewhere else, it is stored. What helps is synchronize_session=False and
#   session.refresh(), or to read after the commit.
#
# SQLite is the database here; the server plays no part in it. PYTHONHASHSEED stands for
# processes.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/moved.py" <<'END'
import sys

from sqlalchemy import create_engine, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str]
    previous: Mapped[str]


engine = create_engine("sqlite://")
Base.metadata.create_all(engine)
row = select(Order.__table__.c["status", "previous"])
kept = update(Order).values(status="sent", previous=Order.status)
swapped = update(Order).values(status=Order.previous, previous=Order.status)
for statement in (kept, swapped):
    with Session(engine) as session:
        order = Order(status="open", previous="new")
        session.add(order)
        session.flush()
        session.execute(statement, execution_options={"synchronize_session": sys.argv[1]})
        stored = tuple(session.execute(row).one())
        print("right" if (order.status, order.previous) == stored else "wrong", end=" ")
print()
END

seen() {
    python3 -m venv "$work/$1"
    "$work/$1/bin/python" -m pip install --quiet "sqlalchemy==$1"
    for strategy in auto fetch; do
        for seed in 1 2 3 4 5 6 7 8; do
            PYTHONHASHSEED=$seed "$work/$1/bin/python" "$work/moved.py" $strategy
        done >"$work/results"
        kept=$(grep -c "^right" "$work/results" || true)
        swapped=$(grep -c "right $" "$work/results" || true)
        echo "SQLAlchemy $1, $strategy, objects of 8 processes that are as their rows"
        echo "  expected: 8 with the last value, 8 swapped"
        echo "  seen:     $kept with the last value, $swapped swapped"
        if [ "$kept" = 0 ] || [ "$kept" = 8 ] || [ "$swapped" != 0 ]; then
            echo "  that has changed"
            exit 1
        fi
    done
}

seen 2.0.58
seen 2.1.9
