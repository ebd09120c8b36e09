#!/usr/bin/env bash
# mypy 2.4.1 with SQLAlchemy 2.1.9: list(session.scalars(...)) is taken for a list of
# another class.
#
# Expected: "users: list[User] = list(session.scalars(select(Order)))" is reported, as it
#   is for .all(), since the statement selects orders.
# Seen: nothing is reported. scalars() has an overload for a statement with a type, and one
#   for any Executable, which gives Any. mypy tries the next where the first does not give
#   what list() wants for the name on the left.
# Who meets it: whoever annotates the name that a query's result is given to. What helps is
#   .all(), or to leave the annotation to mypy.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet mypy==2.4.1 SQLAlchemy==2.1.9

cat >"$work/query.py" <<'END'
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    id: Mapped[int] = mapped_column(primary_key=True)


class User(Base):
    __tablename__ = "user"


class Order(Base):
    __tablename__ = "order"


def query(session: Session) -> None:
    all_users: Sequence[User] = session.scalars(select(Order)).all()
    list_of_users: list[User] = list(session.scalars(select(Order)))
END
cd "$work"
seen=$("$work/venv/bin/mypy" --strict query.py || true)
"$work/venv/bin/mypy" --version
echo "expected: an error in lines 20 and 21"
echo "seen:"
echo "$seen"
if ! grep --quiet "^query.py:20: error" <<<"$seen" ||
    grep --quiet "^query.py:21:" <<<"$seen"
then
    echo "that has changed"
    exit 1
fi
