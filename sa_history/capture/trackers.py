"""Trackers: which changes of a table become events, and what an event stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, TypeAlias

from sa_history._types import UNSET, Operation, Row, Unset
from sa_history.capture.recording import Recording
from sa_history.definition.binding import (
    RowScope,
    condition_sql,
    watched_names,
    with_condition,
)
from sa_history.definition.columns import TrackedColumns, chosen_names
from sa_history.definition.conditions import AnyChange, Condition, ConditionArgument
from sa_history.exc import DefinitionError
from sa_history.util.arguments import as_names, check_names
from sa_history.util.identifiers import check_text


@dataclass(frozen=True, eq=False, kw_only=True)
class Tracker:
    """The base of all trackers: a label, and what an event stores.

    A subclass has a ``default_label`` and ``operations``; it records each row that they
    write. A tracker that takes a condition is a :class:`ConditionTracker`.

    :param label: the label of its events, unique among the trackers of a ``track``.
    :param columns: attribute names to store; the others are NULL in its events.
    :param exclude: attribute names not to store, instead of ``columns``.
    :raises DefinitionError: there is no label, or an argument is not as it should be.

    Example::

        class Entered(Tracker):
            default_label = "entered"
            operations = Insert.members
    """

    label: str | Unset = UNSET
    columns: Sequence[str] | None = None
    exclude: Sequence[str] | None = None

    default_label: ClassVar[str] = ""
    operations: ClassVar[tuple[Operation, ...]] = ()

    def __post_init__(self) -> None:
        """Check the arguments, as far as that is possible without the model."""
        owner = type(self).__name__
        check_names(owner, self.columns, self.exclude)
        for argument in ("columns", "exclude"):
            names = getattr(self, argument)
            if names is not None:
                chosen = as_names(f"{owner}: {argument}", names)
                object.__setattr__(self, argument, chosen)
        if not isinstance(self.event_label, str) or not self.event_label:
            raise DefinitionError(
                f"{type(self).__name__} needs a label, got "
                f"{'none' if self.label is UNSET else repr(self.label)}; give a name "
                'such as label="update"'
            )
        check_text(f"{type(self).__name__}: label", self.event_label)

    @property
    def event_label(self) -> str:
        """The label, or the tracker's default one."""
        return self.default_label if self.label is UNSET else self.label

    def stored(self, table: TrackedColumns) -> tuple[str, ...]:
        """Return the attributes that an event of this tracker stores."""
        owner = f"{table.subject}: {type(self).__name__}({self.event_label!r})"
        chosen = chosen_names(
            owner, {n: n for n in table.stored}, self.columns, self.exclude
        )
        return tuple(n for n in table.stored if n in chosen or n in table.key)

    def recordings(self, table: TrackedColumns) -> list[Recording]:
        """Return what the tracker writes, one recording for each operation.

        :raises ConditionError: the condition does not fit the table.
        """
        return [self._recording(table, operation) for operation in self.operations]

    def records_every_change(self, operation: Operation) -> bool:
        """Return whether each row that an operation changes leaves an event.

        The event stores the row as it is after the operation, or, of a deletion, as it
        was. An update that leaves a row as it was need not leave one.
        """
        row = "new" if operation.has_new else "old"
        return self._is_unconditional() and self._stored_row(operation) == row

    def records_full_rows(self, columns: TrackedColumns, operation: Operation) -> bool:
        """Return whether each row that an operation changes is stored completely."""
        return self.stores_full_rows(columns, operation) and self.records_every_change(
            operation
        )

    def stores_full_rows(self, columns: TrackedColumns, operation: Operation) -> bool:
        """Return whether each event of an operation has the complete row of then.

        A condition may leave changes without an event.
        """
        row = "new" if operation.has_new else "old"
        return (
            operation in self.operations
            and self.stored(columns) == columns.stored
            and self._stored_row(operation) == row
        )

    def _is_unconditional(self) -> bool:
        return True

    def _stored_row(self, operation: Operation) -> Row:
        return "new" if operation.has_new else "old"

    def _recording(self, table: TrackedColumns, operation: Operation) -> Recording:
        stored = self.stored(table)
        pairs = [(table.column_name(name), table.column_name(name)) for name in stored]
        if table.object_id is not None:
            pairs.insert(0, (table.object_id, table.column_name(table.key[0])))
        row = self._stored_row(operation)
        key_changes: str | None = None
        if table.key and operation is Operation.UPDATE and row == "new":
            scope = _scope(table, operation, stored)
            key_changes = condition_sql(AnyChange(*table.key), scope)
        return Recording(
            operation=operation,
            label=self.event_label,
            row=row,
            columns=tuple(pairs),
            key=tuple(table.column_name(name) for name in table.key),
            key_changes=key_changes,
        )


def _scope(
    table: TrackedColumns, operation: Operation, watched: tuple[str, ...]
) -> RowScope:
    return RowScope(table.subject, table, watched, operation)


TrackerArgument: TypeAlias = Tracker | type[Tracker]
"""A tracker as ``track`` takes it: an instance, or a class for the defaults."""


@dataclass(frozen=True, eq=False)
class ConditionTracker(Tracker):
    """The base of trackers that a condition narrows, and that choose the row to store.

    A subclass has a ``default_label`` and ``operations``. Of updates it records those
    that change a stored column and meet the condition.

    :param condition: which rows, as an expression over ``old`` and ``new``; all, if
        left out. With None also updates that change nothing are recorded.
    :param label: the label of its events, ``default_label`` if left out.
    :param columns: attribute names to store; the others are NULL in its events.
    :param exclude: attribute names not to store, instead of ``columns``.
    :param row: the row to store, ``"old"`` or ``"new"``; if left out, the new one, or
        the old one of deletions.
    :raises DefinitionError: the arguments cannot work together.

    Example::

        class Written(ConditionTracker):
            default_label = "written"
            operations = (Insert | Update).members


        @track(Written(new.balance < 0))
        class Account(Base): ...
    """

    condition: ConditionArgument | Unset | None = UNSET
    row: Row | Unset = field(default=UNSET, kw_only=True)

    def __post_init__(self) -> None:
        """Check the arguments, as far as that is possible without the model."""
        super().__post_init__()
        if isinstance(self.condition, str):
            raise DefinitionError(
                f"{type(self).__name__} got the string {self.condition!r} as its "
                "condition; give label=... for a label, or text(...) for SQL"
            )
        if self.row is UNSET:
            return
        if self.row not in ("old", "new"):
            raise DefinitionError(
                f'{type(self).__name__}: row is "old" or "new", got {self.row!r}'
            )
        for operation in self.operations:
            if not (operation.has_old if self.row == "old" else operation.has_new):
                raise DefinitionError(
                    f"{type(self).__name__}: row={self.row!r} cannot be stored: "
                    f"{operation.value} has no {self.row} row; leave row out"
                )

    def _is_unconditional(self) -> bool:
        return self.condition is UNSET or self.condition is None

    def _stored_row(self, operation: Operation) -> Row:
        return super()._stored_row(operation) if self.row is UNSET else self.row

    def _watched(self, table: TrackedColumns) -> tuple[str, ...]:
        """Return the attributes one of which an update has to change."""
        return self.stored(table)

    def _recording(self, table: TrackedColumns, operation: Operation) -> Recording:
        recording = super()._recording(table, operation)
        if self.condition is None:
            return recording
        user_condition: str | None = None
        if self.condition is not UNSET:
            scope = _scope(table, operation, self.stored(table))
            user_condition = condition_sql(self.condition, scope)
        if operation is not Operation.UPDATE:
            return replace(recording, condition=user_condition)
        scope = _scope(table, operation, self._watched(table))
        change = AnyChange()
        condition = with_condition(user_condition, condition_sql(change, scope))
        return replace(
            recording,
            condition=condition,
            reads_old_row=True,
            watched_columns=len(watched_names(change, scope)),
            user_condition=user_condition,
        )


@dataclass(frozen=True, eq=False)
class AfterInsert(ConditionTracker):
    """Records each new row.

    :param condition: which rows, as an expression over ``new``; all, if left out.
    :param label: the label of its events, ``"insert"`` if left out.
    :param columns: attribute names to store; the others are NULL in its events.
    :param exclude: attribute names not to store, instead of ``columns``.
    :param row: ``"new"``, the only row there is.
    :raises DefinitionError: the arguments cannot work together.

    Example::

        @track(AfterInsert(label="create"))
        class Account(Base): ...
    """

    default_label = "insert"
    operations = (Operation.INSERT,)


@dataclass(frozen=True, eq=False)
class AfterUpdate(ConditionTracker):
    """Records each row that an update changes.

    :param condition: which updates, as an expression over ``old`` and ``new``. Left
        out, those that change a column the tracker stores. With a condition, those
        that change any column and meet it; with None every update of a row, also one
        that changes nothing.
    :param label: the label of its events, ``"update"`` if left out.
    :param columns: attribute names to store; the others are NULL in its events.
    :param exclude: attribute names not to store, instead of ``columns``.
    :param row: which row to store, ``"new"`` if left out.
    :raises DefinitionError: the arguments cannot work together.

    Example::

        @track(AfterUpdate(new.balance < 0, label="overdrawn"))
        class Account(Base): ...
    """

    default_label = "update"
    operations = (Operation.UPDATE,)

    def _watched(self, table: TrackedColumns) -> tuple[str, ...]:
        # A condition may be about columns that are not stored.
        return (
            self.stored(table) if self.condition is UNSET else tuple(table.by_attribute)
        )


@dataclass(frozen=True, eq=False)
class AfterDelete(ConditionTracker):
    """Records each row that is deleted, also by TRUNCATE.

    :param condition: which rows, as an expression over ``old``; all, if left out.
    :param label: the label of its events, ``"delete"`` if left out.
    :param columns: attribute names to store; the others are NULL in its events.
    :param exclude: attribute names not to store, instead of ``columns``.
    :param row: ``"old"``, the only row there is.
    :raises DefinitionError: the arguments cannot work together.

    Example::

        @track(AfterDelete(columns=["id", "email"]))
        class Account(Base): ...
    """

    default_label = "delete"
    operations = (Operation.DELETE, Operation.TRUNCATE)


@dataclass(frozen=True, eq=False)
class Snapshot(ConditionTracker):
    """Records each new row, and each row that an update changes.

    :param condition: which rows, as an expression over ``new``; all, if left out.
    :param label: the label of its events, ``"snapshot"`` if left out.
    :param columns: attribute names to store; the others are NULL in its events, and
        an update that changes only others leaves no event.
    :param exclude: attribute names not to store, instead of ``columns``.
    :param row: ``"new"``; to store the old row of updates, use :class:`AfterUpdate`.
    :raises DefinitionError: the arguments cannot work together.

    Example::

        @track(Snapshot(exclude=["last_seen"]))
        class Account(Base): ...
    """

    default_label = "snapshot"
    operations = (Operation.INSERT, Operation.UPDATE)


@dataclass(frozen=True, eq=False)
class Manual(Tracker):
    """Allows events that the program makes itself, with ``create_event``.

    :param label: the label of its events.
    :param columns: attribute names to store; the others are NULL in its events.
    :param exclude: attribute names not to store, instead of ``columns``.
    :raises DefinitionError: there is no label.

    Example::

        @track(Snapshot, Manual("user.login"))
        class User(Base): ...

        history.create_event(session, user, label="user.login")
    """

    label: str | Unset = field(default=UNSET, kw_only=False)


_BASES = (Tracker, ConditionTracker)


def resolved(argument: TrackerArgument) -> Tracker:
    """Return the tracker that an argument of ``track`` is, or makes.

    :param argument: a tracker, or a class of trackers for one with the defaults.
    :raises DefinitionError: the argument is neither.
    """
    if (
        isinstance(argument, type)
        and issubclass(argument, Tracker)
        and argument not in _BASES
    ):
        return argument()
    if isinstance(argument, Tracker) and type(argument) not in _BASES:
        return argument
    if isinstance(argument, type) and hasattr(argument, "__mapper__"):
        hint = "; it takes trackers: write @track() above the class, with parentheses"
    elif isinstance(argument, Condition) or callable(argument):
        hint = "; give a condition to a tracker, as in AfterUpdate(condition)"
    else:
        hint = "; give trackers such as Snapshot or AfterUpdate(condition)"
    raise DefinitionError(f"track got {argument!r}, which is not a tracker{hint}")


def full_row_labels(trackers: Sequence[Tracker], columns: TrackedColumns) -> list[str]:
    """Return the labels of the trackers whose events store complete rows."""
    return [
        tracker.event_label
        for tracker in trackers
        if any(tracker.records_full_rows(columns, o) for o in tracker.operations)
    ]


def version_labels(trackers: Sequence[Tracker], columns: TrackedColumns) -> list[str]:
    """Return the labels of the trackers each of whose events has the complete row.

    Those of :func:`full_row_labels`, and of trackers that a condition narrows.
    """
    return [
        tracker.event_label
        for tracker in trackers
        if any(tracker.stores_full_rows(columns, o) for o in tracker.operations)
    ]


def record_full_rows(
    trackers: Sequence[Tracker], columns: TrackedColumns, *operations: Operation
) -> bool:
    """Return whether each row that these operations change is stored completely."""
    return all(
        any(tracker.records_full_rows(columns, operation) for tracker in trackers)
        for operation in operations
    )
