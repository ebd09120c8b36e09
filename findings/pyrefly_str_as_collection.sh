#!/usr/bin/env bash
# pyrefly 1.5.0: a str is taken for a Collection[int].
#
# Expected: a str is a Collection[str], and passing it for a Collection[int] is reported,
#   as it is for a Sequence[int], and as mypy does for both.
# Seen: nothing is reported for Collection[int].
# Who meets it: functions that take several keys or columns, and are passed one text by
#   mistake. What helps is to annotate the parameter with Sequence.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet pyrefly==1.5.0 mypy==2.4.1

cat >"$work/keys.py" <<'END'
from collections.abc import Collection, Sequence


def in_order(keys: Sequence[int]) -> None: ...


def in_any_order(keys: Collection[int]) -> None: ...


in_order("12")
in_any_order("12")
END
cd "$work"
mypy=$("$work/venv/bin/mypy" --strict keys.py || true)
pyrefly=$("$work/venv/bin/pyrefly" check --preset strict --output-format min-text \
    keys.py 2>/dev/null || true)
"$work/venv/bin/pyrefly" --version
echo "expected: errors as of mypy"
grep "error:" <<<"$mypy"
echo "seen:"
echo "$pyrefly"
if ! grep --quiet "in_any_order" <<<"$mypy" || ! grep --quiet "in_order" <<<"$pyrefly" ||
    grep --quiet "in_any_order" <<<"$pyrefly"
then
    echo "that has changed"
    exit 1
fi
