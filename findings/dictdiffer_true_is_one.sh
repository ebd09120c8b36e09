#!/usr/bin/env bash
# dictdiffer 0.10.0 and jsondiff 2.2.1: the change from 1 to True is no change.
#
# Expected: of two JSON documents, {"a": 1} and {"a": true}, the difference is told, and
#   patch(diff(before, after), before) gives the second one, as by jsonpatch.
# Seen: no difference by either of them, as Python has it that 1 == True, and 1 == 1.0. The
#   patched document is the first one.
# Who meets it: whoever keeps the changes of documents in place of the documents: a flag that
#   was a number before is one for ever. What helps is to compare with jsonpatch.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet dictdiffer==0.10.0 jsondiff==2.2.1 jsonpatch==1.48

"$python" - <<'END'
import json
import sys

import dictdiffer
import jsondiff
import jsonpatch

BEFORE, AFTER = {"active": 1, "rate": 1}, {"active": True, "rate": 1.0}
seen = {
    "dictdiffer": dictdiffer.patch(dictdiffer.diff(BEFORE, AFTER), BEFORE),
    "jsondiff": jsondiff.patch(BEFORE, jsondiff.diff(BEFORE, AFTER)),
    "jsonpatch": jsonpatch.make_patch(BEFORE, AFTER).apply(BEFORE),
}
seen = {name: json.dumps(document) for name, document in seen.items()}
print("dictdiffer 0.10.0, jsondiff 2.2.1, jsonpatch 1.48")
print(f"  expected: {json.dumps(AFTER)} by each of them")
for name, document in seen.items():
    print(f"  seen, {name + ':':11} {document}")
if seen != {
    "dictdiffer": json.dumps(BEFORE),
    "jsondiff": json.dumps(BEFORE),
    "jsonpatch": json.dumps(AFTER),
}:
    print("  that has changed")
    sys.exit(1)
END
