"""The actions that undo net changes, and what prevents them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import (
    Column,
    ColumnElement,
    ForeignKeyConstraint,
    Table,
    UniqueConstraint,
    and_,
    delete,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ExcludeConstraint

from sa_history.query.row_keys import referring_columns
from sa_history.tracking.databases import ModelSession
from sa_history.tracking.registry import Tracking
from sa_history.tracking.restore import write_row
from sa_history.tracking.stored_values import StoredRow, selected, stored_values
from sa_history.tracking.version_counters import version_counters
from sa_history.writing.net_changes import KeyValues, NetChange

RowKey: TypeAlias = tuple[Table, KeyValues]
"""The key of a row, with its table."""

NO_VALUES = StoredRow({}, {})
"""The values of an action that writes none."""


@dataclass(frozen=True)
class Keys:
    """The keys of rows that a row has or names, before and after an action."""

    before: frozenset[RowKey]
    after: frozenset[RowKey]

    @property
    def gained(self) -> frozenset[RowKey]:
        """The keys that are there after the action only."""
        return self.after - self.before

    @property
    def lost(self) -> frozenset[RowKey]:
        """The keys that are there before the action only."""
        return self.before - self.after


@dataclass(frozen=True, eq=False)
class UndoAction:
    """A statement that undoes the net change of one row.

    :param tracking: the tracking of the row's table.
    :param kind: ``"insert"``, ``"update"`` or ``"delete"``.
    :param row: the row as it is now, unless it has been changed again since; None if
        there should be no row.
    :param values: the values to write, by the names of their columns.
    :param is_reinserted: whether another action inserts the deleted row again.
    :param previous: an action on the same row that has to be run before.
    """

    tracking: Tracking
    kind: str
    row: StoredRow | None
    values: StoredRow
    is_reinserted: bool = False
    previous: UndoAction | None = None

    def __str__(self) -> str:
        key = ", ".join(map(repr, self.key))
        written = [f"{name} = {value!r}" for name, value in self.values.items()]
        written += [f"{name} = (the next)" for name in self.counters]
        shown = ", ".join(written)
        return f"{self.kind} {self.tracking.table.name} ({key})" + (
            f": {shown}" if self.kind == "update" else ""
        )

    @property
    def table(self) -> Table:
        """The table of the row."""
        return self.tracking.table

    @property
    def key(self) -> KeyValues:
        """The key of the row before the action; after it, if the row is inserted."""
        return self._key_in(self.values if self.row is None else self.row)

    @property
    def counters(self) -> list[str]:
        """The columns that count the changes of the row, and go on counting."""
        return [c.column.name for c in version_counters(self.tracking)]

    @property
    def after(self) -> StoredRow | None:
        """The row after the action, None if there is none."""
        if self.kind == "delete":
            return None
        return self.values if self.row is None else self.row.updated(self.values)

    @property
    def keys_taken(self) -> frozenset[RowKey]:
        """The row's key, if it has to be free before the action."""
        return self.own_keys.gained

    @property
    def keys_freed(self) -> frozenset[RowKey]:
        """The row's key, if it is free after the action."""
        return self.own_keys.lost

    @property
    def rows_required(self) -> frozenset[RowKey]:
        """The rows that its foreign keys refer to after the action, and not before."""
        return self.referred_keys.gained

    @property
    def rows_released(self) -> frozenset[RowKey]:
        """The rows that its foreign keys refer to before the action, and not after."""
        return self.referred_keys.lost

    @property
    def own_keys(self) -> Keys:
        """The row's own key."""
        return Keys(self._own_key(self.row), self._own_key(self.after))

    @property
    def referred_keys(self) -> Keys:
        """The keys of the rows that its foreign keys refer to."""
        return Keys(
            frozenset(self._referred(self.row)), frozenset(self._referred(self.after))
        )

    @property
    def unique_values(self) -> Keys:
        """The values that no other row may have, other than the key."""
        return Keys(
            frozenset(self._unique(self.row)), frozenset(self._unique(self.after))
        )

    def _own_key(self, values: StoredRow | None) -> frozenset[RowKey]:
        if values is None:
            return frozenset()
        return frozenset([(self.table, self._key_in(values))])

    def _key_in(self, values: StoredRow) -> KeyValues:
        return tuple(values[column.name] for column in self.table.primary_key)

    def _unique(self, values: StoredRow | None) -> Iterator[RowKey]:
        if values is None:
            return
        for columns in unique_columns(self.table):
            names = [column.name for column in columns]
            if all(values.get(name) is not None for name in names):
                stored = (values.images.get(name, values[name]) for name in names)
                yield self.table, (*names, *stored)

    def _referred(self, values: StoredRow | None) -> Iterator[RowKey]:
        if values is not None:
            yield from (key for _, key in self.references_of(values))

    def references_of(
        self, values: StoredRow
    ) -> Iterator[tuple[ForeignKeyConstraint, RowKey]]:
        """Yield the foreign keys of a row, each with the key that it refers to."""
        for constraint in self.table.foreign_key_constraints:
            names = referring_columns(constraint)
            if names is not None and all(name in values for name in names):
                key = tuple(values[name] for name in names)
                yield constraint, (constraint.referred_table, key)

    def run(self, session: ModelSession) -> None:
        """Execute the statement.

        With ``force``, the row may be there or not, whatever ``row`` says: an insert
        overwrites a row of its key, and an update or delete may find none.
        """
        if self.kind == "delete":
            session.execute(delete(self.table).where(self.is_row()))
            return
        values = {
            column: self.values.to_write(column.name)
            for column in self.table.c
            if column.name in self.values
        }
        key = dict(zip(self.table.primary_key, self.key, strict=True))
        may_insert = self.kind == "insert"
        write_row(session, self.tracking, key, values, insert_if_missing=may_insert)

    def is_row(self) -> ColumnElement[bool]:
        """Return the criterion of the row in its table."""
        return _has_key((self.table, self.key))


def action_for(net_change: NetChange) -> UndoAction | None:
    """Return the action that undoes a net change, None if it changed nothing."""
    tracking = net_change.tracking
    before, after = net_change.before, net_change.after
    if before is None:
        return (
            None if after is None else UndoAction(tracking, "delete", after, NO_VALUES)
        )
    if after is None:
        return UndoAction(tracking, "insert", None, before)
    counters = {c.column.name: c for c in version_counters(tracking)}
    values, is_counted = NO_VALUES, False
    for name, (first, last) in net_change.changed.items():
        if not first.differs(name, last):
            continue
        if name in counters:
            # With joined inheritance, a row may have got nothing but another version.
            is_counted = is_counted or counters[name].generator is not None
        else:
            values = values.updated(first.only([name]))
    is_changed = values or is_counted
    return UndoAction(tracking, "update", after, values) if is_changed else None


class ConflictChecker:
    """What has been changed again since, so that actions cannot or must not be run.

    :param session: the session to ask, in which the actions are to be run.
    :param actions: all actions of the undo: what one of them leaves, another may need.
    """

    def __init__(self, session: ModelSession, actions: Sequence[UndoAction]) -> None:
        self._session = session
        self._freed = {key for action in actions for key in action.keys_freed}
        self._taken = {key for action in actions for key in action.keys_taken}
        # The rows that do not refer any more to what they referred to.
        self._releasing = {
            key
            for action in actions
            if action.rows_released
            for key in action.own_keys.before
        }

    def problems(self, action: UndoAction) -> Iterator[str]:
        """Yield why an action conflicts with the rows of now, and lock its row.

        :return: one text for each reason, to follow the table's name and the key.
        """
        yield from self._changes_since(action)
        yield from self.referrers(action)
        for table, key in action.keys_taken - self._freed:
            if _is_there(self._session, (table, key)):
                yield is_there_again(action, (table, key))
        for table, key in action.rows_required - self._taken:
            if None not in key and not _is_there(self._session, (table, key)):
                yield is_missing((table, key))

    def referrers(self, action: UndoAction) -> Iterator[str]:
        """Yield the rows that refer to a row that the action deletes.

        They were written since. A foreign key with ON DELETE CASCADE would delete them
        as well, without an error.
        """
        if action.kind != "delete":
            return
        for table in action.table.metadata.tables.values():
            for constraint in table.foreign_key_constraints:
                if constraint.referred_table is not action.table:
                    continue
                # The row itself is asked: the foreign key may refer to columns that
                # are not tracked.
                referred = select(*(e.column for e in constraint.elements))
                is_referring = tuple_(*constraint.columns).in_(
                    referred.where(action.is_row())
                )
                keys = list(table.primary_key)
                for found in self._session.execute(select(*keys).where(is_referring)):
                    key = (table, tuple(found))
                    if key not in self._freed and key not in self._releasing:
                        yield is_referred_to(key)

    def _changes_since(self, action: UndoAction) -> Iterator[str]:
        previous = action.previous
        if action.row is None or (previous and previous.row is None):
            return
        columns = [c for c in action.table.c if c.name in action.row]
        found = (
            self._session.execute(
                select(*selected(columns, "is"))
                .where(action.is_row())
                .with_for_update(of=action.table)
            )
            .mappings()
            .first()
        )
        yield from changes_since(
            action, found and stored_values(found, action.row, "is")
        )


def changes_since(action: UndoAction, now: StoredRow | None) -> Iterator[str]:
    """Yield why a row is not any more what an action expects.

    :param action: an update, or a deletion.
    :param now: the row as it is now, None if there is none.
    """
    if now is None:
        yield "is gone"
        return
    row, previous = action.row or NO_VALUES, action.previous
    compared = action.values if action.kind == "update" else row
    written = [*action.counters, *(previous.values if previous else ())]
    changed = [
        name for name in compared if name not in written and now.differs(name, row)
    ]
    if changed:
        yield "has changed: " + ", ".join(
            f"{name} is {now[name]!r} and was {row[name]!r}" for name in changed
        )


def is_there_again(action: UndoAction, row: RowKey) -> str:
    """Return why a row cannot be inserted, or get a key.

    :param action: the action that inserts it, or gives it the key.
    :param row: the row that has the key now.
    """
    if row == (action.table, action.key):
        return "is there again"
    return f"cannot be {row[0].name} {row[1]}, which is there again"


def is_missing(row: RowKey) -> str:
    """Return why a row cannot refer to another."""
    return f"needs {row[0].name} {row[1]}, which is gone"


def is_referred_to(row: RowKey) -> str:
    """Return why a row cannot be deleted."""
    return f"is referred to by {row[0].name} {row[1]}"


def unique_columns(table: Table) -> Iterator[list[Column[Any]]]:
    """Yield the columns of each constraint that other rows may not have values of.

    Of an index on expressions, those columns that are in it as they are.
    """
    for constraint in table.constraints:
        if isinstance(constraint, (UniqueConstraint, ExcludeConstraint)):
            yield list(constraint.columns)
    yield from (list(index.columns) for index in table.indexes if index.unique)


def _is_there(session: ModelSession, row: RowKey) -> bool:
    query = select(*row[0].primary_key).where(_has_key(row))
    return session.execute(query).first() is not None


def _has_key(row: RowKey) -> ColumnElement[bool]:
    table, key = row
    pairs = zip(table.primary_key, key, strict=True)
    return and_(*(column == value for column, value in pairs))
