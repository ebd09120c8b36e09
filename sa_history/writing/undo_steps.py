"""The steps of an undo; those of many rows are read when they are asked for."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from sa_history.tracking.databases import ModelSession
from sa_history.writing.undo_actions import UndoAction
from sa_history.writing.undo_sets import ActionSet


@dataclass(frozen=True, eq=False)
class StoredSteps(Sequence[UndoAction]):
    """Steps of many rows, whose values are in the events of the database.

    :param rows: the session that reads them.
    :param sets: the sets of steps, in the order in which they are run.
    :param actions: the steps that follow them.
    """

    rows: ModelSession
    sets: Sequence[ActionSet]
    actions: Sequence[UndoAction]

    def __len__(self) -> int:
        return sum(each.number for each in self.sets) + len(self.actions)

    def __iter__(self) -> Iterator[UndoAction]:
        for each in self.sets:
            yield from each.steps(self.rows)
        yield from self.actions

    @overload
    def __getitem__(self, index: int) -> UndoAction: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[UndoAction]: ...

    def __getitem__(self, index: int | slice) -> UndoAction | Sequence[UndoAction]:
        places = range(len(self))[index]
        if isinstance(places, int):
            return next(itertools.islice(self, places, None))
        wanted = dict.fromkeys(places)
        found = {place: step for place, step in enumerate(self) if place in wanted}
        return tuple(found[place] for place in wanted)

    def __repr__(self) -> str:
        return f"<{len(self)} steps>"


def steps_of(
    rows: ModelSession, sets: Sequence[ActionSet], actions: Sequence[UndoAction]
) -> Sequence[UndoAction]:
    """Return steps: a tuple if all are in memory.

    :param rows: the session that reads the steps of the sets.
    """
    return StoredSteps(rows, sets, actions) if sets else tuple(actions)


def count_steps(steps: Sequence[UndoAction]) -> dict[tuple[str, str], int]:
    """Return how many steps there are of each table's name and kind."""
    sets: Sequence[ActionSet] = ()
    if isinstance(steps, StoredSteps):
        sets, steps = steps.sets, steps.actions
    counts: Counter[tuple[str, str]] = Counter()
    for each in sets:
        counts[each.table.fullname, each.kind] += each.number
    counts.update((step.table.fullname, step.kind) for step in steps)
    return dict(counts)


def lines_of(steps: Sequence[UndoAction]) -> list[str]:
    """Return a line for each step, or for each set of them."""
    if isinstance(steps, StoredSteps):
        return [*map(str, steps.sets), *map(str, steps.actions)]
    return [*map(str, steps)]
