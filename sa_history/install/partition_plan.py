"""When a partition ends, and when it is old enough to be removed.

Events of all tables are numbered by one sequence. So the number at which a partition
ends at some time is forecast from how fast the numbers have grown lately; a partition
holds about a month, and not exactly. If a number of events is asked for, it is forecast
from how many of the numbers have become events of that table.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from sa_history._types import PartitionBy, PartitionPeriod
from sa_history.ddl.partitions import RangePartition
from sa_history.exc import CommandError

_DAYS: dict[PartitionPeriod, int] = {"day": 1, "week": 7, "month": 30, "year": 365}


def length_of(period: PartitionPeriod) -> datetime.timedelta:
    """Return about how long a period is."""
    return datetime.timedelta(days=_DAYS[period])


def end_of(period: PartitionPeriod, moment: datetime.datetime) -> datetime.datetime:
    """Return when the period ends that a moment is in, by the calendar of UTC.

    :param period: a week ends with Sunday.
    """
    day = moment.astimezone(datetime.timezone.utc).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    if period == "day":
        return day + datetime.timedelta(days=1)
    if period == "week":
        return day + datetime.timedelta(days=7 - day.weekday())
    if period == "month":
        return months_before(day.replace(day=1), -1)
    return day.replace(year=day.year + 1, month=1, day=1)


def months_before(moment: datetime.datetime, months: int) -> datetime.datetime:
    """Return the moment some months earlier, or the last one that the month has."""
    year, month = divmod(moment.year * 12 + moment.month - 1 - months, 12)
    for day in range(moment.day, 27, -1):
        try:
            return moment.replace(year=year, month=month + 1, day=day)
        except ValueError:
            continue  # a month with fewer days
    return moment.replace(year=year, month=month + 1)


_KEEP = re.compile(r"\s*([1-9]\d{0,4})\s*(?:(day|week|month|year)s?|([dw]))\s*")
_SHORT = {"d": "day", "w": "week"}
"""Units as the commands that take an age have them."""


def keep_since(
    keep: str, now: datetime.datetime, name: str = "keep"
) -> datetime.datetime:
    """Return the time since which events are kept.

    :param keep: such as ``"24 months"``, ``"90 days"``, ``"1 year"``, ``"4w"``.
    :param now: the end of that time.
    :param name: what the text is called, for the error.
    :raises CommandError: the text is none of these.
    """
    found = _KEEP.fullmatch(keep) if isinstance(keep, str) else None
    if found is None:
        raise CommandError(
            f"{name} is a number of days, weeks, months or years, got {keep!r}; write "
            '"24 months"'
        )
    count, unit = int(found[1]), found[2] or _SHORT[found[3]]
    try:
        if unit in ("day", "week"):
            days = count * (7 if unit == "week" else 1)
            return now - datetime.timedelta(days=days)
        return months_before(now, count * (12 if unit == "year" else 1))
    except (OverflowError, ValueError):
        raise CommandError(
            f"{name} is {keep!r}, which begins before the year 1; give less"
        ) from None


def check_now(now: Any) -> None:
    """Refuse a time of now that is not one moment everywhere.

    :param now: a datetime; None for the time of the database.
    :raises CommandError: it is no datetime, or has no time zone.
    """
    if now is None:
        return
    if not isinstance(now, datetime.datetime):
        raise CommandError(
            f"now is a datetime with a time zone, got {now!r}; give one, such as "
            "datetime.now(timezone.utc)"
        )
    if now.tzinfo is None:
        raise CommandError(
            f"now is {now!r}, which is another moment in each time zone; give it one, "
            "such as tzinfo=datetime.timezone.utc"
        )


@dataclass(frozen=True)
class Usage:
    """The partition that takes the next event.

    :param partition: the partition.
    :param following: the partitions after it, all of them empty.
    :param next_id: the number that the sequence gives next.
    :param now: the time.
    :param first_id: the number of its first event; None if it has none.
    :param first_time: the time of its first event; None if it has none.
    :param rows: the number of its events, or more if the exact number makes no
        difference; None if they are not counted.
    """

    partition: RangePartition
    following: Sequence[RangePartition]
    next_id: int
    now: datetime.datetime
    first_id: int | None
    first_time: datetime.datetime | None
    rows: int | None = None

    @property
    def numbers(self) -> int:
        """How many numbers the sequence has given since its first event."""
        assert self.first_id is not None
        # Whoever wrote events with numbers of their own may be ahead of the sequence.
        return max(self.next_id - self.first_id, 1)


@dataclass(frozen=True)
class Cut:
    """The end that a partition gets.

    :param partition: the partition that is now the tail, or ends later.
    :param upper: the first number after its end.
    """

    partition: RangePartition
    upper: int


def planned_cut(usage: Usage, partition_by: PartitionBy) -> Cut | None:
    """Return which partition gets an end, and where; None if none has to now.

    :param partition_by: how much a partition holds.
    """
    if usage.first_id is None or usage.first_time is None:
        return None
    if isinstance(partition_by, int):
        assert usage.rows is not None
        return _cut_by_number(usage, partition_by, usage.numbers / max(usage.rows, 1))
    return _cut_by_time(usage, partition_by, usage.first_time, usage.numbers)


def is_count_needed(usage: Usage, wanted: int) -> bool:
    """Return whether it makes a difference how many of the numbers became events.

    :param usage: of a partition with events that are not counted.
    :param wanted: how many events a partition holds.
    """
    most = replace(usage, rows=usage.numbers)
    return planned_cut(most, wanted) is not None or is_late(most, wanted)


def _cut_by_number(usage: Usage, wanted: int, numbers_each: float) -> Cut | None:
    rows = usage.rows or 0
    upper, is_half_full = usage.partition.upper, rows * 2 >= wanted
    if upper is None:
        missing = max(wanted - rows, 0)
        end = usage.next_id + ceil(missing * numbers_each)
        return Cut(usage.partition, end) if is_half_full else None
    if rows * 2 >= wanted * 3:
        return Cut(usage.partition, usage.next_id)
    if is_half_full and len(usage.following) == 1:
        return Cut(usage.following[0], upper + ceil(wanted * numbers_each))
    return None


def _cut_by_time(
    usage: Usage, period: PartitionPeriod, first_time: datetime.datetime, numbers: int
) -> Cut | None:
    length, end = length_of(period), end_of(period, first_time)
    elapsed = max(usage.now - first_time, datetime.timedelta(seconds=1))

    def grown(time: datetime.timedelta) -> int:
        """Return by how much the numbers grow in some time."""
        return ceil(numbers * (time / elapsed))

    upper, remaining = usage.partition.upper, end - usage.now
    if upper is None:
        if remaining <= datetime.timedelta():
            return Cut(usage.partition, usage.next_id)
        if elapsed < length / 8:
            return None  # too short a time to tell
        return Cut(usage.partition, usage.next_id + grown(remaining))
    left = upper - usage.next_id
    if -remaining > length / 4 and left > grown(length / 4):
        return Cut(usage.partition, usage.next_id)
    if left <= grown(length / 4) and len(usage.following) == 1:
        begins = usage.now + elapsed * (left / numbers)
        ends = end_of(period, begins + length / 2)
        return Cut(usage.following[0], upper + grown(ends - begins))
    return None


def is_late(usage: Usage, partition_by: PartitionBy) -> bool:
    """Return True if the tail has events for more than a partition.

    :param partition_by: how much a partition holds.
    """
    if usage.partition.upper is not None or usage.first_time is None:
        return False
    if isinstance(partition_by, int):
        return (usage.rows or 0) > partition_by * 3 / 2
    end = end_of(partition_by, usage.first_time)
    return usage.now > end + length_of(partition_by) / 4


def is_full(partition: RangePartition, next_id: int) -> bool:
    """Return True if the sequence gives no more numbers of a partition."""
    return partition.upper is not None and partition.upper <= next_id


def removable(
    partitions: Sequence[RangePartition], since: datetime.datetime, next_id: int
) -> list[RangePartition]:
    """Return the partitions all of whose events are older than those to keep.

    :param partitions: in the order of their bounds, without that of kept events.
    :param since: the time since which events are kept.
    :param next_id: the number that the sequence gives next.
    :return: the oldest first; none after one that is to stay.
    """
    found = []
    for partition in partitions:
        until = partition.until
        if not partition.is_closed or not is_full(partition, next_id):
            break
        if until is None or until >= since:
            break
        found.append(partition)
    return found
