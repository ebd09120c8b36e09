#!/usr/bin/env bash
# pyrefly 1.5.0: a mapped attribute that a subclass declares anew keeps the type of the
# base.
#
# Expected: Child.note is a str | None, as Child declares, and as mypy says. A declaration
#   of a subclass takes the place of that of its base.
# Seen: Any, the type of the base, for a declaration without a value, whose type is a
#   descriptor, as Mapped of SQLAlchemy is.
# Who meets it: models with a mixin or an abstract base that declares an attribute
#   generally, and subclasses that say more: pyrefly checks nothing of such an attribute.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet pyrefly==1.5.0 mypy==2.4.1 SQLAlchemy==2.1.9

cat >"$work/model.py" <<'END'
from typing import Any

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    note: Mapped[Any]


class Child(Base):
    __tablename__ = "child"
    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str | None]


def show(child: Child) -> None:
    reveal_type(child.note)
END
cd "$work"
mypy=$("$work/venv/bin/mypy" --strict model.py || true)
pyrefly=$("$work/venv/bin/pyrefly" check --python-interpreter-path "$python" \
    --output-format min-text model.py 2>/dev/null || true)
"$work/venv/bin/pyrefly" --version
echo "expected: $(head -n 1 <<<"$mypy")"
echo "seen:     $pyrefly"
if ! grep --quiet 'type is "str | None"' <<<"$mypy" ||
    ! grep --quiet "type: Any" <<<"$pyrefly"
then
    echo "that has changed"
    exit 1
fi
