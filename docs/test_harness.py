"""The harness of the pages runs what is shown, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import URL

from docs import test_pages
from docs.test_pages import Page, PageError

TABS = """
::::{tab-set}
:::{tab-item} Sync
```python
print("sync")
```
:::
:::{tab-item} Async
```python
import asyncio

print(await asyncio.sleep(0, "async"))
```
:::
::::
"""


@pytest.fixture
def run(pg_url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(test_pages, "HERE", tmp_path / "docs")

    def run(text: str, tab: str | None = None) -> None:
        path = tmp_path / "page.md"
        path.write_text(text)
        Page(path, tab, pg_url, tmp_path / "shop").run()

    return run


def test_block_in_a_comment_is_an_error(run) -> None:
    with pytest.raises(PageError, match="page:3: a block is not shown"):
        run("# Title\n\n<!-- set-up\n```python\nx = 1\n```\n-->\n")


def test_output_and_errors_have_to_be_shown(run) -> None:
    run("```python\nprint(1)\n1 / 0\n```\n\n```text\n1\nZeroDivisionError: ...\n```\n")


@pytest.mark.parametrize("code", ["print(1)", "1 / 0"])
def test_what_is_not_shown_is_an_error(run, code) -> None:
    with pytest.raises(PageError, match="page:1: its output is not shown"):
        run(f"```python\n{code}\n```\n")


def test_other_output_is_an_error(run) -> None:
    with pytest.raises(PageError, match="page:5: other output"):
        run("```python\nprint(1)\n```\n\n```text\n2\n```\n")


def test_commands_run_in_the_folder_of_the_files(run) -> None:
    run(
        "```python\n# one.py\nprint(1)\n```\n\n"
        "```diff\n--- a/one.py\n+++ b/one.py\n@@\n-print(1)\n+print(2)\n```\n\n"
        "```text\n$ export NAME=value\n$ python one.py; echo $NAME\n2\nvalue\n```\n"
    )


def test_failure_of_a_command_is_an_error_unless_it_is_shown(run) -> None:
    run("```text\n$ exit 3\nexit status 3\n```\n")


def test_dots_do_not_stand_for_a_failure(run) -> None:
    with pytest.raises(PageError, match="page: it fails"):
        run("```text\n$ exit 3\n...\n```\n")


def test_diff_of_what_is_not_there_is_an_error(run) -> None:
    with pytest.raises(PageError, match="does not have"):
        run(
            "```python\n# one.py\n```\n\n```diff\n--- a/one.py\n+++ b/one.py\n-2\n```\n"
        )


@pytest.mark.parametrize("tab", ["Sync", "Async"])
def test_page_with_tabs_runs_once_for_each(run, tab) -> None:
    assert test_pages.tabs_of(TABS) == ["Sync", "Async"]
    run(f"{TABS}\n```text\n{tab.lower()}\n```\n", tab)
