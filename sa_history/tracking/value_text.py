"""Values of attributes as a person reads them, and as JSON: of diffs, and on pages."""

from __future__ import annotations

import datetime
import enum
import json
import math
import re
from decimal import Decimal
from typing import Any

from sa_history.tracking.erased import ERASED

ERASED_JSON = {"erased": True}
"""What JSON has for a value that was erased."""

NOTHING = "—"
"""What is shown for None."""

MAX_LENGTH = 100
"""The default of the greatest number of characters of a value in a diff."""


def as_text(value: Any) -> str:
    """Return a value as a person reads it.

    Times have the zone that they have in Python. Numbers, bool and bytes are written as
    PostgreSQL writes them, enums by their value, lists and dicts as JSON.

    :param value: any value of an attribute.
    :return: text of one line or several, however long.
    """
    if isinstance(value, enum.Enum):
        return as_text(value.value)
    if value == ERASED_JSON:
        return str(ERASED.value)
    if value is None:
        return NOTHING
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, ensure_ascii=False, default=as_text)
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" ")
    return _scalar_text(value)


def as_json(value: Any) -> Any:
    """Return a value as one that :func:`json.dumps` takes, with nothing left out.

    :param value: any value of an attribute.
    :return: None, or a bool, int, float, str, list or dict; a number that floats do not
        hold, as one of ``numeric`` or NaN, is a str.
    """
    if value is ERASED:
        return ERASED_JSON
    if isinstance(value, str) and not isinstance(value, enum.Enum):
        return str(value)
    return json.loads(json.dumps(value, default=_json_text), parse_constant=str)


def as_line(value: Any) -> str:
    """Return a value as text of one line, however long."""
    return _LINE_BREAK.sub("⏎", as_text(value))


def as_texts_that_differ(
    before: Any, after: Any, max_length: int | None
) -> tuple[str, str]:
    """Return two values as text of one line each, shortened to where they differ.

    :param max_length: the greatest number of characters; None for no limit.
    """
    texts = [as_line(value) for value in (before, after)]
    if max_length is None:
        return texts[0], texts[1]
    pairs = enumerate(zip(*texts, strict=False))
    shorter = min(map(len, texts))
    same = next((n for n, (one, other) in pairs if one != other), shorter)
    # Some of what they have in common, so that the place can be found.
    start = max(0, same - max_length // 4) if same >= max_length else 0
    one, other = (_shortened(text, start, max_length) for text in texts)
    return one, other


_LINE_BREAK = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")


def _shortened(text: str, start: int, max_length: int) -> str:
    """Return a part of a text, with an ellipsis where something is left out."""
    if len(text) <= max_length:
        return text
    end = start + max_length
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")


def _scalar_text(value: Any) -> str:
    if isinstance(value, bytes):
        return rf"\x{value.hex()}"
    if isinstance(value, Decimal):
        return format(value, "f")  # never with an exponent
    if isinstance(value, float) and not math.isfinite(value):
        return format(Decimal(value), "f")  # NaN and Infinity
    if isinstance(value, datetime.timedelta) and value < datetime.timedelta():
        return f"-{-value}"  # not as -1 day, 23:00:00
    return str(value)


def _json_text(value: Any) -> Any:
    """Return what JSON has for a value of no type that JSON has."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    return _scalar_text(value)
