#!/usr/bin/env bash
# advanced-alchemy 1.12.0: upsert_many returns its objects in another order than it was given.
#
# Expected: the objects come in the order of the list, as from add_many, so that
#   zip(given, returned) pairs them.
# Seen: of a list whose first is known by match_fields and whose second is new, the new one is
#   returned first. It is the same with SQLite, which the script uses, and with PostgreSQL.
# Who meets it: whoever answers a bulk request with the keys of what was sent. What helps is to
#   look the objects up by the fields that were matched.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet advanced-alchemy==1.12.0 SQLAlchemy==2.0.58
"$python" - <<'END'
import sys

from advanced_alchemy.base import BigIntBase
from advanced_alchemy.repository import SQLAlchemySyncRepository
from sqlalchemy import create_engine
from sqlalchemy.orm import Mapped, Session


class Author(BigIntBase):
    __tablename__ = "author"

    name: Mapped[str]


class Authors(SQLAlchemySyncRepository[Author]):
    model_type = Author


engine = create_engine("sqlite://")
Author.metadata.create_all(engine)
with Session(engine) as session:
    authors = Authors(session=session)
    added = authors.add_many([Author(name="known"), Author(name="other")])
    added = [author.name for author in added]
    given = [Author(name="known"), Author(name="new")]
    returned = authors.upsert_many(given, match_fields=["name"])
    returned = [author.name for author in returned]
print("advanced-alchemy 1.12.0")
print(f"  add_many of known, other:   {', '.join(added)}")
print("  upsert_many of known, new: expected known, new")
print(f"                             seen     {', '.join(returned)}")
if (added, returned) != (["known", "other"], ["new", "known"]):
    print("  that has changed")
    sys.exit(1)
END
