"""Running the actions of an undo, also where rows change places in unique columns.

Which rows conflict, PostgreSQL knows best: unique indexes may be partial or on
expressions, and exclusion constraints have operators of any kind. So an action that is
refused is tried again once others have been run. If that leads no further, a row gets
other values for a while.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, func, select, types
from sqlalchemy.exc import DBAPIError

from sa_history.sql.column_types import postgresql_type
from sa_history.tracking.databases import ModelSession
from sa_history.tracking.stored_values import StoredRow
from sa_history.util.postgresql import sqlstate_of
from sa_history.writing.net_changes import KeyValues
from sa_history.writing.undo_actions import UndoAction, unique_columns
from sa_history.writing.undo_order import OrderedActions

_IS_TAKEN = ("23505", "23P01")
"""The SQLSTATE of ``unique_violation`` and of ``exclusion_violation``."""


@dataclass(frozen=True, eq=False)
class Refusal:
    """An action that the database refuses.

    :param action: the action.
    :param error: its error.
    """

    action: UndoAction
    error: DBAPIError

    @property
    def is_taken(self) -> bool:
        """Whether another row has values that the action would give to its row."""
        return sqlstate_of(self.error.orig) in _IS_TAKEN

    def __str__(self) -> str:
        return f"is refused: {' '.join(str(self.error.orig).split())}"


def run_actions(
    rows: ModelSession, ordered: OrderedActions
) -> tuple[Sequence[UndoAction], Sequence[Refusal]]:
    """Run actions.

    :param rows: the session that runs them.
    :return: the actions as they were run, and those that are refused. If some are, the
        caller has to roll back.
    """
    refusal = _run(rows, ordered.actions)
    if refusal is None:
        return ordered.actions, []
    if not refusal.is_taken:
        return [], [refusal]
    done: list[UndoAction] = []
    parked: set[UndoAction] = set()
    waiting = list(ordered.actions)
    while waiting:
        refusals = []
        pending = frozenset(waiting)
        possible = [a for a in waiting if pending.isdisjoint(ordered.earlier[a])]
        for action in possible:
            refusal = _run(rows, [action])
            if refusal is None:
                waiting.remove(action)
                done.append(action)
            else:
                refusals.append(refusal)
        if len(refusals) < len(possible):
            continue
        parking = _parking(rows, refusals, parked)
        if parking is None:
            return [], refusals
        done.append(parking)
    return done, []


def _run(rows: ModelSession, actions: Sequence[UndoAction]) -> Refusal | None:
    """Run actions, all or none of them; return the one that is refused, if any."""
    with rows.session.begin_nested() as nested:
        for action in actions:
            try:
                action.run(rows)
            except DBAPIError as error:
                nested.rollback()
                return Refusal(action, error)
    return None


def _parking(
    rows: ModelSession, refusals: Sequence[Refusal], parked: set[UndoAction]
) -> UndoAction | None:
    """Give one of the rows of refused actions other values, where it has unique ones.

    :param parked: the actions whose rows have others already; gets one more.
    :return: the action that was run; None if no row can have others.
    """
    for refusal in refusals:
        action = refusal.action
        if action.kind != "update" or action in parked or not refusal.is_taken:
            continue
        parked.add(action)
        for values in _other_values(rows, action):
            parking = UndoAction(action.tracking, "update", action.row, values)
            if _run(rows, [parking]) is None:
                return parking
    return None


def _other_values(rows: ModelSession, action: UndoAction) -> Iterator[StoredRow]:
    """Yield values that an updated row might have for a while."""
    unique = [
        column
        for columns in unique_columns(action.table)
        for column in columns
        if column.name in action.values
    ]
    columns = unique or [c for c in action.table.c if c.name in action.values]
    nullable = [column.name for column in columns if column.nullable]
    if nullable:
        yield StoredRow(dict.fromkeys(nullable), {})
    for column in columns:
        for value in _unused(rows, column, action.key):
            yield StoredRow({column.name: value}, {})


def _unused(rows: ModelSession, column: Column[Any], key: KeyValues) -> Iterator[Any]:
    """Yield values that no row has in a column, the same in each run.

    :param key: the key of the row that gets one.
    """
    type_ = postgresql_type(column.type)
    if isinstance(type_, types.Integer):
        least, greatest = func.min(column), func.max(column)
        below, above = rows.execute(select(least - 1, greatest + 1)).one()
        yield from (below, above)
    elif isinstance(type_, types.String) and not isinstance(type_, types.Enum):
        yield uuid.uuid5(uuid.NAMESPACE_OID, repr(key)).hex[: type_.length]
