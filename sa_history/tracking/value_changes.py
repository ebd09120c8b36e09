"""What differs within two values: the keys of JSON, and the words of a text."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sa_history.tracking.value_text import NOTHING, as_text

Part: TypeAlias = "tuple[str, bool]"
"""A part of a text, and whether it differs from the other text."""

_MOST_WORDS = 400
"""How many words of two texts are compared; it takes a time by the square of them."""


@dataclass(frozen=True)
class ValueChange:
    """A value that differs, as two texts.

    :param path: the keys and indexes that lead to it within JSON; none for a value as a
        whole.
    :param before: the text before.
    :param after: the text after.
    :param has_words: whether the values are texts or JSON, and no numbers or times.
    """

    path: tuple[str, ...]
    before: str
    after: str
    has_words: bool = True

    def parts(self) -> tuple[list[Part], list[Part]]:
        """Return both texts in parts, with the words that differ apart."""
        if not self.has_words:
            return [(self.before, False)], [(self.after, False)]
        return parts_that_differ(self.before, self.after)


def changes_within(before: Any, after: Any) -> list[ValueChange]:
    """Return what differs between two values of an attribute.

    :param before: a value as JSON has it, or a Python value.
    :param after: the other one.
    :return: a change for each key of JSON that differs, or one of the whole values.
    """
    if _is_nested(before, after):
        found = [*_changes(before, after, ())]
        if found:
            return found
    have_words = all(isinstance(value, _WITH_WORDS) for value in (before, after))
    return [ValueChange((), as_text(before), as_text(after), have_words)]


_WITH_WORDS = (str, dict, list)


def parts_that_differ(before: str, after: str) -> tuple[list[Part], list[Part]]:
    """Return two texts in parts, with the words that differ apart.

    :return: the parts of each. Texts without a word in common are one part that does
        not differ, as there is nothing to tell it from.
    """
    one, other = _words(before), _words(after)
    start = _common(one, other)
    end = _common(one[start:][::-1], other[start:][::-1])
    inner = one[start : len(one) - end], other[start : len(other) - end]
    blocks = [(0, 0, start)]
    if sum(map(len, inner)) <= _MOST_WORDS:
        matcher = difflib.SequenceMatcher(None, *inner, autojunk=False)
        blocks += [
            (start + block.a, start + block.b, block.size)
            for block in matcher.get_matching_blocks()
        ]
    blocks.append((len(one) - end, len(other) - end, end))
    common = (word for at, _, size in blocks for word in one[at : at + size])
    if not any(word.isalnum() for word in common):
        return [(before, False)], [(after, False)]
    return (
        _parts(one, [(at, size) for at, _, size in blocks]),
        _parts(other, [(at, size) for _, at, size in blocks]),
    )


def _is_nested(before: Any, after: Any) -> bool:
    """Return True if two values are objects, or lists of the same length."""
    if isinstance(before, dict) and isinstance(after, dict):
        return True
    are_lists = isinstance(before, list) and isinstance(after, list)
    return are_lists and len(before) == len(after)


def _changes(before: Any, after: Any, path: tuple[str, ...]) -> Iterator[ValueChange]:
    if isinstance(before, dict):
        keys: Sequence[Any] = [*{**before, **after}]
        get: Callable[[Any, Any], Any] = _value_of_key
    else:
        keys, get = range(len(before)), _value_of_index
    for key in keys:
        was, now = get(before, key), get(after, key)
        if _json(was) == _json(now):
            continue
        inner = (*path, str(key))
        if _is_nested(was, now):
            yield from _changes(was, now, inner)
        elif isinstance(was, str) and isinstance(now, str):
            yield ValueChange(inner, was, now)
        else:
            yield ValueChange(inner, _json(was), _json(now))


class _Missing:
    """Stands for the value of a key that an object does not have."""


_MISSING = _Missing()


def _value_of_key(values: Any, key: Any) -> Any:
    return values.get(key, _MISSING)


def _value_of_index(values: Any, index: Any) -> Any:
    return values[index]


def _json(value: Any) -> str:
    """Return a value as JSON, so that 1 and "1" and true are told apart."""
    if value is _MISSING:
        return NOTHING
    return json.dumps(value, ensure_ascii=False, default=as_text)


def _words(text: str) -> list[str]:
    return _WORD.findall(text)


_WORD = re.compile(r"\d+(?:[.,]\d+)*|\w+|\s+|[^\w\s]")


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many words two lists have in common at their beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    shorter = min(len(one), len(other))
    return next((at for at, (word, same) in pairs if word != same), shorter)


def _parts(words: Sequence[str], common: Sequence[tuple[int, int]]) -> list[Part]:
    """Return a text in parts, by where its words are that the other text has."""
    parts: list[Part] = []
    done = 0
    for at, size in common:
        differs, same = "".join(words[done:at]), "".join(words[at : at + size])
        parts += [part for part in ((differs, True), (same, False)) if part[0]]
        done = at + size
    return _merged(parts)


def _merged(parts: Sequence[Part]) -> list[Part]:
    merged: list[Part] = []
    for text, differs in parts:
        if merged and merged[-1][1] == differs:
            merged[-1] = merged[-1][0] + text, differs
        else:
            merged.append((text, differs))
    return merged
