"""Trackers: which changes of a model become events, and what an event stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, TypeAlias

from sa_history._types import UNSET, Operation, Row, Unset
from sa_history.capture.recording import Recording
from sa_history.definition.binding import RowScope, condition_sql, watched_names
from sa_history.definition.columns import TrackedColumns, chosen_names
from sa_history.definition.conditions import AnyChange, Condition, ConditionArgument
from sa_history.exc import DefinitionError
from sa_history.util.arguments import as_names, check_names
from sa_history.util.identifiers import check_text


@dataclass(frozen=True, eq=False, kw_only=True)
class Tracker:
    """The base of all trackers: a label, and what an event stores.

    :param label: the label of its events, unique in the event table.
    :param columns: attribute names to store; the others are NULL in its events.
    :param exclude: attribute names not to store, instead of ``columns``.

    Example::

        def labels(trackers: Sequence[Tracker]) -> list[str]:
            return [tracker.event_label for tracker in trackers]
    """

    label: str | Unset = UNSET
    columns: Sequence[str] | None = None
    exclude: Sequence[str] | None = None

    default_label: ClassVar[str] = ""
    operations: ClassVar[tuple[Operation, ...]] = ()

    def __post_init__(self) -> None:
        """Check the arguments, without knowing the model."""
        owner = type(self).__name__
        check_names(owner, self.columns, self.exclude)
        for argument in ("columns", "exclude"):
            names = getattr(self, argument)
            if names is not None:
                chosen = as_names(f"{owner}: {argument}", names)
                object.__setattr__(self, argument, chosen)
        if not isinstance(self.event_label, str) or not self.event_label:
            raise DefinitionError(
                f"{type(self).__name__} needs a label, got {self.label!r}; give a name "
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
        """Return what the tracker writes, for each operation.

        :raises ConditionError: the condition does not fit the table.
        """
        return [self._recording(table, operation) for operation in self.operations]

    def records_every_change(self, operation: Operation) -> bool:
        """Return whether it records all that an operation does, as it is after it.

        An update that changes nothing tells nothing; a deleted row is recorded as it
        was.
        """
        row = "new" if operation.has_new else "old"
        return self._is_unconditional() and self._stored_row(operation) == row

    def tells_all(self, columns: TrackedColumns, operation: Operation) -> bool:
        """Return whether it records every row of an operation, whole, as it is then."""
        return (
            operation in self.operations
            and self.stored(columns) == columns.stored
            and self.records_every_change(operation)
        )

    def _is_unconditional(self) -> bool:
        return True

    def _stored_row(self, operation: Operation) -> Row:
        return "new" if operation.has_new else "old"

    def _condition(self, operation: Operation) -> ConditionArgument | None:
        return None

    def _recording(self, table: TrackedColumns, operation: Operation) -> Recording:
        stored = self.stored(table)
        pairs = [(table.column_name(name), table.column_name(name)) for name in stored]
        if table.object_id is not None:
            pairs.insert(0, (table.object_id, table.column_name(table.key[0])))
        condition = self._condition(operation)
        scope = RowScope(table.subject, table, stored, operation)
        row = self._stored_row(operation)
        follows_key = table.key and operation is Operation.UPDATE and row == "new"
        return Recording(
            operation=operation,
            label=self.event_label,
            row=row,
            columns=tuple(pairs),
            condition=None if condition is None else condition_sql(condition, scope),
            compares=condition is not None,
            compared=(
                len(watched_names(condition, scope))
                if isinstance(condition, AnyChange)
                else 0
            ),
            key=tuple(table.column_name(name) for name in table.key),
            key_changes=(
                condition_sql(AnyChange(*table.key), scope) if follows_key else None
            ),
        )


TrackerArgument: TypeAlias = Tracker | type[Tracker]
"""A tracker as ``track`` takes it: an instance, or a class for the defaults."""


@dataclass(frozen=True, eq=False, init=False)
class _ConditionTracker(Tracker):
    """A tracker that a condition narrows, and that may choose the row it stores."""

    condition: ConditionArgument | Unset | None = UNSET
    row: Row | Unset = UNSET

    def __init__(
        self,
        condition: ConditionArgument | Unset | None = UNSET,
        *,
        label: str | Unset = UNSET,
        columns: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        row: Row | Unset = UNSET,
    ) -> None:
        for name, value in (
            ("condition", condition),
            ("label", label),
            ("columns", columns),
            ("exclude", exclude),
            ("row", row),
        ):
            object.__setattr__(self, name, value)
        self.__post_init__()

    def _is_unconditional(self) -> bool:
        return self.condition is UNSET or self.condition is None

    def __post_init__(self) -> None:
        """Check the arguments, without knowing the model."""
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

    def _stored_row(self, operation: Operation) -> Row:
        return super()._stored_row(operation) if self.row is UNSET else self.row

    def _condition(self, operation: Operation) -> ConditionArgument | None:
        return None if self.condition is UNSET else self.condition


def _with_a_change(recording: Recording, scope: RowScope) -> Recording:
    """Return a recording of only those updates that change a column of the scope."""
    change = AnyChange()
    condition = condition_sql(change, scope)
    if recording.condition is not None:
        condition = f"({recording.condition}) AND ({condition})"
    return replace(
        recording,
        condition=condition,
        compares=True,
        compared=len(watched_names(change, scope)),
        asked=recording.condition,
    )


@dataclass(frozen=True, eq=False, init=False)
class AfterInsert(_ConditionTracker):
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


@dataclass(frozen=True, eq=False, init=False)
class AfterUpdate(_ConditionTracker):
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

    def _recording(self, table: TrackedColumns, operation: Operation) -> Recording:
        recording = super()._recording(table, operation)
        if self.condition is UNSET or recording.condition is None:
            return recording
        scope = RowScope(table.subject, table, tuple(table.by_attribute), operation)
        return _with_a_change(recording, scope)

    def _condition(self, operation: Operation) -> ConditionArgument | None:
        return AnyChange() if self.condition is UNSET else self.condition


@dataclass(frozen=True, eq=False, init=False)
class AfterDelete(_ConditionTracker):
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


@dataclass(frozen=True, eq=False, init=False)
class Snapshot(_ConditionTracker):
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

    def _recording(self, table: TrackedColumns, operation: Operation) -> Recording:
        recording = super()._recording(table, operation)
        if operation is not Operation.UPDATE or self.condition is None:
            return recording
        scope = RowScope(table.subject, table, self.stored(table), operation)
        return _with_a_change(recording, scope)


@dataclass(frozen=True, eq=False, init=False)
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

    def __init__(
        self,
        label: str | Unset = UNSET,
        *,
        columns: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
    ) -> None:
        super().__init__(label=label, columns=columns, exclude=exclude)


def resolved(argument: TrackerArgument) -> Tracker:
    """Return a tracker given as an instance or a class.

    :raises DefinitionError: it is neither.
    """
    if (
        isinstance(argument, type)
        and issubclass(argument, Tracker)
        and argument is not Tracker
    ):
        return argument()
    if isinstance(argument, Tracker) and type(argument) is not Tracker:
        return argument
    if isinstance(argument, Condition) or callable(argument):
        hint = "; give a condition to a tracker, as in AfterUpdate(condition)"
    else:
        hint = "; give trackers such as Snapshot or AfterUpdate(condition)"
    raise DefinitionError(f"track got {argument!r}, which is not a tracker{hint}")


def whole_labels(trackers: Sequence[Tracker], columns: TrackedColumns) -> list[str]:
    """Return the labels of the events that tell what all of a row is then."""
    return [
        tracker.event_label
        for tracker in trackers
        if any(tracker.tells_all(columns, o) for o in tracker.operations)
    ]


def tell_all(
    trackers: Sequence[Tracker], columns: TrackedColumns, *operations: Operation
) -> bool:
    """Return whether the events tell each row of these operations, whole."""
    return all(
        any(tracker.tells_all(columns, operation) for tracker in trackers)
        for operation in operations
    )
