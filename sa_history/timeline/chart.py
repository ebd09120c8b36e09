"""The chart of changes a day: a row of bars for each model."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass

from sa_history.timeline.queries import Counts

DAYS = 31
"""How many days the chart has, the last of them the one with the newest event."""

HEIGHT = 40
"""The height of the highest bar, in the units of the drawing."""

WIDTH = 10
"""The width of a day."""


@dataclass(frozen=True)
class Bar:
    """The changes of a model on a day.

    :param day: the day, in UTC.
    :param table: the event table of the model.
    :param events: how many there are.
    :param x: the left side of the bar.
    :param height: its height.
    """

    day: datetime.date
    table: str
    events: int
    x: int
    height: float

    @property
    def until(self) -> datetime.date:
        """The day after."""
        return self.day + datetime.timedelta(days=1)


@dataclass(frozen=True)
class ModelRow:
    """The bars of a model.

    :param model: the name of the model.
    :param bars: the bars, of days with changes, in their order.
    :param events: how many changes they are of.
    """

    model: str
    bars: list[Bar]
    events: int


@dataclass(frozen=True)
class Chart:
    """The changes of some days, by model.

    :param first: the first day.
    :param last: the last day.
    :param rows: the models that were changed, those with the most changes first.
    :param is_whole: whether all events of these days have been counted. If not, it is
        the newest ones.
    """

    first: datetime.date
    last: datetime.date
    rows: list[ModelRow]
    is_whole: bool

    @property
    def width(self) -> int:
        """The width of the drawing of a row."""
        return ((self.last - self.first).days + 1) * WIDTH

    @classmethod
    def of(cls, counts: Counts) -> Chart | None:
        """Return the chart of some counts, None if there is nothing to show."""
        if not counts.counted:
            return None
        days = [day for day, _, _ in counts.counted]
        last = max(days)
        first = max(min(days), last - datetime.timedelta(days=DAYS - 1))
        shown = [count for count in counts.counted if count[0] >= first]
        highest = max(events for _, _, events in shown)
        bars: dict[tuple[str, str], list[Bar]] = {}
        for day, tracking, events in sorted(shown, key=lambda count: count[0]):
            table = tracking.event_table.fullname
            x = (day - first).days * WIDTH
            bar = Bar(day, table, events, x, bar_height(events, highest))
            bars.setdefault((tracking.subject, table), []).append(bar)
        rows = [ModelRow(key[0], row, _sum(row)) for key, row in bars.items()]
        rows.sort(key=lambda row: (-row.events, row.model))
        # The day of the oldest event that is counted may have more.
        is_whole = counts.oldest is None or first > min(days)
        return cls(first, last, rows, is_whole)


def bar_height(value: int, highest: int) -> float:
    """Return the height of a bar: what is there can be seen, however little it is.

    :param value: what the bar shows.
    :param highest: what the highest bar shows.
    """
    return round(max(HEIGHT * value / highest, 1), 2)


def _sum(bars: Iterable[Bar]) -> int:
    return sum(bar.events for bar in bars)
