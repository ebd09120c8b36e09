"""Runs the pages of this directory and those below, and the README, as tests.

What they show is what happens, and all that happens is shown: only what readers see
is run. A page has a database and an empty directory of its own, and its blocks run from
top to bottom, in one namespace and in that directory:

- ``python``: run as they are, as by ``python -m asyncio``, which takes ``await``
  outside of functions. What a block prints has to stand in the ``text`` block after it,
  where ``...`` stands for anything. So has the error that it ends with.
- ``python`` that begins with a comment such as ``# models.py``: written to that file.
- ``diff`` that begins with ``--- a/models.py``: applied to that file.
- ``sql``: run by a connection of its own, in autocommit like psql; the rows go the
  same way as what Python prints.
- ``text`` with lines that begin with ``$ ``: those are commands, run by the shell, and
  what each prints has to follow it. ``$ export NAME=value`` is for all that come later.
  A status other than 0 is a line ``exit status 1`` after the output.

Blocks of other languages are not run; ``console`` is for commands that need what a
page does not have. ``DATABASE_URL`` below is what pages have for the URL of their
database, and ``../checkout`` is a link to this checkout. A block in an HTML comment is
an error. A page with tabs is run once for each label of a tab, without the tabs that
have another.

With ``PAGES=rewrite`` in the environment, what is printed is written into the pages
instead; look at the difference before you commit it.

One test for a page, and not one for a block, because pytest-xdist may run the tests of
one file in several processes.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import difflib
import doctest
import inspect
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import URL, Connection, Engine, event
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase, close_all_sessions
from sqlalchemy.util import greenlet_spawn

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

_FILE = re.compile(r"# ([\w/]+\.py)\n")
_PATCH = re.compile(r"--- a/(\S+)\n\+\+\+ b/\S+\n")
_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_HIDDEN = re.compile(r"<!--(?:(?!-->).)*^ *```", re.MULTILINE | re.DOTALL)
_TAB = re.compile(
    r"^:::\{tab-item\} (?P<label>[^\n]+)\n(?P<body>.*?)^:::$", re.MULTILINE | re.DOTALL
)
_COMMAND = re.compile(r"^\$ (?P<command>(?:.*\\\n)*.*)$", re.MULTILINE)
_EXPORT = re.compile(r"export (?P<name>\w+)=(?P<value>.*)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    code: str
    line: int
    indent: str


def tabs_of(text: str) -> list[str]:
    """Return the labels of a page's tabs, in their order."""
    return list(dict.fromkeys(match["label"] for match in _TAB.finditer(text)))


def with_tab(text: str, tab: str | None) -> str:
    """Return a page without its tabs of other labels, and with as many lines."""

    def only_lines(match: re.Match[str]) -> str:
        return match[0] if match["label"] == tab else "\n" * match[0].count("\n")

    return _TAB.sub(only_lines, text)


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

    def __init__(self, path: Path, tab: str | None, url: URL, files: Path) -> None:
        self.path, self.tab, self.files = path, tab, files
        self.url = url
        self.module = types.ModuleType(f"docs_{path.stem}")
        self.engines: set[Engine] = set()
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},
            "PATH": os.pathsep.join(
                [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
            ),
        }
        self.printed = ""
        self.printed_at = 0
        self.error: Exception | None = None
        self.rewritten: list[tuple[Block, str]] = []

    def text(self) -> str:
        """Return what has the blocks."""
        return self.path.read_text()

    def run(self) -> None:
        """Run the blocks of the page, and compare what they print."""
        text = self.text()
        if hidden := _HIDDEN.search(text):
            line = text.count("\n", 0, hidden.start()) + 1
            raise PageError(f"{name_of(self.path)}:{line}: a block is not shown")
        self.files.mkdir()
        self.files.with_name("checkout").symlink_to(HERE.parent)
        here = Path.cwd()
        os.chdir(self.files)
        sys.path.insert(0, str(self.files))
        # Mapped[...] annotations are looked up in the class's module.
        sys.modules[self.module.__name__] = self.module
        event.listen(Engine, "engine_connect", self._remember)
        self.loop = asyncio.new_event_loop()
        try:
            for block in blocks_of(with_tab(text, self.tab)):
                self._run_block(block)
            self._nothing_printed()
            if self.rewritten:
                self._rewrite()
        finally:
            event.remove(Engine, "engine_connect", self._remember)
            sys.path.remove(str(self.files))
            os.chdir(here)
            self._clean_up()

    def _remember(self, connection: Connection) -> None:
        self.engines.add(connection.engine)

    def _run_block(self, block: Block) -> None:
        if block.language == "text":
            if _COMMAND.match(block.code):
                self._nothing_printed()
                self.printed = self._run_commands(block.code)
            self._compare(block)
        elif block.language == "diff":
            if patch := _PATCH.match(block.code):
                self._apply(patch[1], block.code[patch.end() :])
        elif block.language in ("python", "sql"):
            self._nothing_printed()
            self.printed_at = block.line
            run = self._run_python if block.language == "python" else self._run_sql
            self.printed = run(block)

    def _with_url(self, code: str, path: str = "") -> str:
        url = self.url.render_as_string(hide_password=False)
        return code.replace(DATABASE_URL, url.replace("%", "%%" if path else "%"))

    def _write(self, path: str, code: str) -> None:
        file = self.files / path
        file.parent.mkdir(parents=True, exist_ok=True)
        # A configuration of Alembic has %% for each %.
        file.write_text(self._with_url(code, path if path.endswith(".ini") else ""))
        # What is compiled is known by its size and the second of its last change.
        shutil.rmtree(file.parent / "__pycache__", ignore_errors=True)

    def _apply(self, path: str, patch: str) -> None:
        text = self.files.joinpath(path).read_text()
        for hunk in re.split(r"^@@.*\n", patch, flags=re.MULTILINE):
            lines = [line or " " for line in hunk.splitlines()]
            before = "".join(f"{line[1:]}\n" for line in lines if line[0] in " -")
            after = "".join(f"{line[1:]}\n" for line in lines if line[0] in " +")
            if lines and text.count(before) != 1:
                raise PageError(f"{name_of(self.path)}: {path} does not have\n{before}")
            text = text.replace(before, after) if lines else text
        self._write(path, text)

    def _run_commands(self, code: str) -> str:
        printed = ""
        for match in _COMMAND.finditer(code):
            printed += f"{match[0]}\n"
            if exported := _EXPORT.fullmatch(match["command"]):
                self.environment[exported["name"]] = self._with_url(exported["value"])
                continue
            url = shlex.quote(self._with_url(DATABASE_URL))
            done = subprocess.run(
                match["command"].replace(DATABASE_URL, url),
                shell=True,
                cwd=self.files,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            printed += done.stdout
            if done.returncode:
                status = f"exit status {done.returncode}\n"
                printed += status
                # A "..." would stand for a failure as well.
                if status not in code:
                    raise PageError(f"{name_of(self.path)}: it fails:\n{printed}")
        return printed

    def _run_python(self, block: Block) -> str:
        if named := _FILE.match(block.code):
            self._write(named[1], block.code)
            return ""
        source = "\n" * block.line + self._with_url(block.code)
        code = compile(
            source,
            str(self.path),
            "exec",
            ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            dont_inherit=True,
        )
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            try:
                if code.co_flags & inspect.CO_COROUTINE:
                    main = types.FunctionType(code, vars(self.module))
                    self.loop.run_until_complete(main())
                else:
                    exec(code, vars(self.module))
            except Exception as error:
                self.error = error
                print(_last_line_of_traceback(error))
        return printed.getvalue()

    def _run_sql(self, block: Block) -> str:
        tables = []
        # A page may have a transaction open, which would wait for this one.
        with _connect(self.url, options="-c lock_timeout=60s") as connection:
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
                self.printed, self.error = "", None
                return
            diff = difflib.unified_diff(
                block.code.splitlines(), self.printed.splitlines(), "page", "printed"
            )
            where = f"{name_of(self.path)}:{block.line}"
            message = "\n".join([f"{where}: other output", *diff])
            raise PageError(message) from self.error
        self.printed, self.error = "", None

    def _rewrite(self) -> None:
        lines = self.path.read_text().split("\n")
        for block, printed in reversed(self.rewritten):
            new = [f"{block.indent}{line}" for line in printed.splitlines()]
            lines[block.line : block.line + block.code.count("\n")] = new
        self.path.write_text("\n".join(lines))

    def _nothing_printed(self) -> None:
        if self.printed:
            where = f"{name_of(self.path)}:{self.printed_at}"
            message = f"{where}: its output is not shown:\n{self.printed}"
            raise PageError(message) from self.error

    def _clean_up(self) -> None:
        # Those of async sessions too, which a page with an error leaves open.
        self.loop.run_until_complete(greenlet_spawn(close_all_sessions))
        of_files = [
            module
            for module in list(sys.modules.values())
            if self.files in Path(getattr(module, "__file__", None) or "/").parents
        ]
        for module in [self.module, *of_files]:
            for value in vars(module).values():
                if isinstance(value, AsyncEngine):
                    self.loop.run_until_complete(value.dispose())
                elif isinstance(value, type) and DeclarativeBase in value.__bases__:
                    value.registry.dispose()
            del sys.modules[module.__name__]
        for engine in self.engines:
            engine.dispose()
        self.loop.close()


def _last_line_of_traceback(error: Exception) -> str:
    # Without the suggestions that newer Pythons add, which depend on all names there.
    kind = type(error)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"{module}{kind.__qualname__}: {error}"


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


# Those with many commands, of which each is a program to start.
LONG = [HERE / f"{name}.md" for name in ("command_line", "fastapi", "migrations")]

# What a server may have otherwise, and pages show: what PostgreSQL says, and what a
# transaction sees of others.
DEFAULTS = {"lc_messages": "C", "default_transaction_isolation": "read committed"}

RUNS = [(page, tab) for page in PAGES for tab in tabs_of(page.read_text()) or [None]]
IDS = [f"{name_of(page)}-{tab}" if tab else name_of(page) for page, tab in RUNS]


@pytest.mark.parametrize(
    ("page", "tab"),
    [
        pytest.param(*run, marks=pytest.mark.long if run[0] in LONG else [])
        for run in RUNS
    ],
    ids=IDS,
)
def test_page(page: Path, tab: str | None, pg_url: URL, tmp_path: Path) -> None:
    """The page shows what happens."""
    if page.stem == "from_continuum" and sys.version_info < (3, 11):
        pytest.skip("SQLAlchemy-Continuum 2 needs Python 3.11")
    with _connect(pg_url) as connection:
        for setting, value in DEFAULTS.items():
            set_ = sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                sql.Identifier(str(pg_url.database)), sql.Identifier(setting), value
            )
            connection.execute(set_)
    Page(page, tab, pg_url, tmp_path / "shop").run()


def _connect(url: URL, **options: str) -> psycopg.Connection:
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(plain, autocommit=True, **options)
