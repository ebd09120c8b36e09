"""Times as they are typed."""

from __future__ import annotations

import datetime
import re

from sa_history.exc import CommandError
from sa_history.install.partition_plan import keep_since

_AGE = re.compile(r"(\d+) ?([smhdw])")
_LONG_AGE = re.compile(r"\d+ ?(day|week|month|year)s?")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def time_of(text: str) -> datetime.datetime:
    """Return a time that was given as text.

    :param text: in ISO format, in the local time zone if it has none; or an age, such
        as ``"90m"``, ``"2h"``, ``"7d"``, ``"4w"`` or ``"24 months"``, for the time that
        long ago.
    :raises CommandError: it is neither, or before the year 1.
    """
    now = datetime.datetime.now(datetime.timezone.utc)
    try:
        if age := _AGE.fullmatch(text):
            ago = datetime.timedelta(**{_UNITS[age[2]]: int(age[1])})
            return now - ago
        if _LONG_AGE.fullmatch(text):
            return keep_since(text, now)
        # Python 3.10 reads no Z.
        time = datetime.datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text))
        return time if time.tzinfo else time.astimezone()
    except (ValueError, OverflowError) as error:
        raise CommandError(
            f"{text!r} is no time; write it as 2026-11-28T12:00, with +02:00 or Z for "
            "another time zone, or as an age, such as 90m, 2h, 7d or 4w"
        ) from error


def local(time: datetime.datetime) -> str:
    """Return a time as text, in the local time zone."""
    return time.astimezone().isoformat(sep=" ")
