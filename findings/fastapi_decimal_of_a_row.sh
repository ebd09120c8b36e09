#!/usr/bin/env bash
# FastAPI 0.165.0: a Decimal is a rounded float or a text, by the annotation of the function.
#
# Expected: one form for one value: the page "Extra Data Types" says that a Decimal is "in
#   requests and responses, handled the same as a float".
# Seen: of a function without a return annotation it is a float, so 12345678901234567.89 is
#   1.2345678901234568e+16, and 1.10 is 1.1. With `-> dict[str, Any]` it is a text with all of its
#   digits. A timedelta is a number of seconds in one, and "P1D" in the other.
# Who meets it: whoever returns rows or diffs with Numeric columns as dictionaries: amounts
#   change on the way, and adding an annotation makes texts of numbers for all clients. What
#   helps is to annotate each function from the beginning.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet fastapi==0.165.0

"$python" - <<'END'
import asyncio
import datetime
import sys
from decimal import Decimal
from typing import Any

import fastapi

ROW = {"amount": Decimal("12345678901234567.89"), "term": datetime.timedelta(days=1)}
app = fastapi.FastAPI()


@app.get("/plain")
def plain():
    return ROW


@app.get("/annotated")
def annotated() -> dict[str, Any]:
    return ROW


def body(path):
    """Return what the application answers, by ASGI."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message.get("body", b""))

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
    asyncio.run(app(scope, receive, send))
    return b"".join(sent).decode()


seen = body("/plain"), body("/annotated")
print(f"FastAPI {fastapi.__version__}, a Decimal and a timedelta")
print(f"  expected:                      one form, with all digits of {ROW['amount']}")
print(f"  seen:     without annotation   {seen[0]}")
print(f"            -> dict[str, Any]    {seen[1]}")
if seen != (
    '{"amount":1.2345678901234568e+16,"term":86400.0}',
    '{"amount":"12345678901234567.89","term":"P1D"}',
):
    print("  that has changed")
    sys.exit(1)
END
