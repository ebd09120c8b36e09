"""Make the sync twin of each async module: ``python tools/async_to_sync.py``.

The async module is the source; what the script writes is not to be edited. The script
leaves out ``async`` and ``await``, replaces names, merges a ``with`` with the ``async
with`` in it, and writes ``yield from``, which async generators do not have. The layout
is ruff's.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).resolve().parent.parent

SOURCES = [
    ROOT / "sa_history/contexts/drivers/psycopg/connection_async.py",
    ROOT / "sa_history/contexts/drivers/psycopg/cursors_async.py",
]
"""The async modules. The twin has the same name without ``_async``."""

HEADER = "# Made of {source} by tools/async_to_sync.py: change that file, and run it.\n"

# AsyncCursor, asynccontextmanager, set_config_async
_ASYNC_NAME = re.compile(r"^(Async(?=[A-Z])|async(?=contextmanager$))|_async$")

_Change: TypeAlias = "tuple[ast.stmt, str, list[ast.stmt]]"
"""A statement, the line that replaces it, and the statements that stay below."""


def twin_of(source: Path) -> Path:
    """Return the path of the sync twin of an async module."""
    return source.with_name(source.name.replace("_async", ""))


def to_sync(source: str, name: str) -> str:
    """Return the text of a sync module; its layout is not yet ruff's.

    :param source: the text of the async module.
    :param name: of its file, for the header.
    """
    source = _changed(source, _merged_blocks)
    source = _changed(source, _yield_from)
    sync = _without_async(source)
    ast.parse(sync)  # or it raises a SyntaxError
    return HEADER.format(source=name) + sync


def _changed(source: str, change: Callable[[ast.AST], _Change | None]) -> str:
    """Make a change wherever it is due, one place after the other."""
    while True:
        found = (change(node) for node in ast.walk(ast.parse(source)))
        node, header, body = next(filter(None, found), (None, "", []))
        if node is None:
            return source
        lines = source.splitlines(keepends=True)
        kept: list[str] = []
        if body:
            removed = " " * (body[0].col_offset - node.col_offset - 4)
            first, last = body[0].lineno, body[-1].end_lineno
            while lines[first - 2].lstrip().startswith("#"):
                first -= 1
            kept = [line.removeprefix(removed) for line in lines[first - 1 : last]]
        indent = " " * node.col_offset
        lines[node.lineno - 1 : node.end_lineno] = [f"{indent}{header}\n", *kept]
        source = "".join(lines)


def _merged_blocks(node: ast.AST) -> _Change | None:
    """Merge a ``with`` that has nothing but an ``async with`` in it with that."""
    if not (isinstance(node, ast.With) and len(node.body) == 1):
        return None
    inner = node.body[0]
    if not isinstance(inner, ast.AsyncWith):
        return None
    items = ", ".join(ast.unparse(item) for item in (*node.items, *inner.items))
    return node, f"async with ({items}):", inner.body


def _yield_from(node: ast.AST) -> _Change | None:
    """Make ``yield from`` of an ``async for`` that does nothing but yield."""
    if not (isinstance(node, ast.AsyncFor) and len(node.body) == 1):
        return None
    statement = ast.unparse(node.body[0])
    if statement != f"yield {ast.unparse(node.target)}":
        return None
    return node, f"yield from {ast.unparse(node.iter)}", []


def _without_async(source: str) -> str:
    """Leave out ``async`` and ``await``, and replace names."""
    lines = source.splitlines(keepends=True)
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    # From the end, so that the positions of those before stay right.
    for token, after in reversed(list(pairwise(tokens))):
        if token.type != tokenize.NAME:
            continue
        row, begin = token.start
        if token.string in ("async", "await"):
            end, text = after.start[1], ""  # with the space after it
        else:
            end, text = token.end[1], _ASYNC_NAME.sub("", token.string)
        line = lines[row - 1]
        lines[row - 1] = line[:begin] + text + line[end:]
    return "".join(lines)


def laid_out(text: str, path: Path) -> str:
    """Return a module's text as ruff lays it out, with sorted imports."""
    for command in (["check", "--fix", "--select", "I"], ["format"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--quiet"]
        done = subprocess.run(
            [*ruff, "--stdin-filename", str(path), "-"],
            input=text,
            capture_output=True,
            encoding="utf-8",
            check=True,
            cwd=ROOT,
        )
        text = done.stdout
    return text


def main() -> None:
    """Write the sync twins."""
    for source in SOURCES:
        twin = twin_of(source)
        text = to_sync(source.read_text(encoding="utf-8"), source.name)
        twin.write_text(laid_out(text, twin), encoding="utf-8")


if __name__ == "__main__":
    main()
