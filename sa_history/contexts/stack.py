"""What a context holds, and which blocks are in force where.

A *frame* is one entered ``history.context(...)`` block. Frames, and the names that
``history.ignore(...)`` blocks were given, stand on stacks: on those of each session or
connection that a block was given, and of each thread for blocks without a target.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import itertools
import json
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any, TypeAlias

from sa_history.exc import ContextError

_order = itertools.count()
_ENTERED = attrgetter("entered")

_NOTHING: frozenset[str] = frozenset()

DEEPEST = 100
"""How deep a value may be nested: Python cannot read what is nested too deep."""

_SHOWN = 200

_encode_plain = json.JSONEncoder(allow_nan=False).encode

_UNUSUAL = re.compile(r"\\u0000|\\ud[89a-f]|\[|(?<!^)\{")
"""What asks for a look at each value: NUL, surrogates, and what has others in it."""

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # and not a backslash before "u0000"

ContextSettings: TypeAlias = tuple[str, str, str]
"""A context as the database gets it: id, metadata as JSON, and the parent's id."""


class Frame:
    """One entered context: an id, and its keys with those of the context around it.

    :param values: its own keys and values.
    :param parent: the frame around it.
    :param of: the frame that this one is in the place of, within the parent; see
        :meth:`inside`.
    :raises ContextError: a value cannot be stored as JSON; names its key.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        parent: Frame | None = None,
        of: Frame | None = None,
    ) -> None:
        self._id = _new_id()
        self.parent = parent
        self._of = of
        self._own, own = _stored(values)
        # Its whole JSON, where nothing is added to its own keys.
        self._json = own if parent is None else None
        self.entered = self._changed = next(_order)
        self._inside: dict[Frame, Frame] = {}
        self._begun = 0 if parent is None else self._begun_around()
        self._settings: tuple[int, ContextSettings] | None = None

    @property
    def id(self) -> uuid.UUID:
        """The id that its row has."""
        return uuid.UUID(self._id)

    def annotate(self, values: Mapping[str, Any]) -> None:
        """Add keys and values, which frames inside of this one have as well.

        :raises ContextError: a value cannot be stored as JSON; nothing is added.
        """
        own, _ = _stored(values)
        self._own.update(own)
        self._json = None
        self._changed = next(_order)

    @property
    def metadata(self) -> dict[str, Any]:
        """Its keys and values, with those of the frames around it."""
        around = self.parent.metadata if self.parent else {}
        return {**around, **(self._of._keys if self._of else {}), **self._keys}

    @property
    def _keys(self) -> dict[str, Any]:
        return self._own

    @property
    def settings(self) -> ContextSettings:
        """What the database gets."""
        changed = self._last_change()
        if self.parent is not None:
            self._renew()
        if self._settings is None or self._settings[0] != changed:
            # In ASCII, which a connection of any client_encoding can send.
            metadata = self._json or json.dumps(self.metadata)
            parent = self.parent._id if self.parent else ""
            self._settings = changed, (self._id, metadata, parent)
        return self._settings[1]

    def _last_change(self) -> int:
        changed = self._changed
        if self._of is not None:
            changed = max(changed, self._of._last_change())
        if self.parent is not None:
            changed = max(changed, self.parent._last_change())
        return changed

    def _begun_around(self) -> int:
        """Return how often frames that this one is made of have begun anew."""
        begun = 0
        if self._of is not None:
            begun += self._of._times_begun()
        if self.parent is not None:
            begun += self.parent._times_begun()
        return begun

    def _times_begun(self) -> int:
        return self._begun_around()

    def _renew(self) -> None:
        """Begin anew where a frame has that this one is made of.

        Else its row, which has their keys as well, would be written over.
        """
        if self.parent is not None:
            self.parent._renew()
        begun = self._begun_around()
        if begun != self._begun:
            self._begun = begun
            self._id = _new_id()

    def inside(self, outer: Frame) -> Frame:
        """Return this frame as if it had been entered inside ``outer``.

        That is itself where it was. It was not where a block with a target stands
        around one without, or the other way round: each knows its own stack only.
        """
        frame: Frame | None = self
        while frame is not None:
            if frame is outer:
                return self
            frame = frame.parent
        if outer not in self._inside:
            self._inside[outer] = Frame({}, outer, of=self)
        return self._inside[outer]

    def __repr__(self) -> str:
        return f"<context {self.metadata!r}>"


class LateFrame(Frame):
    """A frame whose values are asked for when something is written.

    What is known later is added to it. Where a value is replaced by another, what was
    written before stays as it is: the frame begins anew, with another id, and so do
    those inside of it. Keys that are annotated win, and stay.

    :param values: gives the values there are now; it must not use the database.
    """

    def __init__(self, values: Callable[[], Mapping[str, Any]]) -> None:
        self._values = values
        self._known: dict[str, Any] = {}
        self._late: dict[str, Any] = {}
        self._times = 0
        self._is_asking = False
        super().__init__({})
        self._json = None

    @property
    def _keys(self) -> dict[str, Any]:
        return {**self._late, **self._own}

    def _times_begun(self) -> int:
        return self._times + super()._times_begun()

    def _last_change(self) -> int:
        if not self._is_asking:
            self._is_asking = True
            try:
                self._ask()
            finally:
                self._is_asking = False
        return super()._last_change()

    def _ask(self) -> None:
        values = dict(self._values())
        if values == self._known:
            return
        late, _ = _stored(values)
        if any(late.get(key) != value for key, value in self._late.items()):
            self._id = _new_id()
            self._times += 1
        self._known, self._late = values, late
        self._changed = next(_order)


class Blocks:
    """The blocks that are entered for one session, connection or thread."""

    def __init__(self) -> None:
        self.contexts: list[Frame] = []
        self.ignored: list[frozenset[str]] = []

    def __bool__(self) -> bool:
        return bool(self.contexts or self.ignored)


class _Ambient(threading.local):
    """The blocks without a target."""

    def __init__(self) -> None:
        self.blocks = Blocks()


# Global by its nature: a block without a target is for whatever the thread does.
ambient = _Ambient()


def in_force(stacks: Iterable[Blocks]) -> Frame | None:
    """Return the frame in force among these blocks, None for none.

    The innermost one counts, with the keys of all around it.
    """
    frames: list[Frame] = []
    for blocks in stacks:
        frames += blocks.contexts
    if len(frames) < 2:
        return frames[0] if frames else None
    frames.sort(key=_ENTERED)
    result, *rest = frames
    for frame in rest:
        result = frame.inside(result)
    return result


def ignored(stacks: Iterable[Blocks]) -> frozenset[str]:
    """Return what is ignored by any of these blocks."""
    names: list[frozenset[str]] = []
    for blocks in stacks:
        names += blocks.ignored
    return _NOTHING.union(*names)


def _new_id() -> str:
    """Return a UUID that begins with the time, in milliseconds, and is random after it.

    So the index entries of new contexts are side by side, and a transaction writes to
    pages that the one before it has written to. Of version 7:
    https://www.rfc-editor.org/rfc/rfc9562#section-5.7
    """
    digits = f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"
    # To make one of uuid.UUID takes three times as long. The digit of the variant may
    # be 8, 9, a or b.
    return (
        f"{digits[:8]}-{digits[8:12]}-7{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
    )


def _stored(values: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Return values as JSON has them, and their JSON if that was seen to be good.

    :raises ContextError: a value cannot be stored as JSON; names its key.
    """
    try:
        text = _encode_plain(values)
    except (TypeError, ValueError, RecursionError):
        pass
    else:
        if not _UNUSUAL.search(text):
            return dict(values), text
    return {key: _as_json(key, value) for key, value in values.items()}, None


def _as_json(key: str, value: Any) -> Any:
    """Return a value as JSON has it, or refuse it by its key."""
    try:
        text = json.dumps(
            {key: value}, default=_encode, allow_nan=False, ensure_ascii=False
        )
        text.encode()  # refuses half a surrogate pair, as PostgreSQL would
        stored = json.loads(text)[key]
        too_deep = text.count("[") + text.count("{") > DEEPEST and _is_deep(stored)
    except RecursionError:
        too_deep = True
    except (TypeError, ValueError) as error:
        raise ContextError(
            f"context value {_shown(key)} is {_shown(value)}, which cannot be stored "
            f"as JSON: {error}; give a string, a number, a list or a dict of such"
        ) from error
    if too_deep:
        raise ContextError(
            f"context value {_shown(key)} is {_shown(value)}, in which lists or dicts "
            f"are nested more than {DEEPEST} deep; give a flatter one"
        )
    if _NUL.search(text):
        raise ContextError(
            f"context value {_shown(key)} is {_shown(value)}, which contains NUL; "
            "PostgreSQL cannot store it in JSON, so remove it"
        )
    return stored


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        inside: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inside += item.values()
            elif isinstance(item, list):
                inside += item
        level = [item for item in inside if isinstance(item, (dict, list))]
        if not level:
            return False
    return True


def _shown(value: Any) -> str:
    """Return a value as a message has it, whatever it is."""
    try:
        text = repr(value)
    except Exception:  # of an integer of many digits, or a class of the application
        text = object.__repr__(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _encode(value: Any) -> Any:
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (uuid.UUID, decimal.Decimal)):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    raise TypeError(f"it contains a {type(value).__name__}")
