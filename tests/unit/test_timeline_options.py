"""The options that the timelines of both frameworks have are explained alike."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

import sa_history.flask
import sa_history.starlette
from sa_history.exc import HistoryError


def options_of(timeline: Callable[..., Any]) -> dict[str, str]:
    """Return the parameters of a timeline that have defaults, with their text."""
    text = inspect.getdoc(timeline) or ""
    found = re.findall(r"^:param (\w+): (.*?)(?=^:|\Z)", text, re.DOTALL | re.MULTILINE)
    explained = {name: " ".join(words.split()) for name, words in found}
    parameters = inspect.signature(timeline).parameters
    assert [*explained] == [*parameters]
    return {
        name: f"{parameter} {explained[name]}"
        for name, parameter in parameters.items()
        if parameter.default is not parameter.empty
    }


def test_the_options_of_both_timelines_are_the_same() -> None:
    of_flask = options_of(sa_history.flask.timeline)
    of_starlette = options_of(sa_history.starlette.timeline)
    # Each of these says more, of its framework.
    own = {"name", "models", "context", "authorize_restore", "authorize_size"}
    shared = of_flask.keys() - own
    assert shared == of_starlette.keys() - own
    assert {n: of_flask[n] for n in shared} == {n: of_starlette[n] for n in shared}


@pytest.mark.parametrize(
    "option",
    sorted(options_of(sa_history.flask.timeline).keys() - {"name", "models", "mask"}),
)
def test_an_option_that_cannot_be_meant_is_refused_when_the_timeline_is_made(
    option: str,
) -> None:
    wrong: dict[str, Any] = {option: 1.5}
    what = "the folder of an archive" if option == "archive" else option
    with pytest.raises(HistoryError, match=f"{what} is .* got 1.5"):
        sa_history.flask.timeline(authorize=lambda: True, **wrong)
