"""What the page of an undo says of its plan, without what is hidden."""

from __future__ import annotations

from sa_history.timeline.display import Display
from sa_history.timeline.queries import Timeline
from sa_history.tracking.value_text import as_text
from sa_history.writing.undo import Conflict, Undo

_OPERATIONS = {"insert": "create", "update": "change", "delete": "delete"}

_REFUSED = "is refused"


def counts_of(
    plan: Undo, shown: Timeline, display: Display
) -> list[tuple[str, str, int]]:
    """Return how many rows an undo writes, by what models are called and operation."""
    models = {tracking.table.fullname: tracking.subject for tracking in shown.trackings}
    return [
        (display.model(models[table]), _OPERATIONS[kind], number)
        for (table, kind), number in plan.counts.items()
    ]


def conflict_text(conflict: Conflict, shown: Timeline, display: Display) -> str:
    """Return a conflict as a person reads it.

    What it says of tables with hidden columns is left out, and so is what the database
    says, since a trigger can say any value.
    """
    tracking, hidden = conflict.step.tracking, shown.hidden
    row = display.model(tracking.subject)
    if not hidden.has_key(tracking):
        row = f"{row} {', '.join(map(as_text, conflict.step.key))}"
    private = [
        table.name
        for table in (shown.metadata.tables.values() if hidden.columns else ())
        if any(map(hidden.hides, table.c))
    ]
    is_hidden = (
        tracking.table.name in private
        or any(name in conflict.problem for name in private)
        or (bool(private) and conflict.problem.startswith(_REFUSED))
    )
    if is_hidden:
        return f"{row} has been changed since, or other rows are in the way"
    return f"{row} {conflict.problem}"
