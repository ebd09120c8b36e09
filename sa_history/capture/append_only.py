"""Protection of an event table: events are only ever added."""

from __future__ import annotations

from sa_history._types import Level, Operation
from sa_history.ddl.elements import PGTrigger
from sa_history.sql.compose import Qualified


def append_only_trigger(name: str, events: Qualified, function: Qualified) -> PGTrigger:
    """Return the trigger that refuses UPDATE, DELETE and TRUNCATE of events.

    One trigger of statement level covers all three, refuses before a row is looked
    at, and costs nothing where events are added. It has no switch.
    """
    return PGTrigger(
        name=name,
        table=events,
        function=function,
        timing="BEFORE",
        operations=(Operation.UPDATE, Operation.DELETE, Operation.TRUNCATE),
        level=Level.STATEMENT,
    )
