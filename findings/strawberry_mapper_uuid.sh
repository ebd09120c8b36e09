#!/usr/bin/env bash
# strawberry-sqlalchemy-mapper 0.9.0: a column of Mapped[uuid.UUID] is refused.
#
# Expected: it becomes uuid.UUID, as the README's table of types says of a UUID. SQLAlchemy's
#   type for Mapped[uuid.UUID] is Uuid.
# Seen: UnsupportedColumnType, which calls the type CHAR(32). The mapper knows UUID of the
#   PostgreSQL dialect, which is a subclass of Uuid, and no Uuid.
# Who meets it: whoever declares a key as Mapped[uuid.UUID], the way of SQLAlchemy 2.0. What
#   helps is extra_sqlalchemy_type_to_strawberry_type_map={Uuid: uuid.UUID}.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet strawberry-sqlalchemy-mapper==0.9.0 \
    strawberry-graphql==0.341.2 SQLAlchemy==2.0.58
"$python" - <<'END'
import sys
import uuid

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from strawberry_sqlalchemy_mapper import StrawberrySQLAlchemyMapper
from strawberry_sqlalchemy_mapper.exc import UnsupportedColumnType


class Base(DeclarativeBase):
    pass


class Ship(Base):
    __tablename__ = "ship"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)


try:

    @StrawberrySQLAlchemyMapper().type(Ship)
    class ShipType:
        pass

    seen = "a type"
except UnsupportedColumnType as error:
    seen = str(error).split(".")[0]
print("strawberry-sqlalchemy-mapper 0.9.0, a column of Mapped[uuid.UUID]")
print("  expected: a type")
print(f"  seen:     {seen}")
if seen != "Unsupported column type: `CHAR(32)` on column: `id`":
    print("  that has changed")
    sys.exit(1)
END
