"""JSON that Python can always read, whatever PostgreSQL takes.

PostgreSQL takes values that :func:`json.loads` refuses: numbers of more digits than
``sys.get_int_max_str_digits()``, and JSON nested deeper than the stack of Python. One
such value must not keep all other rows from being read, so it is shortened.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from sqlalchemy import ColumnElement, Text, cast, type_coerce
from sqlalchemy.dialects.postgresql import JSONB

MAX_DEPTH = 100
"""How deep JSON may be nested; what is nested deeper is shown as ``"…"``."""

_SHOWN = 20
"""How many digits are left of a number that is shortened."""


class _ReadableJSON(JSONB):
    """JSONB whose results are never an error, because they are shortened.

    The database sends text, since drivers parse JSON on their own.
    """

    def adapt(self, cls: Any, **kw: Any) -> Any:
        """Return the type for a dialect: the same, and not the dialect's own."""
        return type(self)()

    def column_expression(self, column: Any) -> ColumnElement[Any]:
        """Return the expression that is selected for a column."""
        return type_coerce(cast(column, Text), self)

    def result_processor(self, dialect: Any, coltype: Any) -> Any:
        """Return the function that reads a result."""
        return lambda text: None if text is None else loads(text)


READABLE_JSON: Any = _ReadableJSON()
"""The type of a jsonb column that can always be read."""


def loads(text: str) -> Any:
    """Return JSON as Python values; what Python cannot hold is shortened.

    :param text: valid JSON.
    """
    if text.count("[") + text.count("{") > MAX_DEPTH:
        text = _cut(text)
    try:
        return json.loads(text, parse_float=_float)
    except ValueError:
        return json.loads(text, parse_float=_float, parse_int=_integer)


_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)


def _cut(text: str) -> str:
    """Return JSON without what is nested too deep."""
    depth = end = 0
    kept = []
    for token in _TOKEN.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth == MAX_DEPTH + 1:
                kept.append(text[end : token.start()])
        elif token[0] in "]}":
            if depth == MAX_DEPTH + 1:
                kept.append('"…"')
                end = token.end()
            depth -= 1
    kept.append(text[end:])
    return "".join(kept)


def _integer(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return _shortened(text)


def _float(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else _shortened(text)


def _shortened(number: str) -> str:
    return f"{number[:_SHOWN]}… ({len(number)} characters)"
