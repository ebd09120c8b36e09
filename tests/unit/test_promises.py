"""Pages that name tests as a proof: the tests are there, and no promise has none."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/*/*.md"))
    if "_build" not in path.parts and "tests/" in path.read_text()
]
GUARANTEES = ROOT / "docs" / "guarantees.md"
FROM_PGHISTORY = ROOT / "docs" / "from_pghistory.md"

_CITED = re.compile(r"(?P<path>tests/[\w/]*\w(?:\.py)?)(?:::(?P<test>\w+))?")
_ITEM = re.compile(r"^(?:- |\d+\. )\*\*(?P<said>.+?)\*\*", re.MULTILINE | re.DOTALL)


@cache
def names_in(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.name.startswith("test_")
    }


def section(page: Path, title: str) -> str:
    """Return a page from a heading on, up to the next of its kind."""
    _, _, rest = page.read_text().partition(f"\n## {title}\n")
    assert rest, f"{page.name} has no section {title!r}"
    return rest.partition("\n## ")[0]


def promises(text: str) -> dict[str, str]:
    """Return the items of lists that begin with a sentence in bold, by it."""
    starts = [*_ITEM.finditer(text)]
    ends = [match.start() for match in starts[1:]] + [len(text)]
    return {
        " ".join(match["said"].split()): text[match.end() : end]
        for match, end in zip(starts, ends, strict=True)
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_test_that_a_page_names_is_there(page: Path) -> None:
    for cited in _CITED.finditer(page.read_text()):
        path = ROOT / cited["path"]
        assert path.exists(), cited[0]
        if cited["test"]:
            assert cited["test"] in names_in(path), cited[0]


@pytest.mark.parametrize(
    "title",
    [
        "Nothing is lost",
        "Nothing is wrong",
        "Nobody is let in",
        "Nothing is forgotten",
        "Versions",
    ],
)
def test_each_promise_names_a_test(title: str) -> None:
    made = promises(section(GUARANTEES, title))
    assert made
    unproved = {said for said, proof in made.items() if "::test_" not in proof}
    assert unproved == set()


def test_each_behaviour_that_users_of_django_pghistory_rely_on_names_a_test() -> None:
    behaviours = promises(section(FROM_PGHISTORY, "What it does, and better"))
    assert len(behaviours) == 30
    unproved = {said for said, proof in behaviours.items() if "::test_" not in proof}
    assert unproved == set()
