#!/usr/bin/env bash
# deepdiff 9.1.0: True in place of 1 is no difference in a list, though it is in a dictionary.
#
# Expected: DeepDiff([1, 2], [True, 2]) tells that a number became a boolean, as it does for
#   {"a": 1} and {"a": True}, and for the lists with ignore_order=True.
# Seen: {} for the lists, and for [1] and [1.0]. A Delta of it leaves the list as it was.
# Who meets it: whoever shows or stores what changed between two versions of a JSON document,
#   where 1 and true are other values. What helps is ignore_order=True, or to compare the
#   texts of the documents first.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet deepdiff==9.1.0

"$python" - <<'END'
import json
import sys
from importlib.metadata import version

from deepdiff import DeepDiff, Delta

BEFORE, AFTER = {"flags": [1, 2]}, {"flags": [True, 2]}
in_dictionary = list(DeepDiff({"flag": 1}, {"flag": True}))
in_list = list(DeepDiff(BEFORE, AFTER))
unordered = list(DeepDiff(BEFORE, AFTER, ignore_order=True))
patched = json.dumps(BEFORE + Delta(DeepDiff(BEFORE, AFTER)))
print(f"deepdiff {version('deepdiff')}")
print(f"  expected: ['type_changes'], and {json.dumps(AFTER)} by the delta")
print(f"  seen in a dictionary:            {in_dictionary}")
print(f"  seen in a list:                  {in_list}, and {patched} by the delta")
print(f"  seen in a list without an order: {unordered}")
if (in_dictionary, in_list, unordered, patched) != (
    ["type_changes"],
    [],
    ["type_changes"],
    json.dumps(BEFORE),
):
    print("  that has changed")
    sys.exit(1)
END
