"""What a context holds, and which contexts are in force where.

A *frame* is one entered ``history.context(...)`` block. Frames stand on stacks: one
for each session or connection that a block was given, one for each thread for blocks
without a target.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import itertools
import json
import threading
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from sa_history.exc import ContextError

_order = itertools.count()

Settings: TypeAlias = tuple[str, str, str]
"""A context as the database gets it: id, metadata as JSON, and the parent's id."""


class Frame:
    """One entered context: an id, and its keys with those of the context around it.

    :param values: its own keys and values.
    :param parent: the frame around it.
    :param entered: its place in the order of entering, None for the next.
    :raises ContextError: a value cannot be stored as JSON; names its key.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        parent: Frame | None = None,
        entered: int | None = None,
    ) -> None:
        self.id = uuid.uuid4()
        self.parent = parent
        self.entered = next(_order) if entered is None else entered
        self.own: dict[str, Any] = {}
        self.metadata: dict[str, Any] = dict(parent.metadata) if parent else {}
        self._combined: dict[uuid.UUID, Frame] = {}
        self.annotate(values)

    def annotate(self, values: Mapping[str, Any]) -> None:
        """Add keys and values.

        :raises ContextError: a value cannot be stored as JSON; nothing is added.
        """
        stored = {key: _as_json(key, value) for key, value in values.items()}
        self.own.update(stored)
        self.metadata.update(stored)
        self.settings: Settings = (
            str(self.id),
            json.dumps(self.metadata, ensure_ascii=False),
            str(self.parent.id) if self.parent else "",
        )
        self._combined.clear()

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
        if outer.id not in self._combined:
            self._combined[outer.id] = Frame(self.own, outer, self.entered)
        return self._combined[outer.id]

    def __repr__(self) -> str:
        return f"<context {self.metadata!r}>"


class _Ambient(threading.local):
    """The stack of the blocks without a target."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []


# Global by its nature: a block without a target is for whatever the thread does.
_ambient = _Ambient()


def ambient_frames() -> list[Frame]:
    """Return the stack of this thread."""
    return _ambient.frames


def in_force(stacks: Iterable[list[Frame]] = ()) -> Frame | None:
    """Return the frame in force for what has these stacks, in this thread.

    The innermost block counts, with the keys of all around it.
    """
    tops = [stack[-1] for stack in (_ambient.frames, *stacks) if stack]
    if len(tops) > 1:
        tops.sort(key=lambda frame: frame.entered)
    result: Frame | None = None
    for frame in tops:
        result = frame if result is None else frame.inside(result)
    return result


def _as_json(key: str, value: Any) -> Any:
    """Return a value as JSON has it, or refuse it by its key."""
    try:
        text = json.dumps(value, default=_encode, allow_nan=False, ensure_ascii=False)
        text.encode()  # refuses half a surrogate pair, as PostgreSQL would
    except (TypeError, ValueError) as error:
        raise ContextError(
            f"context value {key!r} is {value!r}, which cannot be stored as JSON: "
            f"{error}; give a string, a number, a list or a dict of such"
        ) from error
    if r"\u0000" in text:
        raise ContextError(
            f"context value {key!r} is {value!r}, which contains NUL; PostgreSQL "
            "cannot store it in JSON, so remove it"
        )
    return json.loads(text)


def _encode(value: Any) -> Any:
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (uuid.UUID, decimal.Decimal)):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    raise TypeError(f"it contains a {type(value).__name__}")
