#!/usr/bin/env bash
# ty 0.0.108, pyrefly 1.5.0: with SQLAlchemy 2.1 what is cast to a class of a type is a property
# or a method.
#
# Expected: cast(User.name, Integer) is an int, as mypy and pyright say, and as both say of
#   cast(User.name, Integer()).
# Seen: ty says `int | property`, and reports `+ 1` as an error. pyrefly says
#   `(self: Integer) -> int`, the method behind the property python_type. Both take it from the
#   protocol of SQLAlchemy 2.1 for whatever has a python_type.
# Who meets it: whoever checks statements with casts. What helps is Integer() with parentheses.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet ty==0.0.108 pyrefly==1.5.0 mypy==2.4.1 sqlalchemy==2.1.9
cat >"$work/program.py" <<'END'
from typing_extensions import reveal_type

from sqlalchemy import Integer, cast, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "user"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def number(session: Session) -> None:
    reveal_type(session.scalars(select(cast(User.name, Integer))).one())
    reveal_type(session.scalars(select(cast(User.name, Integer()))).one())
END
"$python" - "$work" <<'END'
import re
import subprocess
import sys
from pathlib import Path

work = Path(sys.argv[1])
CHECKERS = {
    "mypy": (["mypy"], r'Revealed type is "(.*)"'),
    "ty": (["ty", "check"], r"\^ `(.*)`"),
    "pyrefly": (["pyrefly", "check"], r"revealed type: (.*?) \[reveal-type\]"),
}
seen = {}
print("cast(User.name, Integer), and with Integer()")
for name, (command, revealed) in CHECKERS.items():
    program = str(work / "venv/bin" / command[0])
    command = [program, *command[1:], "program.py"]
    environment = {"VIRTUAL_ENV": str(work / "venv"), "PATH": f"{work}/venv/bin:/usr/bin:/bin"}
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, env=environment)
    seen[name] = re.findall(revealed, done.stdout)
    print(f"  {name}: expected int and int, seen {' and '.join(seen[name])}")
if seen != {
    "mypy": ["int", "int"],
    "ty": ["int | property", "int"],
    "pyrefly": ["(self: Integer) -> int", "int"],
}:
    print("  that has changed")
    sys.exit(1)
END
