#!/usr/bin/env bash
# SQLAlchemy 2.0.58, 2.1.9: a document in which 1 becomes true is not stored.
#
# Expected: an attribute of a JSON column that is set to another document is written by the flush.
#   The documentation says that changes within a document are not seen, and those by a
#   new one are.
# Seen: the documents are compared as Python compares them, and there 1 == True, 0 == False
#   and 1 == 1.0: no UPDATE, no error, and after the commit the attribute has the old document.
#   So it is with a Numeric of another scale: 1.5 stays 1.5 where 1.50 was set.
# Who meets it: a flag that was stored as 0 or 1 and is to become a boolean, in a data migration
#   above all: it changes nothing, and history has no event. What helps is flag_modified().
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

source "$(dirname "$0")/_postgres.sh"

for release in 2.0.58 2.1.9; do
    "$python" -m pip install --quiet "sqlalchemy==$release" "psycopg[binary]==3.3.9"
    "$python" - "$work/data" <<'END'
import sys
from decimal import Decimal

import sqlalchemy
from sqlalchemy import create_engine, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Setting(Base):
    __tablename__ = "setting"
    id: Mapped[int] = mapped_column(primary_key=True)
    document: Mapped[dict] = mapped_column(JSONB)
    rate: Mapped[Decimal]


engine = create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
Base.metadata.drop_all(engine)
Base.metadata.create_all(engine)
with Session(engine) as session:
    session.add(Setting(id=1, document={"active": 1}, rate=Decimal("1.5")))
    session.commit()
    setting = session.get_one(Setting, 1)
    setting.document, setting.rate = {"active": True}, Decimal("1.50")
    session.commit()
    seen = tuple(session.execute(text("SELECT document::text, rate::text FROM setting")).one())
print(f"SQLAlchemy {sqlalchemy.__version__}")
print("""  expected: ('{"active": true}', '1.50')""")
print(f"  seen:     {seen}")
if seen != ('{"active": 1}', "1.5"):
    print("  that has changed")
    sys.exit(1)
END
done
