#!/usr/bin/env bash
# SQLAlchemy 2.0.58 and 2.1.9: a DELETE with NOT IN and a NULL takes objects out of the
# session whose rows are still there; NOT over AND leaves objects that were changed.
#
# Expected: the default, "auto", fetches the keys of what was deleted or updated where the
#   database has RETURNING, as its documentation says: "The 'fetch' strategy will be used on
#   backends that support RETURNING".
#   https://docs.sqlalchemy.org/en/20/orm/queryguide/dml.html
# Seen: the WHERE clause is evaluated by Python, and not as SQL does it: 3 NOT IN (1, NULL)
#   is true there, and unknown in SQL, where no row is deleted. NOT (a AND b) with a
#   unknown and b false is unknown there, and true in SQL: the row is updated, the object is not.
# Who meets it: a list of values that may have None in it. An object that was taken for deleted
#   is detached, and what is set on it is lost without an error. What helps is
#   synchronize_session="fetch".
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
from sqlalchemy import and_, create_engine, delete, not_, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)
    a: Mapped[int] = mapped_column(nullable=True)
    b: Mapped[int] = mapped_column(nullable=True)
    text: Mapped[str]


engine = create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
Base.metadata.create_all(engine)
text = select(Note.__table__.c.text)
deleted = delete(Note).where(Note.a.not_in([1, None]))
updated = update(Note).where(not_(and_(Note.a == 1, Note.b == 2))).values(text="new")


def after_delete(options):
    with Session(engine) as session:
        note = Note(a=3, b=3, text="old")
        session.add(note)
        session.flush()
        session.execute(deleted, execution_options=options)
        in_session = note in session
        note.text = "new"
        session.flush()
        return in_session, session.scalar(text)


def after_update(options):
    with Session(engine) as session:
        note = Note(a=None, b=3, text="old")
        session.add(note)
        session.flush()
        session.execute(updated, execution_options=options)
        return session.scalar(text), note.text


seen = {}
for strategy in ("fetch", "auto"):
    options = {"synchronize_session": strategy}
    seen[strategy] = (after_delete(options), after_update(options))
print(f"SQLAlchemy {sqlalchemy.__version__}, whether the object is in the session, and what is")
print("  stored of it then; what another statement stored, and what the object has")
print(f"  expected, as by fetch: {seen['fetch']}")
print(f"  seen, by default:      {seen['auto']}")
if seen != {
    "fetch": ((True, "new"), ("new", "new")),
    "auto": ((False, "old"), ("new", "old")),
}:
    print("  that has changed")
    sys.exit(1)
END
}

seen 2.0.58
seen 2.1.9
