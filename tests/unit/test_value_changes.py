"""What differs within two values."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from sa_history.tracking.value_changes import changes_within, parts_that_differ


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ("a", "b", [("", "a", "b")]),
        (None, {"a": 1}, [("", "—", '{"a": 1}')]),
        ([1], [1, 2], [("", "[1]", "[1, 2]")]),
        ([1, 2], [1, 3], [("1", "2", "3")]),
        ({"a": 1, "b": 2}, {"b": 3}, [("a", "1", "—"), ("b", "2", "3")]),
        ({}, {"c": None}, [("c", "—", "null")]),
        ({"a": {"b": ["x y", 1]}}, {"a": {"b": ["x z", 1]}}, [("a.b.0", "x y", "x z")]),
        ({"a": 1}, {"a": "1"}, [("a", "1", '"1"')]),
        ({"a": 1}, {"a": True}, [("a", "1", "true")]),
        ({"a": {}}, {"a": []}, [("a", "{}", "[]")]),
        ({"a": Decimal("1.50")}, {"a": Decimal("1.5")}, [("a", '"1.50"', '"1.5"')]),
        ({"a": 1}, {"a": 1}, [("", '{"a": 1}', '{"a": 1}')]),
        (Decimal("1.10"), Decimal("1.1"), [("", "1.10", "1.1")]),
    ],
)  # fmt: skip
def test_keys_of_json_that_differ_are_told_apart(
    before: Any, after: Any, changes: list[tuple[str, str, str]]
) -> None:
    found = changes_within(before, after)
    assert [(".".join(c.path), c.before, c.after) for c in found] == changes


@pytest.mark.parametrize(
    ("before", "after", "marked"),
    [
        ("1 Mill Lane", "2 Mill Lane", ("[1] Mill Lane", "[2] Mill Lane")),
        ("the big dog", "the dog", ("the [big ]dog", "the dog")),
        ("a b c", "a x c y", ("a [b] c", "a [x] c[ y]")),
        ("one two", "three four", ("one two", "three four")),
        ("one, two", "three, four", ("one, two", "three, four")),
        ("", "new", ("", "new")),
        ("same", "same", ("same", "same")),
        ("it is 1.50", "it is 1.5", ("it is [1.50]", "it is [1.5]")),
        ("a a", "a a a", ("a a", "a a[ a]")),
    ],
)
def test_words_that_differ_are_marked(
    before: str, after: str, marked: tuple[str, str]
) -> None:
    def written(parts: list[tuple[str, bool]]) -> str:
        return "".join(f"[{text}]" if differs else text for text, differs in parts)

    one, other = parts_that_differ(before, after)
    assert (written(one), written(other)) == marked
    assert changes_within(before, after)[0].parts() == (one, other)


def test_numbers_and_times_have_no_words() -> None:
    (change,) = changes_within(Decimal("1.50"), Decimal("1.5"))
    assert change.parts() == ([("1.50", False)], [("1.5", False)])


def test_long_texts_are_compared_by_their_ends() -> None:
    one = "begin " + "x y " * 5000 + "end"
    other = "begin " + "z u " * 5000 + "end"
    before, after = parts_that_differ(one, other)
    assert [text for text, _ in before] == ["begin ", ("x y " * 5000)[:-1], " end"]
    assert [differs for _, differs in after] == [False, True, False]
