#!/usr/bin/env bash
# SQLAlchemy 2.1.9: the repr of an Interval has no precision, and neither has the revision
# that Alembic writes.
#
# Expected: repr(Interval(second_precision=3)) tells the argument, as the repr of Numeric
#   and String does, so that a revision creates what the model says: INTERVAL(3).
# Seen: Interval(). The column that the revision creates has the six digits of INTERVAL.
#   Interval is a TypeDecorator, whose repr looks for the arguments in the implementation,
#   a DateTime, which has none of them.
# Who meets it: whoever writes revisions by autogenerate. What helps is
#   postgresql.INTERVAL(precision=3) in the model.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet alembic==1.20.1 SQLAlchemy==2.1.9

"$python" - <<'END'
import sys

import sqlalchemy as sa
from alembic.autogenerate import render_python_code
from alembic.operations import ops
from sqlalchemy.dialects import postgresql

kept = sa.Column("kept", sa.Interval(second_precision=3))
add = ops.AddColumnOp("t", kept)
revision = render_python_code(ops.UpgradeOps([add]))
line = next(line.strip() for line in revision.splitlines() if "kept" in line)
rendered = eval(repr(kept.type), {"Interval": sa.Interval})
of_model, of_revision = [
    of.compile(dialect=postgresql.dialect()) for of in (kept.type, rendered)
]
print(f"SQLAlchemy {sa.__version__}")
print(f"  expected: sa.Interval(second_precision=3) in the revision, {of_model}")
print(f"  seen:     {line}, {of_revision}")
if "sa.Interval()" not in line or (of_model, of_revision) != ("INTERVAL (3)", "INTERVAL"):
    print("  that has changed")
    sys.exit(1)
END
