"""Context frames: what one entered ``history.context(...)`` block holds.

A frame refers to the frame around it, and so has its keys as well. What a frame holds
is an immutable :class:`FrameVersion`; a change of its values replaces the version.
"""

from __future__ import annotations

import datetime
import itertools
import json
import os
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from sa_history.contexts.json_values import stored_values

_order = itertools.count()

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)

_IMMUTABLE = (str, int, bool, type(None))
"""Types whose values are stored alike if they are equal, and of the same type."""

ContextSettings: TypeAlias = tuple[str, str, str]
"""A context as settings of the database: id, metadata as JSON, the parent's id."""


@dataclass(frozen=True, eq=False)
class FrameVersion:
    """What a frame holds between two changes of its values.

    :param id: the id of the context's row, a UUID.
    :param values: the frame's own keys and values, as JSON has them.
    :param generation: how often the frame has got another id because a value was
        replaced, in itself or in the frames that it is made of.
    """

    id: str
    values: Mapping[str, Any]
    generation: int


class ContextFrame:
    """One entered context: an id, and its keys with those of the context around it.

    :param values: the frame's own keys and values.
    :param parent: the frame around it, or None for the outermost.
    :param copy_of: the frame that this one replaces within the parent, or None; see
        :meth:`nested_in`.
    :raises ContextError: a value cannot be stored as JSON; names its key.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        parent: ContextFrame | None = None,
        copy_of: ContextFrame | None = None,
    ) -> None:
        self.parent = parent
        self.entered = next(_order)
        """The position in the order in which all frames were entered."""
        self._copy_of = copy_of
        # Its keys count in this order, the last one most.
        self._made_of = tuple(filter(None, (parent, copy_of)))
        stored, text = stored_values(values)
        self._version = FrameVersion(new_id(), stored, self._generation_of_parts())
        # What the frame was made with is JSON already, if there is no other.
        self._text = None if self._made_of else text
        self._copies: dict[ContextFrame, ContextFrame] = {}
        self._settings: tuple[tuple[FrameVersion, ...], ContextSettings] | None = None

    @property
    def id(self) -> uuid.UUID:
        """The id that the context's row has."""
        return uuid.UUID(self._version.id)

    @property
    def metadata(self) -> dict[str, Any]:
        """The keys and values, with those of the frames around it."""
        around = self.parent.metadata if self.parent else {}
        copied = self._copy_of._version.values if self._copy_of else {}
        return {**around, **copied, **self._version.values}

    def annotate(self, values: Mapping[str, Any]) -> None:
        """Add keys and values, which frames inside of this one have as well.

        :raises ContextError: a value cannot be stored as JSON; nothing is added.
        """
        added, _ = stored_values(values)
        self._text = None
        self._version = replace(self._version, values={**self._version.values, **added})

    @property
    def settings(self) -> ContextSettings:
        """The context as settings of the database, computed from all versions."""
        versions = self._versions()
        if self._settings is None or self._settings[0] != versions:
            # In ASCII, which a connection of any client_encoding can send.
            metadata = self._text or json.dumps(self.metadata)
            parent = self.parent._version.id if self.parent else ""
            self._settings = versions, (self._version.id, metadata, parent)
        return self._settings[1]

    def _versions(self) -> tuple[FrameVersion, ...]:
        """Return the current versions of this frame and of those that it is made of.

        If one of those has got another id, so does this one. Else its row, which has
        their keys as well, would be overwritten.
        """
        if not self._made_of:
            return (self._version,)
        versions: list[FrameVersion] = []
        for frame in self._made_of:
            versions += frame._versions()
        generation = self._generation_of_parts()
        if generation != self._version.generation:
            self._version = replace(self._version, id=new_id(), generation=generation)
        return (*versions, self._version)

    def _generation_of_parts(self) -> int:
        # Each block comes by here; a generator, made for nothing, would take longer.
        generation = 0
        for frame in self._made_of:
            generation += frame._version.generation
        return generation

    def nested_in(self, outer: ContextFrame) -> ContextFrame:
        """Return this frame nested in another one.

        :param outer: a frame that was entered before.
        :return: the frame itself, if it was entered inside of ``outer``. It was not if
            one of the two blocks has a target and the other one has none, since each
            knows its own stack only: then a copy with the keys of both, the same one
            each time.
        """
        frame: ContextFrame | None = self
        while frame is not None:
            if frame is outer:
                return self
            frame = frame.parent
        if outer not in self._copies:
            self._copies[outer] = ContextFrame({}, outer, copy_of=self)
        return self._copies[outer]

    def __repr__(self) -> str:
        return f"<context {self.metadata!r}>"


class LazyFrame(ContextFrame):
    """A frame whose values are asked for when something is written.

    Values that become known later are added to it. If a value is replaced by another
    one, what was written before keeps the old one: the frame gets another id, and so do
    those inside of it. Keys that are annotated win, and stay.

    :param values: returns the current values; it must not use the database.
    """

    def __init__(self, values: Callable[[], Mapping[str, Any]]) -> None:
        super().__init__({})
        self._text = None
        self._values = values
        self._known: dict[str, Any] = {}  # as they were given last
        self._texts: dict[str, str] = {}  # the JSON of each
        self._annotated: dict[str, Any] = {}
        self._is_asking = False

    def annotate(self, values: Mapping[str, Any]) -> None:
        """Add keys and values, which win over the given ones from now on.

        :raises ContextError: a value cannot be stored as JSON; nothing is added.
        """
        added, _ = stored_values(values)
        self._annotated = {**self._annotated, **added}
        super().annotate(added)

    def _versions(self) -> tuple[FrameVersion, ...]:
        # A function of the application that writes after all would come here again.
        if not self._is_asking:
            self._is_asking = True
            try:
                self._ask()
            finally:
                self._is_asking = False
        return (self._version,)

    def _ask(self) -> None:
        values = dict(self._values())
        if _are_stored_alike(values, self._known):
            return
        stored, _ = stored_values(values)
        texts = {key: json.dumps(value) for key, value in stored.items()}
        self._known = values
        if texts == self._texts:
            return
        version = self._version
        if any(texts.get(key) != text for key, text in self._texts.items()):
            version = replace(version, id=new_id(), generation=version.generation + 1)
        self._version = replace(version, values={**stored, **self._annotated})
        self._texts = texts


def _are_stored_alike(values: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """Return True if it can be seen without JSON that values are stored as the known.

    It cannot of a list, which may be the same one with another content. True is stored
    as another value than 1, which it equals.
    """
    return values == known and all(
        type(value) in _IMMUTABLE and type(value) is type(known[key])
        for key, value in values.items()
    )


def new_id() -> str:
    """Return a UUID that begins with the time in milliseconds, and is random after it.

    So the index entries of new contexts are side by side, and a transaction writes to
    pages that the one before it has written to. It is a UUID of version 7:
    https://www.rfc-editor.org/rfc/rfc9562#section-5.7
    """
    digits = f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"
    # To make one of uuid.UUID takes three times as long. The digit of the variant may
    # be 8, 9, a or b.
    return (
        f"{digits[:8]}-{digits[8:12]}-7{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
    )


def time_of_id(context_id: uuid.UUID) -> datetime.datetime | None:
    """Return the time in milliseconds that the id of a context begins with.

    :return: None if the id is no UUID of version 7, and so not made here.
    """
    if context_id.version != 7:
        return None
    milliseconds = context_id.int >> 80
    return _EPOCH + datetime.timedelta(milliseconds=milliseconds)
