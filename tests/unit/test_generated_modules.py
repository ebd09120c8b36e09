"""Sync modules are made of async ones by ``tools/async_to_sync.py``."""

from __future__ import annotations

import ast
import textwrap
import tokenize
from io import StringIO
from pathlib import Path

import pytest

from tools.async_to_sync import SOURCES, to_sync, twin_of


def comments(text: str) -> list[str]:
    tokens = tokenize.generate_tokens(StringIO(text).readline)
    return [t.string for t in tokens if t.type == tokenize.COMMENT]


def without_imports(text: str) -> str:
    """Return the structure of a module; its imports may be in another order."""
    tree = ast.parse(text)
    tree.body = [node for node in tree.body if not isinstance(node, ast.ImportFrom)]
    return ast.dump(tree)


# By structure and comments, so that the test needs no ruff, which lays the file out.
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_a_sync_module_is_what_the_script_makes_of_the_async_one(source: Path) -> None:
    made = to_sync(source.read_text(encoding="utf-8"), source.name)
    known = twin_of(source).read_text(encoding="utf-8")
    run = "run 'python tools/async_to_sync.py'"
    assert without_imports(known) == without_imports(made), run
    assert comments(known) == comments(made), run


def made_of(text: str) -> str:
    return to_sync(textwrap.dedent(text), "x_async.py").partition("\n")[2]


def test_async_await_and_names_of_async_objects_are_replaced() -> None:
    made = made_of("""
        @asynccontextmanager
        async def open_async(pool: AsyncPool) -> AsyncIterator[AsyncCursor]:
            async with pool.get() as one:
                # await is a word here
                yield await one.cursor("await", asynchronous=True)
    """)
    assert made == textwrap.dedent("""
        @contextmanager
        def open(pool: Pool) -> Iterator[Cursor]:
            with pool.get() as one:
                # await is a word here
                yield one.cursor("await", asynchronous=True)
    """)


def test_a_with_and_the_async_with_in_it_become_one() -> None:
    made = made_of("""
        async def f():
            with a(), b() as c:
                async with d(c) as e:
                    # why
                    await e(
                        c,
                    )
                    if c:
                        return
            await g()
    """)
    assert made == textwrap.dedent("""
        def f():
            with (a(), b() as c, d(c) as e):
                # why
                e(
                    c,
                )
                if c:
                    return
            g()
    """)


def test_a_with_that_has_more_in_it_stays() -> None:
    made = made_of("""
        async def f():
            with a():
                async with b():
                    pass
                await c()
    """)
    assert made == textwrap.dedent("""
        def f():
            with a():
                with b():
                    pass
                c()
    """)


def test_a_loop_that_passes_rows_on_becomes_yield_from() -> None:
    made = made_of("""
        async def f():
            async for row in g():
                yield row
            async for row in h():
                yield row + 1
    """)
    assert made == textwrap.dedent("""
        def f():
            yield from g()
            for row in h():
                yield row + 1
    """)
