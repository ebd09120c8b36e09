#!/usr/bin/env bash
# marshmallow-sqlalchemy 1.6.0: bytes of a LargeBinary column cannot be dumped.
#
# Expected: the schema that SQLAlchemyAutoSchema makes of a model dumps its objects, or is
#   refused as that of a range type is, by ModelConversionError.
# Seen: LargeBinary becomes fields.String, which decodes bytes as UTF-8: UnicodeDecodeError
#   for the first bytes that are none. Bytes that are UTF-8 are dumped as text, and loaded as a
#   str, which drivers refuse for bytea.
# Who meets it: whoever has files or hashes in a column. What helps is fields.Raw, or a field
#   that writes base64.
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
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Upload(Base):
    __tablename__ = "upload"

    id: Mapped[int] = mapped_column(primary_key=True)
    content: Mapped[bytes]


class UploadSchema(SQLAlchemyAutoSchema):
    class Meta:
        model = Upload


try:
    seen = repr(UploadSchema().dump(Upload(id=1, content=b"\xff"))["content"])
except UnicodeDecodeError as error:
    seen = type(error).__name__
loaded = UploadSchema().load({"id": 1, "content": "a"})["content"]
print("marshmallow-sqlalchemy 1.6.0, a column of Mapped[bytes]")
print("  expected: the bytes are dumped, and loaded as bytes")
print(f"  seen:     {seen}, and loaded as {type(loaded).__name__}")
if (seen, type(loaded)) != ("UnicodeDecodeError", str):
    print("  that has changed")
    sys.exit(1)
END
