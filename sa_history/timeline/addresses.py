"""The addresses of the pages."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

STYLE = "history.css"
"""The name of the style sheet, in the folder ``static``."""

Arguments = Mapping[str, Sequence[Any]]
"""The values of each argument of a query string."""


@dataclass(frozen=True)
class Route:
    """The address of a page, for the router of a framework.

    :param page: the name of the page, and of the method of ``Pages`` that shows it.
    :param rule: the path after the root, with parts such as ``<int:number>``.
    :param name: the name of the route; that of the page, if empty.
    :param methods: the methods of HTTP that lead to the page.
    """

    page: str
    rule: str
    name: str = ""
    methods: tuple[str, ...] = ("GET",)


_FORM = ("GET", "POST")

ROUTES = (
    Route("events", "/"),
    Route("chart", "/chart"),
    Route("size", "/size"),
    Route("csv", "/export.csv"),
    Route("json_lines", "/export.jsonl"),
    Route("context", "/contexts/<uuid:context_id>"),
    Route("transaction", "/transactions/<int:number>"),
    Route("object", "/objects/<table>/<path:key>"),
    Route("object", "/objects/<table>", "object_by_key"),
    # By GET they show what would be done.
    Route("undo_context", "/contexts/<uuid:context_id>/undo", methods=_FORM),
    Route("undo_transaction", "/transactions/<int:number>/undo", methods=_FORM),
    Route("restore", "/restore/<table>/<event_id>", methods=_FORM),
    Route("seal", "/seals/<table>/<event_id>", methods=_FORM),
    Route("nothing", "/<path:path>"),
)
"""The pages; the first one whose rule is met counts."""


@dataclass(frozen=True)
class Addresses:
    """The addresses of a timeline, for links.

    :param root: as ``PageRequest`` has it.
    """

    root: str

    @property
    def style(self) -> str:
        """The address of the style sheet."""
        return f"{self.root}/static/{STYLE}"

    def events(self, arguments: Arguments | None = None) -> str:
        """Return the address of the list of events."""
        return self._address("/", arguments)

    def csv(self, arguments: Arguments | None = None) -> str:
        """Return the address of the export as CSV."""
        return self._address("/export.csv", arguments)

    def json_lines(self, arguments: Arguments | None = None) -> str:
        """Return the address of the export as a JSON object a line."""
        return self._address("/export.jsonl", arguments)

    def chart(self, arguments: Arguments | None = None) -> str:
        """Return the address of the chart of changes a day."""
        return self._address("/chart", arguments)

    def size(self, arguments: Arguments | None = None) -> str:
        """Return the address of how large event tables are."""
        return self._address("/size", arguments)

    def context(self, context_id: uuid.UUID, arguments: Arguments | None = None) -> str:
        """Return the address of what was changed in a context."""
        return self._address(f"/contexts/{context_id}", arguments)

    def transaction(self, number: int, arguments: Arguments | None = None) -> str:
        """Return the address of what a transaction changed."""
        return self._address(f"/transactions/{number}", arguments)

    def object(self, table: str, key: str, arguments: Arguments | None = None) -> str:
        """Return the address of an object's page.

        A path loses slashes and dots on its way; keys that have such are an argument.
        """
        path, given = f"/objects/{as_segment(table)}", {**(arguments or {})}
        if is_path(key):
            return self._address(f"{path}/{quote(key)}", given)
        return self._address(path, {**given, "key": [key]})

    def undo_context(self, context_id: uuid.UUID) -> str:
        """Return the address that undoes by POST what was changed in a context."""
        return self._address(f"/contexts/{context_id}/undo", None)

    def undo_transaction(self, number: int) -> str:
        """Return the address that undoes a transaction by POST."""
        return self._address(f"/transactions/{number}/undo", None)

    def restore(self, table: str, event_id: int) -> str:
        """Return the address that restores an event by POST."""
        return self._address(f"/restore/{as_segment(table)}/{event_id}", None)

    def seal(self, table: str, event_id: int) -> str:
        """Return the address of the seal of an event, which is verified by POST."""
        return self._address(f"/seals/{as_segment(table)}/{event_id}", None)

    def _address(self, path: str, arguments: Arguments | None) -> str:
        query = urlencode(arguments or {}, doseq=True)
        return f"{self.root}{path}{'?' if query else ''}{query}"


def as_segment(table: str) -> str:
    """Return the name of a table as one part of a path.

    Servers take an escaped slash for a slash before any router sees it, so slashes are
    written as https://www.rfc-editor.org/rfc/rfc6901#section-3 does.
    """
    return quote(table.replace("~", "~0").replace("/", "~1"), safe="")


def from_segment(segment: str) -> str:
    """Return the name of a table, given as one part of a path."""
    return segment.replace("~1", "/").replace("~0", "~")


def is_path(key: str) -> bool:
    """Return True if the key of a row can be a part of a path."""
    return bool(_PLAIN.fullmatch(key)) and not {".", ".."} & {*key.split("/")}


_PLAIN = re.compile(r"[^/\\\x00-\x1f\x7f]+(/[^/\\\x00-\x1f\x7f]+)*")
