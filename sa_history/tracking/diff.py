"""Diff: the attributes that differ between two versions of a row, as a mapping."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from typing import Any

from sa_history.tracking.value_text import MAX_LENGTH, as_json, as_texts_that_differ


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

    def text(self, *, max_length: int | None = MAX_LENGTH) -> str:
        """Return text for a person, with one line for each attribute.

        Values are written as PostgreSQL writes them: a time with its zone, ``1.50``,
        ``true``, JSON on one line, bytes as hexadecimal digits; an enum by its value.
        None is ``—``, and a line break within a text ``⏎``.

        :param max_length: the greatest number of characters of a value, from 1 on. A
            longer one is shortened, to where the two differ. None for no limit.
        :return: the lines, an empty text if nothing differs.

        Example::

            print(event.diff.text())  # price: 4 -> 6
        """
        return "\n".join(
            f"{attribute}: {before} -> {after}"
            for attribute, before, after in self._texts(max_length)
        )

    def html(self, *, max_length: int | None = MAX_LENGTH) -> str:
        """Return an HTML table with one row for each attribute, all of it escaped.

        :param max_length: as for :meth:`text`, in characters before they are escaped.

        Example::

            page = f"<h1>What changed</h1>{event.diff.html()}"
        """
        rows = "".join(
            f'<tr><th scope="row">{html.escape(attribute)}</th>'
            f"<td><del>{html.escape(before)}</del></td>"
            f"<td><ins>{html.escape(after)}</ins></td></tr>"
            for attribute, before, after in self._texts(max_length)
        )
        return (
            '<table class="history-diff"><thead><tr><th scope="col">attribute</th>'
            '<th scope="col">before</th><th scope="col">after</th></tr></thead>'
            f"<tbody>{rows}</tbody></table>"
        )

    def as_json(self) -> dict[str, dict[str, Any]]:
        """Return what differs, in types that JSON has, with nothing shortened.

        :return: a dict with ``"before"`` and ``"after"`` for each attribute. Dates and
            times are text in ISO format, bytes hexadecimal text, enums their values. A
            ``Decimal`` is text, such as ``"1.50"``, for who reads JSON numbers as
            floats would lose digits of it; NaN and the infinities are text as well.

        Example::

            json.dumps(event.diff.as_json())  # {"price": {"before": 4, "after": 6}}
        """
        return {
            attribute: {"before": as_json(before), "after": as_json(after)}
            for attribute, (before, after) in self.items()
        }

    def _texts(self, max_length: int | None) -> Iterator[tuple[str, str, str]]:
        for attribute, (before, after) in self.items():
            yield attribute, *as_texts_that_differ(before, after, max_length)
