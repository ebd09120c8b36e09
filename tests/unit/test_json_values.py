"""JSON that Python cannot hold is shortened."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa_history.sql.readable_json import MAX_DEPTH, loads


def nested(depth: int, leaf: str = "1", opening: str = "[") -> str:
    return opening * depth + leaf + ("]" if opening == "[" else "}") * depth


def depth_of(value: Any) -> int:
    depth = 0
    while isinstance(value, (list, dict)) and value:
        value = value[0] if isinstance(value, list) else next(iter(value.values()))
        depth += 1
    return depth


@pytest.mark.parametrize("opening", ["[", '{"a": '])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 1000, 100_000])
def test_what_is_nested_too_deep_is_cut(opening: str, depth: int) -> None:
    found = loads(f'["before", {nested(depth, opening=opening)}, {{"after": 2}}]')
    assert (found[0], found[2]) == ("before", {"after": 2})
    assert depth_of(found[1]) == MAX_DEPTH - 1
    assert json.dumps(found).count('"\\u2026"') == 1


def test_what_is_nested_less_deep_and_what_strings_have_is_left() -> None:
    brackets = '"\\"[[[[{{{{ \\\\"'
    many = f"[{', '.join([brackets] * 100)}, {nested(MAX_DEPTH - 1)}]"
    assert loads(many) == json.loads(many)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1" * 5000, f"{'1' * 20}… (5000 characters)"),
        (f"-{'1' * 4999}", f"-{'1' * 19}… (5000 characters)"),
        (f"{'1' * 400}.5", f"{'1' * 20}… (402 characters)"),
        ("1" * 400, int("1" * 400)),
        ("1.5", 1.5),
        (f'["{"1" * 5000}", 7, {"2" * 5000}]', None),
    ],
)
def test_numbers_that_python_does_not_read_are_shortened(text: str, value: Any) -> None:
    if value is None:
        value = ["1" * 5000, 7, f"{'2' * 20}… (5000 characters)"]
    assert loads(text) == value


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.floats(-1e9, 1e9),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=30,
    )
)
def test_other_json_is_read_as_it_is(value: Any) -> None:
    assert loads(json.dumps(value)) == value
