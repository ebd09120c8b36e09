"""The order of the actions of an undo, which keys and foreign keys require."""

from __future__ import annotations

import graphlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sa_history.exc import UndoError
from sa_history.tracking.stored_values import StoredRow
from sa_history.writing.net_changes import NetChange
from sa_history.writing.undo_actions import (
    NO_VALUES,
    RowKey,
    UndoAction,
    action_for,
)


@dataclass(frozen=True)
class _OrderRule:
    """A rule that orders two actions: one has to be run before the other.

    It applies to actions whose keys, by these two functions, have one in common.
    """

    name: str
    earlier: Callable[[UndoAction], frozenset[RowKey]]
    later: Callable[[UndoAction], frozenset[RowKey]]


_RULES = [
    _OrderRule(
        "a key is free before another row takes it",
        earlier=lambda action: action.keys_freed,
        later=lambda action: action.keys_taken,
    ),
    _OrderRule(
        "a row is there before another refers to it",
        earlier=lambda action: action.keys_taken,
        later=lambda action: action.rows_required,
    ),
    _OrderRule(
        "no row refers to a key any more before it is freed",
        earlier=lambda action: action.rows_released,
        later=lambda action: action.keys_freed,
    ),
]


# Not all rows may be able to follow this one: then values have to be parked.
_RULE_OF_UNIQUE_VALUES = _OrderRule(
    "a unique value is free before another row takes it",
    earlier=lambda action: action.unique_values.lost,
    later=lambda action: action.unique_values.gained,
)


@dataclass(frozen=True, eq=False)
class OrderedActions:
    """Actions in an order in which they can be run.

    :param actions: the actions in that order.
    :param earlier: for each action, those that have to be run before it; others may as
        well come later.
    """

    actions: Sequence[UndoAction]
    earlier: Mapping[UndoAction, Sequence[UndoAction]]


def ordered_actions(net_changes: Iterable[NetChange]) -> OrderedActions:
    """Return the actions that undo net changes, in an order that works.

    Rows that exchanged their keys cannot all be updated. One of them is deleted first
    and inserted again at the end. Of rows that refer to each other in a circle, one
    gets its foreign key after it is inserted, or loses it before it is deleted.

    :raises UndoError: there is no such order.
    """
    found = (action_for(net_change) for net_change in net_changes)
    actions = [action for action in found if action is not None]
    while True:
        earlier = _earlier(actions, _RULES)
        try:
            _in_order(earlier)
            break
        except graphlib.CycleError as error:
            cycle: Sequence[UndoAction] = error.args[1]
            actions = _without_cycle(actions, cycle)
            if not actions:
                raise UndoError(
                    "there is no order in which this can be undone: "
                    + "; ".join(map(str, cycle))
                ) from error
    wished = _earlier(actions, [_RULE_OF_UNIQUE_VALUES])
    while True:
        both = {action: [*earlier[action], *wished[action]] for action in actions}
        try:
            return OrderedActions(_in_order(both), earlier)
        except graphlib.CycleError as error:
            # Without the wishes of one action that has some in the cycle.
            granted = next(action for action in error.args[1] if wished[action])
            wished[granted] = []


def _earlier(
    actions: Sequence[UndoAction], rules: Sequence[_OrderRule]
) -> dict[UndoAction, list[UndoAction]]:
    """Return for each action those that rules want to be run before it."""
    earlier: dict[UndoAction, list[UndoAction]] = {action: [] for action in actions}
    for rule in rules:
        by_key: dict[RowKey, list[UndoAction]] = {}
        for action in actions:
            for key in rule.earlier(action):
                by_key.setdefault(key, []).append(action)
        for action in actions:
            for key in rule.later(action):
                others = by_key.get(key, ())
                earlier[action] += [other for other in others if other is not action]
    for action in actions:
        if action.previous is not None:
            earlier[action].append(action.previous)
    return earlier


def _in_order(earlier: Mapping[UndoAction, Sequence[UndoAction]]) -> list[UndoAction]:
    """Return actions in order.

    :raises graphlib.CycleError: there is none; its second argument is a cycle.
    """
    return list(graphlib.TopologicalSorter(earlier).static_order())


def _without_cycle(
    actions: Sequence[UndoAction], cycle: Sequence[UndoAction]
) -> list[UndoAction]:
    """Return actions without one of a cycle, and with those that have its effect.

    :return: no actions, if the cycle cannot be cut.
    """
    for action in cycle:
        parts = _parts(action, actions)
        if parts:
            return [*(other for other in actions if other is not action), *parts]
    return []


def _parts(action: UndoAction, actions: Sequence[UndoAction]) -> list[UndoAction]:
    """Return two actions with the effect of one, none if it cannot be split."""
    tracking, row = action.tracking, action.row
    if action.kind == "update":
        gone = UndoAction(tracking, "delete", row, NO_VALUES, is_reinserted=True)
        back = UndoAction(tracking, "insert", None, action.after or NO_VALUES)
        return [gone, back] if action.keys_taken else []
    if row is not None:
        without = _without_references(row, action, actions)
        if without is None:
            return []
        cleared = UndoAction(tracking, "update", row, without)
        rest = row.updated(without)
        return [
            cleared,
            UndoAction(tracking, "delete", rest, NO_VALUES, previous=cleared),
        ]
    without = _without_references(action.values, action, actions)
    if without is None:
        return []
    inserted = UndoAction(tracking, "insert", None, action.values.updated(without))
    values = action.values.only(without)
    return [
        inserted,
        UndoAction(tracking, "update", inserted.values, values, previous=inserted),
    ]


def _without_references(
    row: StoredRow, action: UndoAction, actions: Sequence[UndoAction]
) -> StoredRow | None:
    """Return NULL for what refers to rows that come or go, None if nothing can be.

    :param row: the row of the action, as it is inserted or deleted.
    """
    changed = {
        key
        for other in actions
        if other is not action
        for key in other.keys_taken | other.keys_freed
    }
    names = [
        column.name
        for constraint, key in action.references_of(row)
        if key in changed
        for column in constraint.columns
        if column.nullable and not column.primary_key
    ]
    if not names or action.previous is not None:
        return None
    return StoredRow(dict.fromkeys(names), {})
