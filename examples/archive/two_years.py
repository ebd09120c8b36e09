"""Two years of the shop's history, made with the clock moved, month by month.

What the shop writes is written through the library. PostgreSQL has no clock that could
be moved: events get their times afterwards, when their month is over. The ids of
contexts begin with the time, and come from the clock of this process.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import shop
from kiosk.seeds import Seeds, backdate
from sqlalchemy import Engine
from sqlalchemy.orm import Session

import sa_history


@contextmanager
def clock_at(moment: datetime.datetime) -> Iterator[None]:
    """Set the clock of this process, as far as the ids of contexts are concerned."""
    nanoseconds = int(moment.timestamp()) * 10**9
    with mock.patch("time.time_ns", return_value=nanoseconds):
        yield


@dataclass
class SeedsOfMonths(Seeds):
    """The seeds of the shop, with what a nightly ``sa-history partitions`` does.

    :param month: the first day of the month that is being written.
    """

    month: datetime.date = datetime.date.min

    @contextmanager
    def request(
        self, moment: datetime.datetime, *arguments: Any, **annotated: Any
    ) -> Iterator[None]:
        """Commit what is written in the block, as a request of that time would."""
        if moment.date().replace(day=1) > self.month:
            self.end_month(moment)
        with clock_at(moment), super().request(moment, *arguments, **annotated):
            yield

    def end_month(self, moment: datetime.datetime) -> None:
        """Give the events of the month their times, and their partitions an end."""
        self.month = moment.date().replace(day=1)
        backdate(self.session, self.moments)
        self.moments.clear()
        sa_history.partitions(self.session.get_bind(), shop.Base, now=moment)

    def _stock(self, moment: datetime.datetime) -> None:
        self.month = moment.date().replace(day=1)
        with clock_at(moment):
            super()._stock(moment)


def make(engine: Engine, orders: int) -> None:
    """Create the tables, and have the shop sell for two years.

    :param orders: how many orders there are in these years.
    """
    shop.Base.metadata.create_all(engine)
    with Session(engine, expire_on_commit=False) as session:
        seeds = SeedsOfMonths(session, orders)
        seeds.sow()
        seeds.end_month(datetime.datetime.now(datetime.timezone.utc))
