"""Pages as JSON, for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sa_history.sealing.chain import Seal
from sa_history.sql.readable_json import dumps
from sa_history.timeline.chart import Chart
from sa_history.timeline.entries import Entry
from sa_history.timeline.requests import JSON
from sa_history.timeline.responses import PageResponse


def list_as_json(
    entries: Sequence[Entry],
    seals: Mapping[tuple[str, int], Seal | None],
    following: str | None,
    extra: Mapping[str, Any],
) -> PageResponse:
    """Return a list of events as JSON has it.

    :param seals: as :meth:`Timeline.seals` returns them.
    :param following: the address of the next page; None if there is none.
    :param extra: what an object's page shows beside its list.
    """

    def as_json(entry: Entry) -> dict[str, Any]:
        known = (entry.table, entry.id)
        seal = {"seal": seal_as_json(seals[known])} if known in seals else {}
        return {**entry.as_json(), **seal}

    answer: dict[str, Any] = {
        "events": [as_json(entry) for entry in entries],
        "next": following,
    }
    if extra.get("at") is not None:
        state = extra["state"]
        answer["state"] = None if state is None else state.as_json()
    if extra.get("compared") is not None:
        answer["compared"] = extra["compared"]
    return PageResponse(dumps(answer), content_type=JSON)


def seal_as_json(seal: Seal | None) -> dict[str, Any] | None:
    """Return a seal as JSON has it, None for None."""
    if seal is None:
        return None
    return {
        "number": seal.number,
        "sealed_at": seal.sealed_at.isoformat(),
        "root": seal.root.hex(),
    }


def chart_as_json(chart: Chart | None) -> dict[str, Any]:
    """Return the chart of changes a day as JSON has it; None for nothing to show."""
    if chart is None:
        return {"days": [], "is_whole": True}
    days = [
        {"day": bar.day.isoformat(), "model": row.model, "events": bar.events}
        for row in chart.rows
        for bar in row.bars
    ]
    return {"days": days, "is_whole": chart.is_whole}
