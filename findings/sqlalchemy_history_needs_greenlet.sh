#!/usr/bin/env bash
# sqlalchemy-history 2.2.1: beside SQLAlchemy 2.1 it cannot be imported.
#
# Expected: pip installs what `import sqlalchemy_history` needs, for sync code at least.
# Seen: ImportError: it imports sqlalchemy.ext.asyncio, which needs greenlet, and SQLAlchemy
#   2.1 does not bring greenlet any more unless it is installed as `sqlalchemy[asyncio]`.
# Who meets it: whoever goes from SQLAlchemy 2.0 to 2.1: the same requirements install, and
#   the application does not start. What helps is to require greenlet.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

check() {
    "$python" -m pip install --quiet sqlalchemy-history==2.2.1 "$@"
    if "$python" -c "import sqlalchemy_history" 2>"$work/error"; then
        echo "imported"
    else
        tail -n 1 "$work/error" | cut -d : -f 1
    fi
}

beside_2_1=$(check SQLAlchemy==2.1.9)
with_greenlet=$(check SQLAlchemy==2.1.9 greenlet==3.5.6)
echo "sqlalchemy-history 2.2.1"
echo "  expected: imported"
echo "  seen:     beside SQLAlchemy 2.1.9 $beside_2_1, with greenlet $with_greenlet"
if [ "$beside_2_1, $with_greenlet" != "ImportError, imported" ]; then
    echo "  that has changed"
    exit 1
fi
