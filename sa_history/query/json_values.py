"""Stored values of the type json as jsonb, which does not take all of them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    ColumnElement,
    Text,
    TypeDecorator,
    and_,
    case,
    cast,
    func,
    or_,
)
from sqlalchemy.dialects.postgresql import JSONB


def as_jsonb(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a column for ``jsonb_build_object``, which does not take all of json.

    The type ``json`` keeps its text as it was given, with escapes and numbers that
    jsonb refuses. Such a value becomes a string: its text.
    """
    if not _has_json(column.type):
        return column
    text = cast(func.to_json(column), Text)
    plain = func.regexp_replace(text, _BACKSLASHES_AND_PAIRS, "", "gi")
    refused = or_(
        plain.regexp_match(_REFUSED, flags="i"),
        and_(func.length(text) > _MAX_DIGITS, text.regexp_match("[0-9]{255}")),
    )
    return case((refused, func.to_jsonb(text)), else_=func.to_jsonb(column))


# An escaped backslash is no escape of what follows; two surrogates are a character.
_BACKSLASHES_AND_PAIRS = r"\\\\|\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}"
# NUL, a surrogate that is alone, and a number that a numeric cannot hold.
_REFUSED = r"\\u(0000|d[89a-f])|(^|[\s:,\[])-?[0-9.]+e[+-]?[0-9]{5,}"
# https://www.postgresql.org/docs/current/datatype-numeric.html
_MAX_DIGITS = 16383


def _has_json(type_: Any) -> bool:
    if isinstance(type_, TypeDecorator):
        return _has_json(type_.impl_instance)
    if isinstance(type_, ARRAY):
        return _has_json(type_.item_type)
    return isinstance(type_, JSON) and not isinstance(type_, JSONB)
