"""Runs the pages of this directory as tests: what they show is what happens.

A page is one test, with a database of its own. Its blocks run from top to bottom in
one namespace:

- ``python``: run as they are; what a block prints has to stand in the ``text``
  block after it, where ``...`` stands for anything.
- ``sql``: run by a connection of its own, in autocommit like psql; the rows go the
  same way.

Blocks of other languages are not run. ``DATABASE_URL`` below is what pages have for
the URL of their database. A block in an HTML comment is run but not shown; it is for
what a reader has elsewhere.

One test for a page, and not one for a block, because pytest-xdist may run the tests of
one file in several processes.
"""

from __future__ import annotations

import contextlib
import difflib
import doctest
import io
import re
import sys
import traceback
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL, Engine
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase, close_all_sessions

pytest_plugins = ["sa_history.testing.plugin"]

DATABASE_URL = "postgresql+psycopg://localhost/shop"
HERE = Path(__file__).parent

_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    code: str
    line: int


def blocks_of(text: str) -> Iterator[Block]:
    """Give the blocks of a page, without the indentation of a list's item."""
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("code"))
        code = re.sub(f"^{match['indent']}", "", match["code"], flags=re.MULTILINE)
        yield Block(match["language"], code, line)


class PageError(Exception):
    """A page does not show what happens."""


class Page:
    """A page as it runs: its namespace, its database, and what it has printed."""

    def __init__(self, path: Path, url: URL) -> None:
        self.path, self.url = path, url
        self.module = types.ModuleType(f"docs_{path.stem}")
        self.printed = ""
        self.printed_at = 0

    def run(self) -> None:
        """Run the blocks of the page, and compare what they print."""
        # Mapped[...] annotations are looked up in the class's module.
        sys.modules[self.module.__name__] = self.module
        try:
            for block in blocks_of(self.path.read_text()):
                self._run_block(block)
            self._nothing_printed()
        finally:
            self._clean_up()

    def _run_block(self, block: Block) -> None:
        if block.language == "text":
            self._compare(block)
        elif block.language in ("python", "sql"):
            self._nothing_printed()
            self.printed_at = block.line
            if block.language == "python":
                self.printed = self._run_python(block)
            else:
                self.printed = self._run_sql(block)

    def _run_python(self, block: Block) -> str:
        url = self.url.render_as_string(hide_password=False)
        source = "\n" * block.line + block.code.replace(DATABASE_URL, url)
        code = compile(source, str(self.path), "exec", dont_inherit=True)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, vars(self.module))
        return printed.getvalue()

    def _run_sql(self, block: Block) -> str:
        url = self.url.set(drivername="postgresql")
        tables = []
        with psycopg.connect(
            url.render_as_string(hide_password=False), autocommit=True
        ) as connection:
            # The path names the line in the traceback of an error.
            cursor = connection.execute(block.code.encode())
            while True:
                if cursor.description is not None:
                    tables.append(_as_table(cursor))
                if not cursor.nextset():
                    return "\n".join(tables)

    def _compare(self, block: Block) -> None:
        checker = doctest.OutputChecker()
        if not checker.check_output(block.code, self.printed, doctest.ELLIPSIS):
            diff = difflib.unified_diff(
                block.code.splitlines(), self.printed.splitlines(), "page", "printed"
            )
            where = f"{self.path.name}:{block.line}"
            raise PageError("\n".join([f"{where}: other output", *diff]))
        self.printed = ""

    def _nothing_printed(self) -> None:
        if self.printed:
            where = f"{self.path.name}:{self.printed_at}"
            raise PageError(f"{where}: its output is not shown:\n{self.printed}")

    def _clean_up(self) -> None:
        close_all_sessions()
        for value in vars(self.module).values():
            if isinstance(value, AsyncEngine):
                value.sync_engine.dispose()
            elif isinstance(value, Engine):
                value.dispose()
            elif isinstance(value, type) and DeclarativeBase in value.__bases__:
                value.registry.dispose()
        del sys.modules[self.module.__name__]


def _as_table(cursor: psycopg.Cursor[Any]) -> str:
    """Return the rows as psql shows them, but text of several lines as it is."""
    assert cursor.description is not None
    header = [column.name for column in cursor.description]
    rows = [["" if v is None else _as_text(v) for v in row] for row in cursor]
    if len(header) == 1 and any("\n" in value for row in rows for value in row):
        return "\n".join(value.rstrip("\n") for (value,) in rows) + "\n"
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: list[str]) -> str:
        padded = (c.ljust(w) for c, w in zip(cells, widths, strict=True))
        return " " + " | ".join(padded).rstrip()

    ruler = "-" + "-+-".join("-" * width for width in widths) + "-"
    return "\n".join([line(header), ruler, *map(line, rows), ""])


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "t" if value else "f"
    return str(value)


class PageItem(pytest.Item):
    """The test of a page."""

    def setup(self) -> None:
        """Ask for the page's database."""
        self.fixtures: dict[str, Any] = {}
        self._request._fillfixtures()

    def runtest(self) -> None:
        """Run the page."""
        Page(self.path, self.funcargs["pg_url"]).run()

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], **_: Any) -> Any:
        """Show the page's lines only."""
        if isinstance(excinfo.value, PageError):
            return str(excinfo.value)
        return "".join(traceback.format_exception(excinfo.value))

    def reportinfo(self) -> tuple[Path, None, str]:
        """Name the page."""
        return self.path, None, self.path.name
