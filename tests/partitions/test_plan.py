"""When a partition ends, and for how long events are kept."""

from __future__ import annotations

import datetime

import pytest

from sa_history.ddl.partitions import RangePartition
from sa_history.exc import CommandError
from sa_history.install.partition_plan import (
    Cut,
    Usage,
    end_of,
    is_count_needed,
    is_late,
    keep_since,
    planned_cut,
    removable,
)
from sa_history.sql.compose import Qualified

UTC = datetime.timezone.utc


def at(day: int, month: int = 3) -> datetime.datetime:
    return datetime.datetime(2026, month, day, tzinfo=UTC)


def partition(
    lower: int, upper: int | None, until: datetime.datetime | None = None
) -> RangePartition:
    return RangePartition(
        Qualified("public", f"p{lower}"),
        "r",
        lower,
        upper,
        is_validated=None if until is None else True,
        since=until,
        until=until,
    )


@pytest.mark.parametrize(
    ("period", "end"),
    [("day", at(5)), ("week", at(9)), ("month", at(1, 4)), ("year", None)],
)
def test_periods_end_by_the_calendar_of_utc(
    period: str, end: datetime.datetime | None
) -> None:
    """The 5th of March 2026 in Auckland is still the 4th, a Wednesday."""
    zone = datetime.timezone(datetime.timedelta(hours=13))
    moment = datetime.datetime(2026, 3, 5, 10, tzinfo=zone)
    expected = end or datetime.datetime(2027, 1, 1, tzinfo=UTC)
    assert end_of(period, moment) == expected  # type: ignore[arg-type]


def test_december_is_followed_by_january() -> None:
    moment = datetime.datetime(2026, 12, 31, tzinfo=UTC)
    assert end_of("month", moment) == datetime.datetime(2027, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("keep", "since"),
    [
        ("1 month", datetime.datetime(2026, 2, 28, tzinfo=UTC)),
        ("24 months", datetime.datetime(2024, 3, 31, tzinfo=UTC)),
        ("1 year", datetime.datetime(2025, 3, 31, tzinfo=UTC)),
        ("90days", datetime.datetime(2025, 12, 31, tzinfo=UTC)),
        ("4w", datetime.datetime(2026, 3, 3, tzinfo=UTC)),
        ("90d", datetime.datetime(2025, 12, 31, tzinfo=UTC)),
        (" 2 weeks ", datetime.datetime(2026, 3, 17, tzinfo=UTC)),
    ],
)
def test_events_are_kept_for_a_time(keep: str, since: datetime.datetime) -> None:
    assert keep_since(keep, at(31)) == since


@pytest.mark.parametrize(
    "keep", ["", "month", "0 days", "-1 day", "1 hour", "2.5 days"]
)
def test_what_is_no_time_is_refused(keep: str) -> None:
    with pytest.raises(CommandError) as refused:
        keep_since(keep, at(1))
    assert str(refused.value) == (
        f"keep is a number of days, weeks, months or years, got {keep!r}; write "
        '"24 months"'
    )


@pytest.mark.parametrize("keep", ["9999 years", "99999 months"])
def test_more_than_there_was_is_refused(keep: str) -> None:
    with pytest.raises(CommandError, match="begins before the year 1; give less"):
        keep_since(keep, at(1))


TAIL = partition(1, None)


def usage(
    now: datetime.datetime,
    next_id: int = 1001,
    used: RangePartition = TAIL,
    following: tuple[RangePartition, ...] = (),
    rows: int | None = None,
    first: datetime.datetime | None = None,
) -> Usage:
    return Usage(used, following, next_id, now, 1, first or at(1), rows)


@pytest.mark.parametrize(
    ("now", "cut"),
    [
        (at(3), None),  # too early to tell
        (at(11), Cut(TAIL, 1001 + 2100)),  # 1000 in ten days, and 21 days remain
        (at(1, 4), Cut(TAIL, 1001)),
        (at(20, 5), Cut(TAIL, 1001)),
    ],
)
def test_the_end_of_the_tail_is_forecast_for_the_end_of_the_period(
    now: datetime.datetime, cut: Cut | None
) -> None:
    assert planned_cut(usage(now), "month") == cut


def test_a_tail_without_events_has_no_end() -> None:
    empty = Usage(TAIL, (), 5, at(1), None, None)
    assert planned_cut(empty, "month") is None
    assert not is_late(empty, "month")


def test_the_next_partition_is_made_while_it_is_empty() -> None:
    used, tail = partition(1, 3101), partition(3101, None)
    early = usage(at(11), used=used, following=(tail,))
    assert planned_cut(early, "month") is None
    soon = usage(at(26), 2501, used, (tail,))  # 100 a day, 600 left
    assert planned_cut(soon, "month") == Cut(tail, 3101 + 3000)
    made = (partition(3101, 6201), partition(6201, None))
    assert planned_cut(usage(at(26), 2501, used, made), "month") is None


def test_a_partition_that_was_made_too_large_ends_after_all() -> None:
    used, tail = partition(1, 10**9), partition(10**9, None)
    assert planned_cut(usage(at(1, 4), used=used, following=(tail,)), "month") is None
    late = usage(at(15, 4), used=used, following=(tail,))
    assert planned_cut(late, "month") == Cut(used, 1001)


def test_a_number_is_that_of_the_events_of_the_table_itself() -> None:
    assert planned_cut(usage(at(1), rows=4), 10) is None
    # A quarter of the numbers are its own.
    assert planned_cut(usage(at(1), 25, rows=6), 10) == Cut(TAIL, 25 + 16)
    assert planned_cut(usage(at(1), 25, rows=12), 10) == Cut(TAIL, 25)
    used, tail = partition(1, 41), partition(41, None)
    half = usage(at(1), 25, used, (tail,), rows=6)
    assert planned_cut(half, 10) == Cut(tail, 41 + 40)
    assert planned_cut(usage(at(1), 25, used, (tail,), rows=2), 10) is None
    assert planned_cut(usage(at(1), 25, used, (tail,), rows=15), 10) == Cut(used, 25)


def test_events_are_counted_only_where_it_makes_a_difference() -> None:
    tail, used = partition(41, None), partition(1, 41)
    assert not is_count_needed(usage(at(1), 5), 10)
    assert is_count_needed(usage(at(1), 6), 10)
    # Its end is known, and the next one's is too, once it is half full.
    made = (partition(41, 81), partition(81, None))
    assert is_count_needed(usage(at(1), 6, used, (tail,)), 10)
    assert not is_count_needed(usage(at(1), 15, used, made), 10)
    assert is_count_needed(usage(at(1), 16, used, made), 10)


def test_a_tail_is_late_when_it_has_more_than_a_partition() -> None:
    assert not is_late(usage(at(1, 4)), "month")
    assert is_late(usage(at(15, 4)), "month")
    assert not is_late(usage(at(15, 4), used=partition(1, 2000)), "month")
    assert not is_late(usage(at(1), rows=15), 10)
    assert is_late(usage(at(1), rows=16), 10)


def test_the_oldest_partitions_go_until_one_has_to_stay() -> None:
    old = [partition(n, n + 10, at(n)) for n in (1, 11, 21)]
    since = at(15)
    assert removable([*old, partition(31, None)], since, 35) == old[:2]
    assert removable([partition(1, 11), *old[1:]], since, 35) == []
    assert removable(old, since, 15) == old[:1]
    assert removable(old, at(1), 35) == []
    assert removable(old, at(30), 35) == old
