"""The values of a context as JSON has them, and which values are refused."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import re
import uuid
from collections.abc import Mapping
from typing import Any

from sa_history.exc import ContextError

MAX_DEPTH = 100
"""How deep a value may be nested: Python cannot read JSON that is nested too deep."""

_MAX_SHOWN = 200  # characters of a value in an error

_encode_plain = json.JSONEncoder(allow_nan=False).encode

# JSON text that needs a look at each value: NUL, surrogates, lists and dicts.
_NEEDS_A_LOOK = re.compile(r"\\u0000|\\ud[89a-f]|\[|(?<!^)\{")

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # and not a backslash before "u0000"


def stored_values(values: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Return values as JSON has them, and their JSON text if that is known already.

    :param values: any keys and values.
    :return: the text is None for values that were looked at one by one.
    :raises ContextError: a value cannot be stored as JSON; names its key.
    """
    try:
        text = _encode_plain(values)
    except (TypeError, ValueError, RecursionError):
        pass
    else:
        if not _NEEDS_A_LOOK.search(text):
            return dict(values), text
    return {key: _stored_value(key, value) for key, value in values.items()}, None


def _stored_value(key: str, value: Any) -> Any:
    try:
        text = json.dumps(
            {key: value}, default=_encode, allow_nan=False, ensure_ascii=False
        )
        text.encode()  # refuses half a surrogate pair, as PostgreSQL would
        stored = json.loads(text)[key]
        too_deep = text.count("[") + text.count("{") > MAX_DEPTH and _is_deep(stored)
    except RecursionError:
        too_deep = True
    except (TypeError, ValueError) as error:
        raise ContextError(
            f"context value {_shown(key)} is {_shown(value)}, which cannot be stored "
            f"as JSON: {error}; give a string, a number, a list or a dict of such"
        ) from error
    if too_deep:
        raise ContextError(
            f"context value {_shown(key)} is {_shown(value)}, in which lists or dicts "
            f"are nested more than {MAX_DEPTH} deep; give a flatter one"
        )
    if _NUL.search(text):
        raise ContextError(
            f"context value {_shown(key)} is {_shown(value)}, which contains NUL; "
            "PostgreSQL cannot store it in JSON, so remove it"
        )
    return stored


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        inside: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inside += item.values()
            elif isinstance(item, list):
                inside += item
        level = [item for item in inside if isinstance(item, (dict, list))]
        if not level:
            return False
    return True


def _shown(value: Any) -> str:
    """Return a value for an error's text, whatever its ``repr`` does."""
    try:
        text = repr(value)
    except Exception:  # an integer of too many digits, or a class of the application
        text = object.__repr__(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _encode(value: Any) -> Any:
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (uuid.UUID, decimal.Decimal)):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    raise TypeError(f"it contains a {type(value).__name__}")
