"""The page of companions lists what is run, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from companions.pages import PAGE, section_of
from companions.table import COMPANIONS, table

MODULES = {
    path.stem.removeprefix("test_"): path.read_text()
    for path in Path(PAGE.parents[1], "companions").glob("test_*.py")
}


def test_each_companion_has_a_module_and_each_module_a_companion() -> None:
    assert set(COMPANIONS) == set(MODULES)


def test_the_page_has_the_table() -> None:
    # python -m companions.table
    assert table() in PAGE.read_text()


def test_the_page_has_no_other_sections() -> None:
    titles = re.findall(r"^## (.+)$", PAGE.read_text(), re.MULTILINE)
    assert titles == [companion.title for companion in COMPANIONS.values()]


@pytest.mark.parametrize("name", COMPANIONS)
def test_each_section_has_a_block_that_its_module_runs(name: str) -> None:
    section = section_of(PAGE.read_text(), COMPANIONS[name].title)
    assert "```python\n" in section
    assert "documentation()" in MODULES[name] or "section_of(" in MODULES[name]


@pytest.mark.parametrize("name", COMPANIONS)
def test_each_companion_is_pinned(name: str) -> None:
    for requirement in COMPANIONS[name].requirements:
        assert re.fullmatch(r"[\w.\[\]-]+==[\w.]+", requirement)
