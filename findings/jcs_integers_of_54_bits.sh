#!/usr/bin/env bash
# jcs 0.2.1: integers of more than 53 bits that differ have one canonical form.
#
# Expected: documents that differ have different canonical forms, or an error, as rfc8785
#   raises: RFC 8785 is about the numbers of I-JSON (RFC 7493, 2.2), and what a double cannot
#   hold exactly should be text.
# Seen: 9007199254740993 is written as 9007199254740992, and so is 9007199254740992.
# Who meets it: whoever signs or hashes records with keys of bigint, as those that Snowflake
#   numbering makes: another record has the same signature, and what is read from the
#   canonical form is another row. What helps is text, or rfc8785, which refuses the number.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet jcs==0.2.1 rfc8785==0.1.4

"$python" - <<'END'
import sys
from importlib.metadata import version

import jcs
import rfc8785

one, other = {"id": 9007199254740992}, {"id": 9007199254740993}
seen = jcs.canonicalize(one), jcs.canonicalize(other)
try:
    refused = rfc8785.dumps(other)
except rfc8785.IntegerDomainError as error:
    refused = str(error)
print(f"jcs {version('jcs')}, the canonical forms of {one} and {other}")
print("  expected: two, or an error")
print(f"  seen:     {seen[0].decode()} and {seen[1].decode()}")
print(f"  rfc8785 {version('rfc8785')}: {refused}")
if seen != (b'{"id":9007199254740992}',) * 2:
    print("  that has changed")
    sys.exit(1)
END
