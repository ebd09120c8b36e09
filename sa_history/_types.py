"""Small types that all layers share."""

from __future__ import annotations

import enum
from typing import Final, Literal, TypeAlias

Row = Literal["old", "new"]
"""Which side of a change a tracker stores."""

ContextOption = Literal["reference", "inline"]
"""Where the context of an event is stored: in a row of its own, or in the event's."""

PartitionPeriod = Literal["day", "week", "month", "year"]
"""About how long a partition of an event table gets events."""

PartitionBy: TypeAlias = PartitionPeriod | int
"""How much a partition holds: the events of a period, or a number of events."""

When = Literal["before", "after", "instead of"]
"""When a trigger runs: before or after the change, or instead of it, on a view."""

Deferrable = Literal["immediate", "deferred"]
"""Whether a trigger that can be deferred to the end of the transaction begins so."""


class Unset(enum.Enum):
    """The type of :data:`UNSET`; an enum, so that type checkers can narrow it."""

    UNSET = "UNSET"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET
"""Says that an argument was not given, where None would mean something."""


class Level(enum.Enum):
    """How often a trigger runs: once for a statement, or once for each row."""

    STATEMENT = "statement"
    ROW = "row"


class Operation(enum.Enum):
    """What a trigger fires on."""

    INSERT = "INSERT"
    UPDATE = "UPDATE"
    DELETE = "DELETE"
    TRUNCATE = "TRUNCATE"

    @property
    def has_old(self) -> bool:
        """Whether there is a row from before the change."""
        return self is not Operation.INSERT

    @property
    def has_new(self) -> bool:
        """Whether there is a row from after the change."""
        return self in (Operation.INSERT, Operation.UPDATE)


class Op(str, enum.Enum):
    """What an event records, as stored in ``pgh_op``.

    Example::

        session.scalars(Account.events.where(Account.events.pgh_op == Op.DELETE))
    """

    INSERT = "I"
    UPDATE = "U"
    DELETE = "D"
    TRUNCATE = "T"
    MANUAL = "M"
    BASELINE = "B"

    __str__ = str.__str__
