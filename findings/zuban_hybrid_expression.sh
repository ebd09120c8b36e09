#!/usr/bin/env bash
# zuban 0.10.2: the documented form of a hybrid's expression is an error.
#
# Expected: @length.inplace.expression over a class method, as SQLAlchemy's page on "Using
#   inplace to create pep-484 compliant hybrid properties" has it, is accepted, as mypy does,
#   whose messages zuban gives.
# Seen: "hybrid_property[int]" not callable, at the line of the function.
# Who meets it: whoever changes from mypy to zuban with models that have hybrids. What helps is
#   `# type: ignore[operator]`, which mypy reports as unused in its strict mode.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet zuban==0.10.2 mypy==2.4.1 sqlalchemy==2.1.9
cat >"$work/program.py" <<'END'
from sqlalchemy import ColumnElement, func
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "user"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]

    @hybrid_property
    def length(self) -> int:
        return len(self.name)

    @length.inplace.expression
    @classmethod
    def _length_expression(cls) -> ColumnElement[int]:
        return func.length(cls.name)
END
"$python" - "$work" <<'END'
import subprocess
import sys
from pathlib import Path

work = Path(sys.argv[1])
environment = {"VIRTUAL_ENV": str(work / "venv"), "PATH": f"{work}/venv/bin:/usr/bin:/bin"}
seen = {}
print("a hybrid with an expression")
for name, command in {"mypy": ["mypy"], "zuban": ["zuban", "mypy"]}.items():
    command = [str(work / "venv/bin" / command[0]), *command[1:], "program.py"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, env=environment)
    seen[name] = [line for line in done.stdout.splitlines() if "error:" in line]
    print(f"  {name}: expected no error, seen {', '.join(seen[name]) or 'none'}")
if seen["mypy"] or not any('"hybrid_property[int]" not callable' in line for line in seen["zuban"]):
    print("  that has changed")
    sys.exit(1)
END
