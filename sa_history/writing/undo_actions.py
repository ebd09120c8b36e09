"""The steps that undo what was made of rows, in an order that foreign keys allow."""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, delete, select, tuple_, update
from sqlalchemy.orm import Session

from sa_history.exc import UndoError
from sa_history.tracking.registry import Tracking
from sa_history.tracking.restore import inserted, is_always_identity
from sa_history.writing.net_changes import Life, Values

RowName = tuple[Table, tuple[Any, ...]]
"""A row, by its table and key."""


@dataclass(frozen=True, eq=False)
class Step:
    """What undoes what was made of one row.

    :param tracking: of its table.
    :param kind: ``"insert"``, ``"update"`` or ``"delete"``.
    :param row: the values that the row has now if nothing has changed it since, None
        where there should be none.
    :param values: what is written.
    :param steps_aside: whether a row is deleted only to come back with another key.
    """

    tracking: Tracking
    kind: str
    row: Values | None
    values: Values
    steps_aside: bool = False

    def __str__(self) -> str:
        key = ", ".join(map(repr, self.key))
        shown = ", ".join(f"{name} = {value!r}" for name, value in self.values.items())
        return f"{self.kind} {self.tracking.table.name} ({key})" + (
            f": {shown}" if self.kind == "update" else ""
        )

    @property
    def table(self) -> Table:
        """The table."""
        return self.tracking.table

    @property
    def key(self) -> tuple[Any, ...]:
        """The key of the row, or of the one that is inserted."""
        return self._key_in(self.values if self.row is None else self.row)

    @property
    def after(self) -> Values | None:
        """What the row is afterwards."""
        if self.kind == "delete":
            return None
        return {**(self.row or {}), **self.values}

    def _key_in(self, values: Values) -> tuple[Any, ...]:
        return tuple(values[column.name] for column in self.table.primary_key)

    def frees(self) -> set[RowName]:
        """Return the keys that are free afterwards."""
        return self._names(self.row) - self._names(self.after)

    def takes(self) -> set[RowName]:
        """Return the keys that have to be free."""
        return self._names(self.after) - self._names(self.row)

    def ends(self) -> set[RowName]:
        """Return the row, if it refers to others afterwards than now."""
        return self._names(self.row) if self.releases() else set()

    def needs(self) -> set[RowName]:
        """Return the rows that have to be there."""
        return set(self._referred(self.after)) - set(self._referred(self.row))

    def releases(self) -> set[RowName]:
        """Return the rows that it does not need any more."""
        return set(self._referred(self.row)) - set(self._referred(self.after))

    def _names(self, values: Values | None) -> set[RowName]:
        return set() if values is None else {(self.table, self._key_in(values))}

    def _referred(self, values: Values | None) -> Iterator[RowName]:
        for constraint in self.table.foreign_key_constraints if values else ():
            assert values is not None
            target = constraint.referred_table
            by_target = {e.column.name: e.parent.name for e in constraint.elements}
            names = [by_target.get(column.name) for column in target.primary_key]
            if all(name in values for name in names):
                yield target, tuple(values[str(name)] for name in names)

    def problem(self, session: Session) -> str | None:
        """Return how the row differs from what it should be now, and lock it."""
        if self.row is None:
            return None
        columns = [column for column in self.table.c if column.name in self.row]
        found = session.execute(
            select(*columns).where(self.is_row()).with_for_update(of=self.table)
        ).first()
        if found is None:
            return "is gone"
        now = dict(zip((column.name for column in columns), found, strict=True))
        compared = self.values if self.kind == "update" else self.row
        changed = [name for name in compared if now[name] != self.row[name]]
        if not changed:
            return None
        return "has changed: " + ", ".join(
            f"{name} is {now[name]!r} and was {self.row[name]!r}" for name in changed
        )

    def run(self, session: Session) -> None:
        """Write."""
        columns = self.tracking.tracked_columns
        unwritten = {columns.column_name(name) for name in columns.generated}
        if self.kind == "update":
            unwritten |= {c.name for c in self.table.c if is_always_identity(c)}
        values = {
            column: self.values[column.name]
            for column in self.table.c
            if column.name in self.values and column.name not in unwritten
        }
        is_row = self.is_row()
        if self.kind == "delete":
            session.execute(delete(self.table).where(is_row))
            return
        changed = session.execute(select(*self.table.primary_key).where(is_row)).first()
        if changed is not None and values:
            session.execute(update(self.table).where(is_row).values(values))
        elif changed is None and self.kind == "insert":
            session.execute(inserted(self.table, values))

    def is_row(self) -> ColumnElement[bool]:
        """Return whether a row of the table is the one."""
        columns = zip(self.table.primary_key, self.key, strict=True)
        return and_(*(column == value for column, value in columns))


def steps_for(lives: Iterable[Life]) -> list[Step]:
    """Return what undoes what was made of rows, in an order that works.

    :raises UndoError: there is no such order.
    """
    steps = [step for life in lives if (step := _step(life)) is not None]
    while True:
        try:
            return _in_order(steps)
        except graphlib.CycleError as error:
            cycle: Sequence[Step] = error.args[1]
            moved = next((step for step in cycle if step.kind == "update"), None)
            if moved is None or not moved.takes():
                raise UndoError(
                    "there is no order in which this can be undone: "
                    + "; ".join(map(str, cycle))
                ) from error
            # Rows that have changed their keys in a circle: one has to step aside.
            steps.remove(moved)
            aside = Step(moved.tracking, "delete", moved.row, {}, steps_aside=True)
            steps.append(aside)
            steps.append(Step(moved.tracking, "insert", None, moved.after or {}))


class Surroundings:
    """What stands around steps: other rows, and what the steps do together.

    :param steps: all of them.
    """

    def __init__(self, session: Session, steps: Sequence[Step]) -> None:
        self._session = session
        self._freed = {name for step in steps for name in step.frees()}
        self._taken = {name for step in steps for name in step.takes()}
        self._going = self._freed.union(*(step.ends() for step in steps))

    def referrers(self, step: Step) -> Iterator[str]:
        """Yield which rows refer to a row that would be deleted, in words.

        They came later. A foreign key may be there to delete them too, in silence.
        """
        if step.kind != "delete":
            return
        for table in step.table.metadata.tables.values():
            for constraint in table.foreign_key_constraints:
                if constraint.referred_table is not step.table:
                    continue
                # Asked of the row itself: a column that is not tracked may be meant.
                referred = select(*(e.column for e in constraint.elements))
                is_referring = tuple_(*constraint.columns).in_(
                    referred.where(step.is_row())
                )
                keys = list(table.primary_key)
                for found in self._session.execute(select(*keys).where(is_referring)):
                    if (table, tuple(found)) not in self._going:
                        yield f"is referred to by {table.name} {tuple(found)}"

    def obstacles(self, step: Step) -> Iterator[str]:
        """Yield which keys are taken that it needs free, and which rows are gone."""
        for name in step.takes() - self._freed:
            if _is_there(self._session, name):
                yield f"cannot be {name[0].name} {name[1]}, which is there again"
        for name in step.needs() - self._taken:
            if None not in name[1] and not _is_there(self._session, name):
                yield f"needs {name[0].name} {name[1]}, which is gone"


def _is_there(session: Session, name: RowName) -> bool:
    table, key = name
    columns = zip(table.primary_key, key, strict=True)
    is_row = and_(*(column == value for column, value in columns))
    return session.execute(select(*table.primary_key).where(is_row)).first() is not None


def _step(life: Life) -> Step | None:
    if life.before is None:
        if life.after is None:
            return None
        return Step(life.tracking, "delete", life.after, {})
    if life.after is None:
        return Step(life.tracking, "insert", None, life.before)
    values = {
        name: before
        for name, (before, after) in life.changed.items()
        if before != after
    }
    return Step(life.tracking, "update", life.after, values) if values else None


def _in_order(steps: Sequence[Step]) -> list[Step]:
    takers = {name: step for step in steps for name in step.takes()}
    freers = {name: step for step in steps for name in step.frees()}
    releasers: dict[RowName, list[Step]] = {}
    for step in steps:
        for name in step.releases():
            releasers.setdefault(name, []).append(step)
    sorter: graphlib.TopologicalSorter[Step] = graphlib.TopologicalSorter()
    for step in steps:
        first = [
            *(freers.get(name) for name in step.takes()),
            *(takers.get(name) for name in step.needs()),
            *(other for name in step.frees() for other in releasers.get(name, ())),
        ]
        sorter.add(step, *(other for other in first if other not in (None, step)))
    return list(sorter.static_order())
