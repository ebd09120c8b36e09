#!/usr/bin/env bash
# sqlacodegen 4.0.4: where GeoAlchemy2 is installed, the generated code begins with a line
# that is no Python.
#
# Expected: what it writes to the standard output is the model code, as in the README:
#   "sqlacodegen postgresql:///some_local_db", so that "> models.py" makes a module.
# Seen: "Using geoalchemy2 0.20.0" comes first, in the standard output and not in the standard
#   error. The module is a SyntaxError. pgvector does the same.
# Who meets it: whoever generates code in an environment that has one of these packages, for
#   whatever database. What helps is --outfile.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet sqlacodegen==4.0.4 SQLAlchemy==2.0.58 \
    GeoAlchemy2==0.20.0
"$python" - <<'END'
import subprocess
import sys

command = [sys.executable, "-m", "sqlacodegen", "sqlite://"]
code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
try:
    compile(code, "models.py", "exec")
    seen = "Python"
except SyntaxError:
    seen = code.splitlines()[0]
print("sqlacodegen 4.0.4 beside GeoAlchemy2 0.20.0, its standard output")
print("  expected: Python")
print(f"  seen:     {seen}")
if seen != "Using geoalchemy2 0.20.0":
    print("  that has changed")
    sys.exit(1)
END
