"""Events as files: CSV for spreadsheets, and a JSON object a line for programs."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from typing import Any

from sa_history.sql.readable_json import dumps
from sa_history.timeline.entries import Entry

PART = 500
"""How many events are read and sent at a time."""

COLUMNS = (
    *("id", "time", "user", "operation", "model", "key", "label", "transaction"),
    *("context_id", "context", "data", "diff"),
)
"""The columns of CSV; the last three are JSON."""

HEADER = ",".join(COLUMNS) + "\r\n"
"""The first line of CSV."""


def as_csv(entries: Iterable[Entry]) -> str:
    """Return events as lines of CSV, as RFC 4180 has them."""
    written = io.StringIO()
    rows = csv.writer(written)
    for entry in entries:
        values = entry.as_json()
        rows.writerow([_cell(values[name]) for name in COLUMNS])
    return written.getvalue()


def as_json_lines(entries: Iterable[Entry]) -> str:
    """Return events as JSON, each on a line of its own."""
    return "".join(f"{dumps(entry.as_json())}\n" for entry in entries)


def _cell(value: Any) -> str:
    """Return a value as a cell, which no spreadsheet takes for a formula."""
    if value is None:
        return ""
    text = dumps(value) if isinstance(value, dict) else str(value)
    # https://owasp.org/www-community/attacks/CSV_Injection
    is_formula = text.startswith(_FORMULA) and not _NUMBER.fullmatch(text)
    return f"'{text}" if is_formula else text


_FORMULA = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
    "\n",
    "\uff1d",
    "\uff0b",
    "\uff0d",
    "\uff20",
)
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
