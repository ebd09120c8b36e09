#!/usr/bin/env bash
# pytest-alembic 0.13.1: --test-alembic fails with pytest 9.2.
#
# Expected: its requirement is pytest>=7.0, so that the tests of --test-alembic are collected
#   with the newest pytest.
# Seen: AttributeError: 'TestCollector' object has no attribute '_nodeid', at the collection.
#   With pytest 8.4.2 they are collected.
# Who meets it: whoever updates pytest. What helps is pytest<9, or tests of one's own that
#   import those of pytest_alembic.tests.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet pytest-alembic==0.13.1 alembic==1.20.1 \
    SQLAlchemy==2.1.9
"$python" - <<'END'
import subprocess
import sys
import tempfile
from pathlib import Path


def collected(version):
    """Return what the collection says with a version of pytest."""
    install = [sys.executable, "-m", "pip", "install", "--quiet", f"pytest=={version}"]
    subprocess.run(install, check=True)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "tests").mkdir()
        Path(folder, "tests", "conftest.py").touch()
        options = ["--test-alembic", "--collect-only", "-q", "--rootdir=."]
        command = [sys.executable, "-m", "pytest", *options]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    errors = [line[4:] for line in lines if line.startswith("E   ")]
    return errors[0] if errors else f"{sum('::' in line for line in lines)} tests"


old, new = collected("8.4.2"), collected("9.2.0")
print("pytest-alembic 0.13.1, --test-alembic --collect-only")
print(f"  pytest 8.4.2: {old}")
print("  pytest 9.2.0: expected: 4 tests")
print(f"                seen:     {new}")
missing = "AttributeError: 'TestCollector' object has no attribute '_nodeid'"
if (old, new) != ("4 tests", missing):
    print("  that has changed")
    sys.exit(1)
END
