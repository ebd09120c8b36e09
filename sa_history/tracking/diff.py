"""Diff: the attributes that differ between two versions of a row, as a mapping."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from typing import Any


class Diff(Mapping[str, "tuple[Any, Any]"]):
    """What differs between two versions of a row: ``{attribute: (before, after)}``.

    The values are those of the events' attributes, with their Python types.

    Example::

        for attribute, (before, after) in event.diff.items():
            print(attribute, before, after)
    """

    def __init__(self, changes: Mapping[str, tuple[Any, Any]]) -> None:
        self._changes = dict(changes)

    def __getitem__(self, attribute: str) -> tuple[Any, Any]:
        return self._changes[attribute]

    def __iter__(self) -> Iterator[str]:
        return iter(self._changes)

    def __len__(self) -> int:
        return len(self._changes)

    def __repr__(self) -> str:
        return f"Diff({self._changes!r})"

    def text(self) -> str:
        """Return text with one line for each attribute.

        Example::

            print(event.diff.text())  # price: 4 -> 6
        """
        return "\n".join(
            f"{attribute}: {_shown(before)} -> {_shown(after)}"
            for attribute, (before, after) in self.items()
        )

    def html(self) -> str:
        """Return an HTML table with one row for each attribute, its values escaped.

        Example::

            page = f"<h1>What changed</h1>{event.diff.html()}"
        """
        rows = "".join(
            f'<tr><th scope="row">{html.escape(attribute)}</th>'
            f"<td><del>{html.escape(_shown(before))}</del></td>"
            f"<td><ins>{html.escape(_shown(after))}</ins></td></tr>"
            for attribute, (before, after) in self.items()
        )
        return (
            '<table class="history-diff"><thead><tr><th scope="col">attribute</th>'
            '<th scope="col">before</th><th scope="col">after</th></tr></thead>'
            f"<tbody>{rows}</tbody></table>"
        )


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
