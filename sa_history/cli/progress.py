"""A line that tells how far long work is, on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

_INTERVAL = 0.1
"""The shortest time between two lines, in seconds."""


class ProgressLine:
    """A line on standard error: what is done, of how much, and the time that is left.

    It is written over and over, and erased at the end of the block. Where standard
    error is no terminal nothing is written.

    :param label: what is worked on.
    :param total: returns how much there is to do, None if it is not known. It is not
        called where nothing is written, as it may have to ask the database.
    :param stream: where to write; None for standard error.
    :param clock: returns a time in seconds, which never goes back.

    Example::

        with ProgressLine("account_event", lambda: 5_000_000) as progress:
            baseline(engine, Account, progress=progress.update)
    """

    def __init__(
        self,
        label: str,
        total: Callable[[], int | None] = lambda: None,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._label = label
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self.is_shown = self._stream.isatty()
        """True if anything is written."""
        self._total = total() if self.is_shown else None
        self._began = clock()
        self._written: float | None = None

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        if self._written is not None:
            self._write("")

    def update(self, done: int) -> None:
        """Write how much is done, as ``account: 2,000 of 5,000 (40 %), 0:03 left``.

        :param done: in the unit of the total, since the beginning.
        """
        if self._total:
            part = min(done / self._total, 1)
            self.show(f"{self._label}: {done:,} of {self._total:,}", part)
        else:
            self.show(f"{self._label}: {done:,}")

    def show(self, text: str, part: float | None = None) -> None:
        """Write a text, and the time that is left.

        :param text: what is done.
        :param part: the part of all work that it is, from 0 to 1; None if that is not
            known.
        """
        now = self._clock()
        is_due = self._written is None or now - self._written >= _INTERVAL
        if self.is_shown and is_due:
            self._written = now
            self._write(self._line(text, part, now - self._began))

    def _line(self, text: str, part: float | None, seconds: float) -> str:
        if part is None:
            return text
        line = f"{text} ({part:.0%})"
        if not 0 < part < 1:
            return line
        return f"{line}, {_duration(seconds / part - seconds)} left"

    def _write(self, line: str) -> None:
        # The carriage return goes to the start of the line, the rest erases it.
        self._stream.write(f"\r\x1b[K{line}")
        self._stream.flush()


def _duration(seconds: float) -> str:
    """Return a time as hours, minutes and seconds, such as ``1:02:03`` or ``0:07``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
