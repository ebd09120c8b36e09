"""Running the actions of an undo, also where rows change places in unique columns.

Which rows conflict, PostgreSQL knows best: unique indexes may be partial or on
expressions, and exclusion constraints have operators of any kind. So an action that is
refused is tried again once others have been run. If that leads no further, a row gets
other values for a while.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    cast,
    func,
    literal,
    select,
    type_coerce,
    types,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError

from sa_history.sql.column_types import postgresql_type, without_domain
from sa_history.tracking.databases import ModelSession
from sa_history.tracking.stored_values import StoredRow
from sa_history.util.postgresql import sqlstate_of, text_of
from sa_history.writing.net_changes import KeyValues
from sa_history.writing.undo_actions import UndoAction, unique_columns
from sa_history.writing.undo_order import OrderedActions

_IS_TAKEN = ("23505", "23P01")
"""The SQLSTATE of ``unique_violation`` and of ``exclusion_violation``."""


@dataclass(frozen=True, eq=False)
class RefusedAction:
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
        return f"is refused: {text_of(self.error.orig)}"


_REPORTED = 1_000
"""After how many rows a progress is reported."""


@dataclass(eq=False)
class Progress:
    """How many rows are undone.

    :param report: called with the number, from time to time; None for no calls.
    :param done: the number so far.
    """

    report: Callable[[int], None] | None
    done: int = 0
    _reported: int = 0

    def add(self, number: int) -> None:
        """Count rows, and report the number after each thousand.

        :param number: how many rows more are undone.
        """
        self.done += number
        if self.done // _REPORTED != self._reported // _REPORTED:
            self.finish()

    def finish(self) -> None:
        """Report the number, unless it was the last one that was reported."""
        if self.report is not None and self.done != self._reported:
            self.report(self.done)
        self._reported = self.done


def run_actions(
    rows: ModelSession, ordered: OrderedActions, progress: Progress
) -> tuple[Sequence[UndoAction], Sequence[RefusedAction]]:
    """Run actions.

    :param rows: the session that runs them.
    :param progress: is told how many are run.
    :return: the actions as they were run, and those that are refused. If some are, the
        caller has to roll back.
    """
    refusal = _run(rows, ordered.actions, progress)
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
            refusal = _run(rows, [action], progress)
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


def _run(
    rows: ModelSession, actions: Sequence[UndoAction], progress: Progress
) -> RefusedAction | None:
    """Run actions, all or none of them; return the one that is refused, if any."""
    done = progress.done
    with rows.session.begin_nested() as nested:
        for action in actions:
            try:
                action.run(rows)
            except DBAPIError as error:
                nested.rollback()
                progress.done = done
                return RefusedAction(action, error)
            progress.add(1)
    return None


def _parking(
    rows: ModelSession, refusals: Sequence[RefusedAction], parked: set[UndoAction]
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
            if _run(rows, [parking], Progress(None)) is None:
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
        as_it_is = select(cast(column, types.Text)).where(action.is_row())
        own = rows.scalar(as_it_is)
        for text in _unused(rows, column, action.key):
            if text != own:
                yield StoredRow({column.name: text}, {column.name: text})


_DISTANCES: Sequence[tuple[tuple[type[Any], ...], ColumnElement[Any]]] = (
    (
        (types.Integer, types.Numeric, types.Float, types.Date),
        literal(1, types.Integer()),
    ),
    (
        (types.DateTime, types.Time, types.Interval, postgresql.INTERVAL),
        literal(datetime.timedelta(hours=1), types.Interval()),
    ),
)
"""What is added to the greatest value of a column, and taken from its least one."""


def _unused(rows: ModelSession, column: Column[Any], key: KeyValues) -> Iterator[str]:
    """Yield values that no row may have in a column, the same in each run.

    The database has the last word: the type, a CHECK or another row may refuse one.

    :param key: the key of the row that gets one.
    :return: the values as text, as the database reads them.
    """
    type_ = without_domain(postgresql_type(column.type))
    for covered, distance in _DISTANCES:
        if isinstance(type_, covered):
            least = type_coerce(func.min(column), type_).op("-")(distance)
            greatest = type_coerce(func.max(column), type_).op("+")(distance)
            query = select(cast(least, types.Text), cast(greatest, types.Text))
            yield from rows.execute(query).one()
    own = uuid.uuid5(uuid.NAMESPACE_OID, repr(key)).hex
    if isinstance(type_, types.Uuid):
        yield own
    elif isinstance(type_, types.Enum):
        yield from type_.enums
    elif isinstance(type_, types.String):
        yield own[: type_.length]
    elif isinstance(type_, types.LargeBinary):
        yield rf"\x{own}"
    elif isinstance(type_, postgresql.ranges.AbstractRange):
        # It overlaps none; the second is that of a multirange.
        yield from ("empty", "{}")
