"""Runs the pages of this directory and those below, and the README, as tests.

What they show is what happens. A page is one test, with a database of its own. Its
blocks run from top to bottom in one namespace:

- ``python``: run as they are; what a block prints has to stand in the ``text``
  block after it, where ``...`` stands for anything.
- ``python`` that begins with a comment such as ``# models.py``: written to that file in
  the directory ``FILES``.
- ``sql``: run by a connection of its own, in autocommit like psql; the rows go the
  same way.

Blocks of other languages are not run. ``DATABASE_URL`` below is what pages have for
the URL of their database. A block in an HTML comment is run but not shown; it is for
what a reader has elsewhere.

With ``PAGES=rewrite`` in the environment, what is printed is written into the pages
instead; look at the difference before you commit it.

One test for a page, and not one for a block, because pytest-xdist may run the tests of
one file in several processes.
"""

from __future__ import annotations

import contextlib
import difflib
import doctest
import io
import os
import re
import sys
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

DATABASE_URL = "postgresql+psycopg://localhost/shop"
HERE = Path(__file__).parent

BUILT = HERE / "_build"

# It needs packages that the other pages do without: nox -s companions runs it.
COMPANIONS = HERE / "companions.md"

PAGES = [
    HERE.parent / "README.md",
    *(
        path
        for path in sorted(HERE.rglob("*.md"))
        if BUILT not in path.parents and path != COMPANIONS
    ),
]
REWRITE = os.environ.get("PAGES") == "rewrite"

_FILE = re.compile(r"# (\w+\.py)\n")
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
    indent: str


def blocks_of(text: str) -> Iterator[Block]:
    """Give the blocks of a page, without the indentation of a list's item."""
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("code"))
        code = re.sub(f"^{match['indent']}", "", match["code"], flags=re.MULTILINE)
        yield Block(match["language"], code, line, match["indent"])


class PageError(Exception):
    """A page does not show what happens."""


class Page:
    """A page as it runs: its namespace, its database, and what it has printed."""

    def __init__(self, path: Path, url: URL, files: Path) -> None:
        self.path, self.url, self.files = path, url, files
        self.module = types.ModuleType(f"docs_{path.stem}")
        vars(self.module)["FILES"] = files
        self.printed = ""
        self.printed_at = 0
        self.rewritten: list[tuple[Block, str]] = []

    def text(self) -> str:
        """Return what has the blocks."""
        return self.path.read_text()

    def run(self) -> None:
        """Run the blocks of the page, and compare what they print."""
        # Mapped[...] annotations are looked up in the class's module.
        sys.modules[self.module.__name__] = self.module
        try:
            for block in blocks_of(self.text()):
                self._run_block(block)
            self._nothing_printed()
            if self.rewritten:
                self._rewrite()
        finally:
            self._clean_up()

    def _run_block(self, block: Block) -> None:
        if block.language == "text":
            self._compare(block)
        elif block.language in ("python", "sql"):
            self._nothing_printed()
            self.printed_at = block.line
            run = self._run_python if block.language == "python" else self._run_sql
            self.printed = run(block)

    def _run_python(self, block: Block) -> str:
        if named := _FILE.match(block.code):
            self.files.joinpath(named[1]).write_text(block.code)
            return ""
        url = self.url.render_as_string(hide_password=False)
        source = "\n" * block.line + block.code.replace(DATABASE_URL, url)
        code = compile(source, str(self.path), "exec", dont_inherit=True)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, vars(self.module))
        return printed.getvalue()

    def _run_sql(self, block: Block) -> str:
        url = self.url.set(drivername="postgresql").render_as_string(
            hide_password=False
        )
        tables = []
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(block.code.encode())
            while True:
                if cursor.description is not None:
                    tables.append(_as_table(cursor))
                if not cursor.nextset():
                    return "\n".join(tables)

    def _compare(self, block: Block) -> None:
        checker = doctest.OutputChecker()
        if not checker.check_output(block.code, self.printed, doctest.ELLIPSIS):
            if REWRITE:
                self.rewritten.append((block, self.printed))
                self.printed = ""
                return
            diff = difflib.unified_diff(
                block.code.splitlines(), self.printed.splitlines(), "page", "printed"
            )
            where = f"{name_of(self.path)}:{block.line}"
            raise PageError("\n".join([f"{where}: other output", *diff]))
        self.printed = ""

    def _rewrite(self) -> None:
        lines = self.path.read_text().split("\n")
        for block, printed in reversed(self.rewritten):
            new = [f"{block.indent}{line}" for line in printed.splitlines()]
            lines[block.line : block.line + block.code.count("\n")] = new
        self.path.write_text("\n".join(lines))

    def _nothing_printed(self) -> None:
        if self.printed:
            where = f"{name_of(self.path)}:{self.printed_at}"
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


def name_of(page: Path) -> str:
    """Return the path of a page from the checkout, in short."""
    return page.relative_to(HERE.parent).with_suffix("").as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_page(page: Path, pg_url: URL, tmp_path: Path) -> None:
    """The page shows what happens."""
    Page(page, pg_url, tmp_path).run()
