"""How events are written for people: labels, names, and times in a time zone."""

from __future__ import annotations

import contextlib
import datetime
import re
import zoneinfo
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sa_history.exc import DefinitionError
from sa_history.timeline.entries import Entry, ShownTable
from sa_history.timeline.references import Reference, ReferringKey
from sa_history.tracking.value_changes import Part, ValueChange, changes_within
from sa_history.tracking.value_text import as_text, as_texts_that_differ
from sa_history.util.messages import counted

Labels: TypeAlias = "Mapping[str, str] | Callable[[str], str | None]"
"""What models and attributes are called, by ``"Order"`` and ``"Order.note"``."""

_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60))

_LATELY = datetime.timedelta(days=7)
"""How long ago a time is that is still written as one that has passed since."""


_FOLDED = 80
"""From how many characters a value is folded."""

_SUMMARY = 60
"""How many characters of a folded value are seen."""


@dataclass(frozen=True)
class Cell:
    """A value in a table.

    :param parts: its text, in parts; each with whether it differs from the other value.
    :param summary: what is seen of a long text that is folded; None for a short one.
    :param reference: the row that the value refers to, None if it is no foreign key.
    """

    parts: Sequence[Part]
    summary: str | None = None
    reference: Reference | None = None


@dataclass(frozen=True, eq=False)
class Display:
    """How the events of a page are written.

    :param labels: what models and attributes are called.
    :param zone: the time zone of times.
    :param now: the time that others are relative to.
    :param tables: the tables of the events, by the event table.
    :param referring: the foreign keys of an event table, by attribute.
    :param names: the names of rows.
    :param users: the names of users; what is in none of them is its own name.
    """

    labels: Labels
    zone: datetime.tzinfo
    now: datetime.datetime
    tables: Mapping[str, ShownTable] = field(default_factory=dict)
    referring: Mapping[str, Mapping[str, ReferringKey]] = field(default_factory=dict)
    names: Mapping[Reference, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict)

    def who(self, entry: Entry) -> str | None:
        """Return what the user of an event is called, None if it is not known."""
        return None if entry.who is None else self.users.get(entry.who, entry.who)

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

    def references(self, entry: Entry) -> Iterator[Reference]:
        """Yield what an event refers to, before and after it."""
        for key in dict.fromkeys(self.referring[entry.table].values()):
            for values in _before_and_after(entry.data, entry.diff or {}):
                reference = key.reference(values)
                if reference is not None:
                    yield reference

    def named(self, reference: Reference) -> str:
        """Return what a row is called, with its model."""
        name = self.names.get(reference) or reference.key
        return f"{self.model(reference.tracking.subject)} {name}"

    def object(self, entry: Entry) -> str:
        """Return what the row of an event is called."""
        model, key = self.model(entry.model), self.tables[entry.table].key
        if entry.key is None:
            return model
        found = [
            None if referring is None else referring.reference(entry.data)
            for referring, _ in (self._groups(entry.table, key) if len(key) > 1 else ())
        ]
        if len(found) < 2 or None in found:
            return f"{model} {entry.key}"
        # A row that puts others together, as of a secondary table.
        return f"{model} ({', '.join(self.named(each) for each in found if each)})"

    def values(
        self, entry: Entry, data: Mapping[str, Any]
    ) -> Iterator[tuple[str, Cell]]:
        """Yield the rows of a table of values: what each is called, and the value.

        :param entry: an event of the row that has the values.
        """
        for key, names in self._groups(entry.table, data):
            reference = None if key is None else key.reference(data)
            if key is not None and reference is not None:
                yield self._label_of(entry, key), self._link(reference)
            else:
                for name in names:
                    cell = _cell(as_text(data[name]))
                    yield self.attribute(entry.model, name), cell

    def differences(
        self, entry: Entry, diff: Mapping[str, tuple[Any, Any]]
    ) -> Iterator[tuple[str, Cell, Cell]]:
        """Yield the rows of a table of differences: what each is called, and values.

        :param entry: an event that has the values that did not change.
        :param diff: the values before and after, by attribute.
        """
        for key, names in self._groups(entry.table, diff):
            linked = None if key is None else self._linked(key, entry.data, diff)
            if key is not None and linked is not None:
                yield self._label_of(entry, key), *linked
            else:
                for name in names:
                    label = self.attribute(entry.model, name)
                    for change in changes_within(*diff[name]):
                        yield ".".join([label, *change.path]), *_cells(change)

    def plain(self, values: Mapping[str, Any]) -> Iterator[tuple[str, Cell]]:
        """Yield the rows of a table of values that are no attributes."""
        for name, value in values.items():
            yield name, _cell(as_text(value))

    def _groups(
        self, table: str, names: Iterable[str]
    ) -> Iterator[tuple[ReferringKey | None, list[str]]]:
        """Yield attributes one by one, those of a foreign key together."""
        referring, names = self.referring[table], [*names]
        for name in names:
            key = referring.get(name)
            if key is None:
                yield None, [name]
                continue
            together = [each for each in names if each in key.shown]
            if name == together[0]:
                yield key, together

    def _label_of(self, entry: Entry, key: ReferringKey) -> str:
        return ", ".join(self.attribute(entry.model, name) for name in key.shown)

    def _link(self, reference: Reference) -> Cell:
        return Cell([(self.named(reference), False)], reference=reference)

    def _linked(
        self,
        key: ReferringKey,
        data: Mapping[str, Any],
        diff: Mapping[str, tuple[Any, Any]],
    ) -> tuple[Cell, Cell] | None:
        """Return what a foreign key referred to before and after; None for no rows."""
        both = _before_and_after(data, diff)
        references = [key.reference(values) for values in both]
        if references == [None, None]:
            return None
        before, after = (
            _cell(", ".join(as_text(values.get(name)) for name in key.shown))
            if reference is None
            else self._link(reference)
            for values, reference in zip(both, references, strict=True)
        )
        return before, after

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
                return f"{counted(number, unit)} ago"
        return "just now"


def _before_and_after(
    data: Mapping[str, Any], diff: Mapping[str, tuple[Any, Any]]
) -> list[Mapping[str, Any]]:
    """Return the values of a row before and after a change, by attribute.

    :param data: the values of those that did not change.
    """
    return [
        ChainMap({name: pair[at] for name, pair in diff.items()}, {**data})
        for at in (0, 1)
    ]


def _cell(text: str) -> Cell:
    is_long = len(text) > _FOLDED
    return Cell([(text, False)], f"{text[:_SUMMARY]}…" if is_long else None)


def _cells(change: ValueChange) -> tuple[Cell, Cell]:
    """Return the values of a change, with the words that differ apart."""
    texts = change.before, change.after
    summaries: Sequence[str | None] = (None, None)
    if max(map(len, texts)) > _FOLDED:
        shortened = as_texts_that_differ(*texts, _SUMMARY)
        pairs = zip(texts, shortened, strict=True)
        summaries = [short if len(text) > _FOLDED else None for text, short in pairs]
    before, after = map(Cell, change.parts(), summaries)
    return before, after


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
