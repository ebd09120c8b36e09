#!/usr/bin/env bash
# marshmallow-sqlalchemy 1.6.0: a column of BIT becomes a field of integers.
#
# Expected: what dump writes, load reads: drivers give the bits as a str, such as '0101'.
# Seen: the converter has postgresql.BIT: fields.Integer, so that '0101' is dumped as 101, and
#   loaded as 101. The zeros in front are lost, and PostgreSQL refuses the integer.
# Who meets it: whoever has flags in a BIT column. What helps is a field of one's own:
#   auto_field(field_class=fields.String) or fields.String().
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet marshmallow-sqlalchemy==1.6.0 marshmallow==4.4.0 \
    SQLAlchemy==2.0.58
"$python" - <<'END'
import sys

from marshmallow_sqlalchemy import SQLAlchemyAutoSchema
from sqlalchemy.dialects.postgresql import BIT
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Lamp(Base):
    __tablename__ = "lamp"

    id: Mapped[int] = mapped_column(primary_key=True)
    flags: Mapped[str] = mapped_column(BIT(4))


class LampSchema(SQLAlchemyAutoSchema):
    class Meta:
        model = Lamp


seen = LampSchema().dump(Lamp(id=1, flags="0101"))["flags"]
print("marshmallow-sqlalchemy 1.6.0, a BIT(4) column with '0101'")
print("  expected: '0101'")
print(f"  seen:     {seen!r}")
if seen != 101:
    print("  that has changed")
    sys.exit(1)
END
