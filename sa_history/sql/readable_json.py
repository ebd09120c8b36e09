"""JSON that Python can always read, whatever PostgreSQL takes, and exact numbers in it.

PostgreSQL takes values that :func:`json.loads` refuses: numbers of more digits than
``sys.get_int_max_str_digits()``, and JSON nested deeper than the stack of Python. One
such value must not keep all other rows from being read, so it is shortened.

JSON does not tell a ``numeric`` from a ``double precision``. Which attributes of a row
have a decimal number, and are read as one, is known from the models.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Text, cast, type_coerce
from sqlalchemy.dialects.postgresql import JSONB

MAX_DEPTH = 100
"""How deep JSON may be nested; what is nested deeper is shown as ``"…"``."""

_SHOWN = 20
"""How many digits are left of a number that is shortened."""

_MAX_DIGITS = 4300
"""How many characters a decimal number may have, as an int in Python by default."""


class _ReadableJSON(JSONB):
    """JSONB whose results are never an error, because they are shortened.

    The database sends text, since drivers parse JSON on their own.

    :param decimals: the keys of an object whose numbers are read as ``Decimal``, with
        all their digits.
    """

    def __init__(self, decimals: Collection[str] = ()) -> None:
        super().__init__()
        self.decimals = frozenset(decimals)

    def adapt(self, cls: Any, **kw: Any) -> Any:
        """Return the type for a dialect: the same, and not the dialect's own."""
        return type(self)(self.decimals)

    def column_expression(self, column: Any) -> ColumnElement[Any]:
        """Return the expression that is selected for a column."""
        return type_coerce(cast(column, Text), self)

    def result_processor(self, dialect: Any, coltype: Any) -> Any:
        """Return the function that reads a result."""
        decimals = self.decimals
        return lambda text: None if text is None else loads(text, decimals)


READABLE_JSON: Any = _ReadableJSON()
"""The type of a jsonb column that can always be read."""


def readable_json(decimals: Collection[str]) -> Any:
    """Return the type of a jsonb column whose objects have exact numbers.

    :param decimals: the keys whose numbers are read as ``Decimal``.
    """
    return _ReadableJSON(decimals)


def loads(text: str, decimals: Collection[str] = ()) -> Any:
    """Return JSON as Python values; what Python cannot hold is shortened.

    :param text: valid JSON.
    :param decimals: the keys whose numbers, in an object, are a ``Decimal`` with all
        their digits, be they in a list as well; other numbers are int and float.
    """
    found = _loads(text)
    if decimals and isinstance(found, dict) and not found.keys().isdisjoint(decimals):
        exact = json.loads(_shallow(text), parse_float=_decimal, parse_int=_decimal)
        found.update((key, exact[key]) for key in found.keys() & decimals)
    return found


def dumps(value: Any) -> str:
    """Return JSON in which a ``Decimal`` is a number with all its digits.

    :param value: what :func:`loads` returns, or made of such values.
    """
    if isinstance(value, dict):
        pairs = (f"{json.dumps(key)}: {dumps(held)}" for key, held in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(dumps, value))}]"
    return format(value, "f") if isinstance(value, Decimal) else json.dumps(value)


def _loads(text: str) -> Any:
    text = _shallow(text)
    try:
        return json.loads(text, parse_float=_float)
    except ValueError:
        return json.loads(text, parse_float=_float, parse_int=_integer)


def _shallow(text: str) -> str:
    """Return JSON that is nested no deeper than Python reads."""
    deep = text.count("[") + text.count("{") > MAX_DEPTH
    return _cut(text) if deep else text


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


def _decimal(text: str) -> Decimal | str:
    return Decimal(text) if len(text) <= _MAX_DIGITS else _shortened(text)


def _shortened(number: str) -> str:
    return f"{number[:_SHOWN]}… ({len(number)} characters)"
