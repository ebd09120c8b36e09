"""How events are written for people: labels, names, and times in a time zone."""

from __future__ import annotations

import contextlib
import datetime
import re
import zoneinfo
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sqlalchemy.exc import NoReferenceError

from sa_history.exc import DefinitionError
from sa_history.timeline.entries import MASKED, Entry, Hidden
from sa_history.tracking.registry import Tracking
from sa_history.tracking.value_text import as_text

Labels: TypeAlias = "Mapping[str, str] | Callable[[str], str | None]"
"""What models and attributes are called, by ``"Order"`` and ``"Order.note"``."""

_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60))

_LATELY = datetime.timedelta(days=7)
"""How long ago a time is that is still written as one that has passed since."""


@dataclass(frozen=True)
class Reference:
    """A value of a foreign key.

    :param tracking: whose row it refers to.
    :param key: the key of the row, as text.
    """

    tracking: Tracking
    key: str


@dataclass(frozen=True, eq=False)
class Display:
    """How the events of a page are written.

    :param labels: what models and attributes are called.
    :param zone: the time zone of times.
    :param now: the time that others are relative to.
    :param referred: what the foreign keys of an event table refer to, by attribute.
    :param names: the names of rows.
    """

    labels: Labels
    zone: datetime.tzinfo
    now: datetime.datetime
    referred: Mapping[str, Mapping[str, Tracking]] = field(default_factory=dict)
    names: Mapping[Reference, str] = field(default_factory=dict)

    def model(self, name: str) -> str:
        """Return what a model is called."""
        return self._label(name) or name

    def choices(self, models: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return what models are called, each with its event table."""
        return [(table, self.model(name)) for table, name in models]

    def attribute(self, model: str, name: str) -> str:
        """Return what an attribute of a model is called."""
        return self._label(f"{model}.{name}") or self._label(name) or name

    def _label(self, name: str) -> str | None:
        if callable(self.labels):
            return self.labels(name)
        return self.labels.get(name)

    def reference(self, table: str, attribute: str, value: Any) -> Reference | None:
        """Return what a value refers to, None if it is no foreign key.

        :param table: the event table.
        """
        tracking = self.referred.get(table, {}).get(attribute)
        if tracking is None or value is None or value == MASKED:
            return None
        return Reference(tracking, as_text(value))

    def named(self, reference: Reference) -> str:
        """Return what a row is called, with its model."""
        name = self.names.get(reference) or reference.key
        return f"{self.model(reference.tracking.subject)} {name}"

    def object(self, entry: Entry, key: Collection[str]) -> str:
        """Return what the row of an event is called.

        :param key: the attributes of its key.
        """
        model = self.model(entry.model)
        if entry.key is None:
            return model
        found = [
            self.reference(entry.table, name, entry.data.get(name)) for name in key
        ]
        if len(found) < 2 or None in found:
            return f"{model} {entry.key}"
        # A row that puts others together, as of a secondary table.
        return f"{model} ({', '.join(self.named(each) for each in found if each)})"

    def exact(self, time: datetime.datetime) -> str:
        """Return a time with its seconds and its zone."""
        return time.astimezone(self.zone).strftime("%Y-%m-%d %H:%M:%S %Z")

    def relative(self, time: datetime.datetime) -> str | None:
        """Return how long ago a time is, None if that is long."""
        past = self.now - time
        if not datetime.timedelta() <= past < _LATELY:
            return None
        for unit, seconds in _UNITS:
            number = int(past.total_seconds()) // seconds
            if number:
                return f"{number} {unit}{'' if number == 1 else 's'} ago"
        return "just now"


def referred_by(
    tracking: Tracking, trackings: Iterable[Tracking], hidden: Hidden
) -> dict[str, Tracking]:
    """Return what the foreign keys of a model refer to, by attribute.

    Those of several columns are left out, and what is hidden.

    :param trackings: all that is shown.
    """
    of_table = {each.table: each for each in trackings}
    unseen = hidden.attributes(tracking)
    found: dict[str, Tracking] = {}
    for attribute, column in tracking.tracked_columns.by_attribute.items():
        for foreign_key in column.foreign_keys if attribute not in unseen else ():
            with contextlib.suppress(NoReferenceError):
                referred = of_table.get(foreign_key.column.table)
                if referred is not None and _is_key(referred, foreign_key.column):
                    found.setdefault(attribute, referred)
    return found


def _is_key(tracking: Tracking, column: Any) -> bool:
    columns = tracking.tracked_columns
    return [columns.by_attribute[name] for name in columns.key] == [column]


def zone_of(given: Any) -> datetime.tzinfo:
    """Return a time zone that the application gave.

    :param given: a tzinfo, or the name of a zone such as ``"Europe/Berlin"``.
    :raises DefinitionError: it is none, or not known here.
    """
    if isinstance(given, datetime.tzinfo):
        return given
    if isinstance(given, str) and _ZONE.fullmatch(given):
        with contextlib.suppress(zoneinfo.ZoneInfoNotFoundError, ValueError):
            return zoneinfo.ZoneInfo(given)
    raise DefinitionError(
        "time_zone is a tzinfo or the name of a zone that is known here, such as "
        f"'Europe/Berlin', got {given!r}; without a database of zones in the system, "
        "install tzdata"
    )


_ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
