"""Frames: which id and which keys a context has, after changes around it too."""

from __future__ import annotations

import copy
import json
from decimal import Decimal
from typing import Any

import pytest

from sa_history.contexts.frame import ContextFrame, LazyFrame
from sa_history.exc import ContextError


def keys(frame: ContextFrame) -> Any:
    return json.loads(frame.settings[1])


def test_a_frame_keeps_its_id_when_it_is_annotated() -> None:
    outer = ContextFrame({"a": 1})
    inner = ContextFrame({"b": 2}, outer)
    before = inner.settings
    outer.annotate({"c": 3})
    assert keys(inner) == {"a": 1, "b": 2, "c": 3}
    assert inner.settings[::2] == before[::2] == (str(inner.id), str(outer.id))


def test_a_lazy_frame_keeps_its_id_when_values_are_added() -> None:
    values = {"a": 1}
    frame = LazyFrame(lambda: values)
    before = frame.settings[0]
    values["b"] = 2
    assert keys(frame) == {"a": 1, "b": 2}
    assert frame.settings[0] == before


@pytest.mark.parametrize("change", [{"a": 2}, {}], ids=["replaced", "removed"])
def test_a_lazy_frame_and_those_inside_get_another_id_when_a_value_is_replaced(
    change: dict[str, Any],
) -> None:
    values = {"a": 1}
    outer = LazyFrame(lambda: values)
    inner = ContextFrame({"b": 2}, outer)
    innermost = ContextFrame({"c": 3}, inner)
    before = innermost.settings, inner.settings, outer.settings
    values.clear()
    values.update(change)
    assert keys(innermost) == {**change, "b": 2, "c": 3}
    after = innermost.settings, inner.settings, outer.settings
    assert not {id_ for id_, _, _ in before} & {id_ for id_, _, _ in after}
    assert [after[0][2], after[1][2]] == [after[1][0], after[2][0]]
    assert innermost.settings == after[0]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["a"], ["a", "b"]),
        ({"a": [1]}, {"a": [1, 2]}),
        (1, True),
        (False, 0),
        (1, 1.0),
        (0.0, -0.0),
        (Decimal("1.0"), Decimal("1.00")),
        (None, "null"),
    ],
    ids=str,
)
def test_a_lazy_frame_sees_a_value_that_is_stored_as_another_though_it_may_be_equal(
    before: Any, after: Any
) -> None:
    value = copy.deepcopy(before)
    frame = LazyFrame(lambda: {"a": 0, "value": value})
    first = frame.settings
    assert frame.settings is first
    if isinstance(value, list):
        value[:] = after  # in place
    elif isinstance(value, dict):
        value.update(after)
    else:
        value = after
    assert frame.settings[0] != first[0]
    stored = json.dumps(after) if not isinstance(after, Decimal) else f'"{after}"'
    assert frame.settings[1] == f'{{"a": 0, "value": {stored}}}'


def test_annotated_keys_of_a_lazy_frame_win_and_stay() -> None:
    values = {"user": "late"}
    frame = LazyFrame(lambda: values)
    frame.annotate({"user": "annotated", "step": 1})
    assert keys(frame) == {"user": "annotated", "step": 1}
    values["user"] = "later"
    values["tenant"] = "t"
    assert keys(frame) == {"user": "annotated", "step": 1, "tenant": "t"}
    with pytest.raises(ContextError, match="'step' is"):
        frame.annotate({"user": "refused", "step": object()})
    assert keys(frame) == {"user": "annotated", "step": 1, "tenant": "t"}


def test_a_frame_that_is_nested_in_its_own_parent_is_itself() -> None:
    outer = ContextFrame({"a": 1})
    inner = ContextFrame({"b": 2}, ContextFrame({}, outer))
    assert inner.nested_in(outer) is inner


def test_a_frame_that_is_nested_in_another_has_the_keys_of_both() -> None:
    values = {"c": 3}
    frame, outer = ContextFrame({"b": 2}), LazyFrame(lambda: values)
    copy = frame.nested_in(outer)
    assert copy is frame.nested_in(outer)
    assert keys(copy) == {"b": 2, "c": 3}
    before = copy.settings[0]
    frame.annotate({"d": 4})
    assert keys(copy) == {"b": 2, "c": 3, "d": 4}
    assert copy.settings[0] == before != frame.settings[0]
