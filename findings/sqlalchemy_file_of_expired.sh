#!/usr/bin/env bash
# sqlalchemy-file 0.7.0: the old file stays in the storage if its column was not read before
# it is replaced.
#
# Expected: "After commit, old files are automatically deleted": one file is left when the
#   column got another one.
# Seen: after a commit the attribute is expired. If a new file is assigned then, SQLAlchemy's
#   history of the attribute does not know the old value, and the old file is never deleted.
#   If the column was read between, it is.
# Who meets it: whoever loads an object in one transaction and replaces its file in the next,
#   as with a session that lives for a request with two commits. What helps is to read it before.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet sqlalchemy-file==0.7.0 fasteners==0.20 \
    SQLAlchemy==2.0.58
"$python" - <<'END'
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from libcloud.storage.drivers.local import LocalStorageDriver
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy_file import File, FileField
from sqlalchemy_file.storage import StorageManager


class Base(DeclarativeBase):
    pass


class Contract(Base):
    __tablename__ = "contract"

    id: Mapped[int] = mapped_column(primary_key=True)
    content = mapped_column(FileField)


def files_left(is_read):
    """Return how many files are left when one was replaced."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "files").mkdir()
        container = LocalStorageDriver(folder).get_container("files")
        StorageManager._storages.clear()
        StorageManager._default_storage_name = None
        StorageManager.add_storage("default", container)
        engine = create_engine("sqlite://")
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            contract = Contract(content=File(content=BytesIO(b"one")))
            session.add(contract)
            session.commit()
            if is_read:
                contract.content
            contract.content = File(content=BytesIO(b"two"))
            session.commit()
        names = [each.name for each in container.list_objects()]
        return len([name for name in names if not name.endswith(".metadata.json")])


seen = files_left(is_read=True), files_left(is_read=False)
print("sqlalchemy-file 0.7.0, files that are left when one was replaced")
print("  expected: 1 if the column was read before, 1 if it was not")
print(f"  seen:     {seen[0]} if the column was read before, {seen[1]} if it was not")
if seen != (1, 2):
    print("  that has changed")
    sys.exit(1)
END
