"""Runs one section of ``docs/companions.md``, as ``docs/test_pages.py`` runs pages."""

from __future__ import annotations

from pathlib import Path

from docs.test_pages import Page

PAGE = Path(__file__).parents[1] / "docs" / "companions.md"


def section_of(text: str, title: str) -> str:
    """Return a section, with an empty line for each line of the page before it."""
    before, found, rest = text.partition(f"\n## {title}\n")
    assert found, f"{PAGE.name} has no section {title!r}"
    section, _, _ = rest.partition("\n## ")
    return "\n" * (before.count("\n") + 2) + section + "\n"


class Section(Page):
    """A section as it runs; each is for itself."""

    title = ""

    def text(self) -> str:
        """Return the section."""
        return section_of(self.path.read_text(), self.title)
