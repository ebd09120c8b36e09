"""The line that tells how far long work is."""

from __future__ import annotations

import io
import sys

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from sa_history.cli import main
from sa_history.cli.progress import ProgressLine

from .conftest import Terminal


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def shown(terminal: Terminal) -> list[str]:
    """Return the lines, one after the other."""
    return terminal.getvalue().split("\r\x1b[K")[1:]


def test_it_tells_what_is_done_of_how_much_and_the_time_left() -> None:
    terminal, clock = Terminal(), Clock()
    with ProgressLine("item", lambda: 4000, stream=terminal, clock=clock) as progress:
        progress.update(0)
        clock.now += 30
        progress.update(1000)
        clock.now += 3600
        progress.update(1001)
        clock.now += 1
        progress.update(4000)
        clock.now += 1
        progress.update(4001)
    assert shown(terminal) == [
        "item: 0 of 4,000 (0%)",
        "item: 1,000 of 4,000 (25%), 1:30 left",
        "item: 1,001 of 4,000 (25%), 3:01:15 left",
        "item: 4,000 of 4,000 (100%)",
        "item: 4,001 of 4,000 (100%)",
        "",  # it is erased
    ]


def test_lines_that_nobody_could_read_are_left_out() -> None:
    terminal, clock = Terminal(), Clock()
    with ProgressLine("item", stream=terminal, clock=clock) as progress:
        for done in range(25):
            progress.update(done)
            clock.now += 1 / 64
    assert shown(terminal) == ["item: 0", "item: 7", "item: 14", "item: 21", ""]


def test_without_updates_nothing_is_written() -> None:
    terminal = Terminal()
    with ProgressLine("item", lambda: 5, stream=terminal):
        pass
    assert terminal.getvalue() == ""


def test_nothing_is_counted_or_written_where_there_is_no_terminal() -> None:
    def total() -> int:
        raise AssertionError

    stream = io.StringIO()
    with ProgressLine("item", total, stream=stream) as progress:
        progress.update(1)
    assert stream.getvalue() == ""


@pytest.mark.usefixtures("database")
def test_a_baseline_counts_the_rows_without_events(
    session: Session, monkeypatch: pytest.MonkeyPatch, database: Engine
) -> None:
    session.execute(text("INSERT INTO item VALUES (0, 'new', 0)"))
    session.execute(text("ALTER TABLE item DISABLE TRIGGER USER"))
    session.execute(
        text("INSERT INTO item SELECT n, 'old', n FROM generate_series(1, 5) n")
    )
    session.execute(text("ALTER TABLE item ENABLE TRIGGER USER"))
    session.commit()
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    assert main(["baseline", "shop:Base", "item", "--batch", "3"]) == 0
    first, *_, last = shown(terminal)
    assert first.startswith("item_event: 2 of 5 (40%), ")
    assert first.endswith(" left")
    assert last == ""
