"""The undo of many rows by one statement for each kind of action on each table.

The values never leave the database. Whatever one statement for many rows cannot do, or
would do otherwise than one statement for each row, is left to those: see
:func:`undo_plan_of` and :func:`run_plan`.
"""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    ForeignKeyConstraint,
    FromClause,
    Select,
    Table,
    and_,
    delete,
    exists,
    func,
    insert,
    literal_column,
    not_,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import DBAPIError

from sa_history.query.row_keys import referring_columns
from sa_history.sql.column_types import equality_is_identity
from sa_history.sql.expressions import OverridingSelect
from sa_history.tracking.databases import ModelSession
from sa_history.tracking.registry import Tracking
from sa_history.tracking.restore import is_always_identity
from sa_history.tracking.stored_values import selected, stored_values
from sa_history.tracking.version_counters import (
    next_versions,
    version_counters,
    versions_of_rows_again,
)
from sa_history.util.postgresql import sqlstate_of
from sa_history.writing.net_change_query import (
    NetChangeCount,
    NetChangeQuery,
    event_summary,
)
from sa_history.writing.undo_actions import (
    NO_VALUES,
    UndoAction,
    changes_since,
    is_missing,
    is_referred_to,
    is_there_again,
    unique_columns,
)
from sa_history.writing.undo_run import Progress

MOST_UPDATES = 20
"""The greatest number of sets of columns that are set back in one table.

Each is a statement, which reads all of the table's events that are undone.
"""

_ROWS_READ = 1_000
"""How many rows of a plan are in memory while it is read."""

_NOT_ABOUT_ROWS = ("08", "40", "53", "54", "55", "57", "58", "XX")
"""The classes of SQLSTATE that are no answer to what a statement wants to do.

They are lost connections and locks, timeouts, and limits and failures of the server.
"""


@dataclass(frozen=True, eq=False)
class TableChanges:
    """The events of one table that are undone.

    :param tracking: a tracking of the table whose events store every change in full.
    :param criterion: the criterion of the events.
    :param is_consecutive: whether no other event came between two of one row.
    """

    tracking: Tracking
    criterion: ColumnElement[bool]
    is_consecutive: bool

    @property
    def table(self) -> Table:
        """The table."""
        return self.tracking.table


@dataclass(frozen=True, eq=False)
class ActionSet:
    """The actions of one kind on one table.

    :param changes: the query of the net changes of the table.
    :param kind: ``"insert"``, ``"update"`` or ``"delete"``.
    :param columns: the names of the columns that an update sets back.
    :param number: how many rows there are.
    """

    changes: NetChangeQuery
    kind: str
    columns: tuple[str, ...]
    number: int

    def __str__(self) -> str:
        names = list(self.columns)
        if self.kind == "update":
            counters = version_counters(self.changes.tracking)
            names += [f"{counter.column.name} = (the next)" for counter in counters]
        shown = f": {', '.join(names)}" if names else ""
        return f"{self.kind} {self.table.name} ({self.number} rows){shown}"

    @property
    def table(self) -> Table:
        """The table of the rows."""
        return self.changes.table

    @property
    def is_of_set(self) -> ColumnElement[bool]:
        """The criterion of the set's rows in the query."""
        is_insert, is_update = self.kind == "insert", self.kind == "update"
        return self.changes.are(is_insert or is_update, not is_insert, self.columns)

    def differs_now(self, table: FromClause) -> ColumnElement[bool]:
        """Return whether a row has been changed again, so that it is not to be changed.

        :param table: the table, or an alias of it.
        """
        changes = self.changes
        names = self.columns if self.kind == "update" else changes.compared
        return changes.differs_now(names, table)

    def run(self, rows: ModelSession) -> int:
        """Execute the statement; return how many rows it found."""
        if self.kind == "insert":
            # SQLAlchemy keeps no rowcount of an INSERT.
            made = self._insert().returning(literal_column("1")).cte()
            found: int = rows.scalar(select(func.count()).select_from(made))
            return found
        is_row = [
            self.changes.is_row(self.table),
            self.is_of_set,
            not_(self.differs_now(self.table)),
        ]
        if self.kind == "delete":
            found = rows.execute(delete(self.table).where(*is_row)).rowcount
            return found
        values = {
            column: self.changes.before(column.name) for column in self._written()
        }
        values |= next_versions(self.changes.tracking) or {}
        statement = update(self.table).values(values).where(*is_row)
        found = rows.execute(statement).rowcount
        return found

    def _written(self) -> list[Any]:
        names = set(self.columns)
        return [
            column
            for column in self.changes.columns
            if column.name in names
            and column.computed is None
            and not is_always_identity(column)
        ]

    @property
    def inserted_columns(self) -> list[Any]:
        """The columns that an insert writes."""
        columns = [*self.changes.key, *self.changes.columns]
        return [column for column in columns if column.computed is None]

    def _insert(self) -> Any:
        columns, versions = self.inserted_columns, self._versions_again() or {}
        values = [
            versions[column] if column in versions else self.changes.before(column.name)
            for column in columns
        ]
        is_overriding = any(map(is_always_identity, columns))
        query: Select[Any] = (
            OverridingSelect(*values) if is_overriding else select(*values)
        )
        return insert(self.table).from_select(columns, query.where(self.is_of_set))

    def _versions_again(self) -> Mapping[Any, ColumnElement[Any]] | None:
        """Return the versions that an insert sets, None if they are made one by one."""
        return versions_of_rows_again(self.changes.tracking, self.changes.before)

    @property
    def is_possible(self) -> bool:
        """Whether one statement does the same as one for each row."""
        if self.kind == "update":
            return bool(self._written())
        if self.kind == "delete":
            return True
        written = set(self.inserted_columns)
        return self._versions_again() is not None and not any(
            # A function is called once for the statement.
            column.default is not None and column.default.is_callable
            for column in self.table.c
            if column not in written
        )

    def steps(
        self, rows: ModelSession, *criteria: ColumnElement[bool]
    ) -> Iterator[UndoAction]:
        """Yield the actions, a part of which is read at a time.

        :param rows: the session that reads them.
        :param criteria: more criteria that the rows have to meet.
        """
        query = (
            select(*self.changes.values())
            .where(self.is_of_set, *criteria)
            .order_by(self.changes.number)
        )
        for found in _read(rows, query):
            yield self.action_of(found)

    def action_of(self, found: Mapping[Any, Any]) -> UndoAction:
        """Return the action of a row that :meth:`NetChangeQuery.values` selected."""
        change, tracking = self.changes.change_of(found), self.changes.tracking
        before, after = change.before or NO_VALUES, change.after
        if self.kind == "insert":
            return UndoAction(tracking, "insert", None, before)
        values = before.only(self.columns) if self.kind == "update" else NO_VALUES
        return UndoAction(tracking, self.kind, after, values)


@dataclass(frozen=True, eq=False)
class UndoPlan:
    """The undo of tables that foreign keys connect, by one statement for each set.

    :param changes: the events that it undoes, of each table.
    :param sets: the sets, in the order in which they are run.
    """

    changes: Sequence[TableChanges]
    sets: Sequence[ActionSet]

    def conflicts(self, rows: ModelSession) -> Iterator[tuple[UndoAction, str]]:
        """Yield what has been changed again since, with why it conflicts.

        A query for each set and foreign key finds them.

        :param rows: the session, in which nothing of it is done.
        """
        for each in self.sets:
            if each.kind == "insert":
                yield from self._keys_that_are_there(rows, each)
            else:
                yield from self._changes_since(rows, each)
            if each.kind == "delete":
                yield from self._referrers(rows, each)
            else:
                yield from self._missing(rows, each)

    def _changes_since(
        self, rows: ModelSession, each: ActionSet
    ) -> Iterator[tuple[UndoAction, str]]:
        changes, now = each.changes, each.table.alias("pgh_now")
        columns = [*changes.key, *changes.columns]
        is_gone = now.c[changes.key[0].key].is_(None)
        query = (
            select(
                *changes.values(),
                is_gone.label("is_gone"),
                *selected((now.c[column.key] for column in columns), "now"),
            )
            .select_from(changes.found.outerjoin(now, changes.is_row(now)))
            .where(each.is_of_set, or_(is_gone, each.differs_now(now)))
            .order_by(changes.number)
        )
        names = [column.name for column in columns]
        for found in _read(rows, query):
            action = each.action_of(found)
            row = None if found["is_gone"] else stored_values(found, names, "now")
            for problem in changes_since(action, row):
                yield action, problem

    def _keys_that_are_there(
        self, rows: ModelSession, each: ActionSet
    ) -> Iterator[tuple[UndoAction, str]]:
        now = each.table.alias("pgh_now")
        for action in each.steps(rows, exists().where(each.changes.is_row(now))):
            yield action, is_there_again(action, (each.table, action.key))

    def _missing(
        self, rows: ModelSession, each: ActionSet
    ) -> Iterator[tuple[UndoAction, str]]:
        for constraint, lacks in _lacking(each):
            names = referring_columns(constraint) or []
            referred = tuple_(*(each.changes.before(name) for name in names))
            inserted = [
                referred.not_in(_keys(other))
                for other in self.sets
                if other.table is constraint.referred_table and other.kind == "insert"
            ]
            for action in each.steps(rows, lacks, *inserted):
                after = action.after or NO_VALUES
                key = tuple(after[name] for name in names)
                yield action, is_missing((constraint.referred_table, key))

    def _referrers(
        self, rows: ModelSession, each: ActionSet
    ) -> Iterator[tuple[UndoAction, str]]:
        for constraint in _references_to(each.table):
            query, key = _referring(each, constraint)
            released = [
                tuple_(*key).not_in(_keys(other))
                for other in self.sets
                if other.kind != "insert" and constraint in _written_references(other)
            ]
            labels = [column.label(f"referring_{n}") for n, column in enumerate(key)]
            query = query.with_only_columns(*each.changes.values(), *labels)
            for found in _read(rows, query.where(*released)):
                referrer = tuple(found[label.name] for label in labels)
                yield (
                    each.action_of(found),
                    is_referred_to((constraint.table, referrer)),
                )


def connected(changes: Iterable[TableChanges]) -> list[list[TableChanges]]:
    """Return tables in groups, of which no foreign key leads to another."""
    groups: list[list[TableChanges]] = []
    for each in changes:
        near = [g for g in groups if any(_are_connected(each, other) for other in g)]
        merged = [*(other for group in near for other in group), each]
        groups = [*(group for group in groups if group not in near), merged]
    return groups


def undo_plan_of(
    rows: ModelSession, changes: Sequence[TableChanges]
) -> UndoPlan | None:
    """Return the plan of the undo of tables that foreign keys connect.

    :param rows: the session that reads the events.
    :return: None if the rows have to be undone one by one.
    """
    if not all(_may_have_sets(each.tracking) for each in changes):
        return None
    sets: list[ActionSet] = []
    planned: list[TableChanges] = []
    for each in changes:
        events = event_summary(rows, each.tracking, each.criterion)
        if events.have_moved or (events.are_several and not each.is_consecutive):
            return None
        if events.last_event is None:
            continue  # none of them is a change
        # The undo may write events that meet the criterion as well.
        known = each.tracking.event_table.c.pgh_id <= events.last_event
        planned.append(replace(each, criterion=and_(each.criterion, known)))
        found = _sets_of(rows, planned[-1], events.are_several)
        if found is None:
            return None
        sets += found
    ordered = _in_order(sets)
    return None if ordered is None else UndoPlan(planned, ordered)


def _may_have_sets(tracking: Tracking) -> bool:
    """Return whether rows of a table can be told apart in the database, and written."""
    return (
        not tracking.table.primary_key.deferrable
        and next_versions(tracking) is not None
        # Keys that are equal to the database could be different ones.
        and all(
            equality_is_identity(column.type) for column in tracking.table.primary_key
        )
    )


def _sets_of(
    rows: ModelSession, of_table: TableChanges, are_several: bool
) -> list[ActionSet] | None:
    tracking, criterion = of_table.tracking, of_table.criterion
    changes = NetChangeQuery(rows, tracking, criterion, are_several)
    summary = changes.summary()
    if summary.is_lost or summary.lacks_columns or summary.is_erased:
        return None
    if next_versions(tracking) and any(c.is_unchanged for c in summary.counts):
        return None  # their versions are to go on all the same
    sets = [
        ActionSet(changes, kind, count.changed, count.number)
        for count in summary.counts
        if (kind := _kind_of(count)) is not None
    ]
    updates = [each for each in sets if each.kind == "update"]
    is_possible = all(each.is_possible for each in sets)
    return sets if is_possible and len(updates) <= MOST_UPDATES else None


def _kind_of(count: NetChangeCount) -> str | None:
    if count.is_before and count.is_after:
        return "update" if count.changed else None
    if count.is_before:
        return "insert"
    return "delete" if count.is_after else None


def _in_order(sets: Sequence[ActionSet]) -> list[ActionSet] | None:
    """Return sets in an order that foreign keys allow, None without one.

    Where that is left open, unique values are free before other rows take them.
    """
    for rules in ((_has_to_precede, _should_precede), (_has_to_precede,)):
        earlier = {
            each: [
                other
                for other in sets
                if other is not each and any(rule(other, each) for rule in rules)
            ]
            for each in sets
        }
        try:
            return [*graphlib.TopologicalSorter(earlier).static_order()]
        except graphlib.CycleError:
            continue
    return None


def _has_to_precede(one: ActionSet, other: ActionSet) -> bool:
    """Return whether rows that are referred to come first, or go last."""
    comes_first = one.kind == "insert" and other.kind != "delete"
    goes_last = other.kind == "delete" and one.kind != "insert"
    return any(
        comes_first and constraint.referred_table is one.table
        for constraint in _written_references(other)
    ) or any(
        goes_last and constraint.referred_table is other.table
        for constraint in _written_references(one)
    )


_BY_UNIQUE_VALUES = ("delete", "update", "insert")
"""The order in which the rows of one table leave values to others."""


def _should_precede(one: ActionSet, other: ActionSet) -> bool:
    position = _BY_UNIQUE_VALUES.index
    return (
        one.table is other.table
        and any(unique_columns(one.table))
        and position(one.kind) < position(other.kind)
    )


def _written_references(each: ActionSet) -> Iterator[ForeignKeyConstraint]:
    """Yield the foreign keys whose columns get values, or are deleted with the row."""
    for constraint in each.table.foreign_key_constraints:
        names = {column.name for column in constraint.columns}
        if each.kind != "update" or not names.isdisjoint(each.columns):
            yield constraint


def _are_connected(one: TableChanges, other: TableChanges) -> bool:
    return any(
        constraint.referred_table is referred.table
        for referring, referred in ((one, other), (other, one))
        for constraint in referring.table.foreign_key_constraints
    )


def run_plan(rows: ModelSession, plan: UndoPlan, progress: Progress) -> bool:
    """Run the statements of a plan, all or none of them.

    :param rows: the session that runs them.
    :return: whether they did what was planned. If not, rows have been changed again,
        or what the statements do cannot be done at once.
    """
    done = progress.done
    with rows.session.begin_nested() as nested:
        try:
            if all(_is_run(rows, each, progress) for each in plan.sets):
                return True
        except DBAPIError as error:
            state = sqlstate_of(error.orig)
            if state is None or state.startswith(_NOT_ABOUT_ROWS):
                raise
        nested.rollback()
    progress.done = done
    return False


def _is_run(rows: ModelSession, each: ActionSet, progress: Progress) -> bool:
    """Run the statement of a set; return whether it did what was planned."""
    if each.kind == "delete" and _is_referred_to(rows, each):
        # ON DELETE CASCADE would delete the other rows as well, without an error.
        return False
    if each.run(rows) != each.number:
        return False
    progress.add(each.number)
    # What the database looks at later, when the transaction ends.
    return not any(
        _has_rows(rows, select(each.changes.number).where(each.is_of_set, lacks))
        for constraint, lacks in _lacking(each)
        if constraint.deferrable
    )


def _has_rows(rows: ModelSession, query: Select[Any]) -> bool:
    # Not LIMIT 1, for which PostgreSQL would compare row by row until it finds one.
    return bool(rows.scalar(select(func.count()).select_from(query.subquery())))


def _is_referred_to(rows: ModelSession, each: ActionSet) -> bool:
    """Return whether rows that are not deleted refer to rows that are."""
    constraints = list(_references_to(each.table))
    if constraints:
        # No other transaction can refer to them from now on.
        is_row = each.changes.is_row(each.table)
        found = each.changes.found.join(each.table, is_row)
        locked = (
            select(each.changes.number)
            .select_from(found)
            .where(each.is_of_set)
            .with_for_update(of=each.table)
            .subquery()
        )
        rows.execute(select(func.count()).select_from(locked))
    for constraint in constraints:
        query, key = _referring(each, constraint)
        if constraint.table is each.table:
            query = query.where(tuple_(*key).not_in(_keys(each)))
        if _has_rows(rows, query):
            return True
    return False


def _keys(each: ActionSet) -> Select[Any]:
    return select(*each.changes.key_values).where(each.is_of_set)


def _references_to(table: Table) -> Iterator[ForeignKeyConstraint]:
    for referring in table.metadata.tables.values():
        for constraint in referring.foreign_key_constraints:
            if constraint.referred_table is table:
                yield constraint


def _referring(
    each: ActionSet, constraint: ForeignKeyConstraint
) -> tuple[Select[Any], list[ColumnElement[Any]]]:
    """Return a SELECT of the rows that refer to rows of a set, and their key."""
    # The rows themselves are asked: the foreign key may refer to columns that are not
    # tracked.
    referring = constraint.table.alias("pgh_referring")
    pairs = [(referring.c[e.parent.key], e.column) for e in constraint.elements]
    key: list[ColumnElement[Any]] = [
        referring.c[column.key] for column in constraint.table.primary_key
    ]
    joined = each.changes.found.join(each.table, each.changes.is_row(each.table)).join(
        referring, and_(*(own == other for own, other in pairs))
    )
    return select(*key).select_from(joined).where(each.is_of_set), key


def _lacking(
    each: ActionSet,
) -> Iterator[tuple[ForeignKeyConstraint, ColumnElement[bool]]]:
    """Yield foreign keys, with whether a row of a set refers to a row that is gone."""
    for constraint in _written_references(each):
        names = referring_columns(constraint)
        stored = {c.name for c in [*each.changes.key, *each.changes.columns]}
        if each.kind == "delete" or names is None or not stored.issuperset(names):
            continue
        referred = constraint.referred_table.alias("pgh_referred")
        values = [each.changes.before(name) for name in names]
        key = [
            referred.c[column.key] for column in constraint.referred_table.primary_key
        ]
        is_there = exists().where(*(k == v for k, v in zip(key, values, strict=True)))
        yield constraint, and_(*(v.is_not(None) for v in values), not_(is_there))


def _read(rows: ModelSession, query: Select[Any]) -> Iterator[Mapping[Any, Any]]:
    """Yield the rows of a query, of which few are in memory at once."""
    result = rows.execute(query.execution_options(yield_per=_ROWS_READ))
    try:
        yield from result.mappings()
    finally:
        result.close()
