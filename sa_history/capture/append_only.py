"""The trigger of an append-only event table: events are added and never changed."""

from __future__ import annotations

from sa_history._types import Level, Operation
from sa_history.ddl.elements import PGTrigger
from sa_history.sql.compose import Qualified


def append_only_trigger(name: str, events: Qualified, function: Qualified) -> PGTrigger:
    """Return the trigger that refuses UPDATE, DELETE and TRUNCATE of events.

    One trigger at statement level serves all three operations, refuses before a row is
    read, and costs nothing when events are added. ``history.ignore`` does not turn it
    off.

    :param name: the name of the trigger.
    :param events: the event table.
    :param function: the trigger function that refuses.
    """
    return PGTrigger(
        name=name,
        table=events,
        function=function,
        timing="BEFORE",
        operations=(Operation.UPDATE, Operation.DELETE, Operation.TRUNCATE),
        level=Level.STATEMENT,
    )
