"""Undo of all changes of a transaction or a context.

The events say what each row was before and after. They are summed up to net changes,
and these become a plan of actions, with conflicts if something has been changed again
since. An undo is recorded like any other change, so it can be undone as well.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, overload

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    MetaData,
    Table,
    Uuid,
    and_,
    any_,
    func,
    literal,
    or_,
    select,
    union_all,
)
from sqlalchemy.orm import Session

from sa_history.capture.partitioning import Horizon
from sa_history.contexts.context import context as in_context
from sa_history.contexts.frame import ContextFrame, time_of_id
from sa_history.definition.mapped_tables import Models
from sa_history.exc import ConflictError, EventsRemovedError, UndoError
from sa_history.query.contexts_asked import ContextsAsked
from sa_history.query.removed_events import read_horizons
from sa_history.query.sources import trackings_of_target
from sa_history.query.subclasses import events_of_class
from sa_history.tracking.completeness import complete_tracking, missing_operations
from sa_history.tracking.context_class import Context, checked_context_id
from sa_history.tracking.databases import (
    ModelSession,
    require_one_database,
    written_by,
)
from sa_history.tracking.distribution import current_transaction
from sa_history.tracking.event_class import Event
from sa_history.tracking.registry import Tracking
from sa_history.util.arguments import checked_transaction
from sa_history.util.sessions import (
    AnyAsyncSession,
    SyncSession,
    is_async_session,
    session_of,
)
from sa_history.writing.net_changes import NetChange, net_changes_of
from sa_history.writing.undo_actions import ConflictChecker, UndoAction
from sa_history.writing.undo_order import OrderedActions, ordered_actions
from sa_history.writing.undo_run import Progress, RefusedAction, run_actions
from sa_history.writing.undo_sets import (
    ActionSet,
    TableChanges,
    UndoPlan,
    connected,
    run_plan,
    undo_plan_of,
)
from sa_history.writing.undo_steps import count_steps, lines_of, steps_of

ROW_BY_ROW = 100
"""The greatest number of events whose rows are always undone one by one.

More of them are undone by a statement for all rows of a kind, where that does the same.
"""

Wanted: TypeAlias = dict[Tracking, list[Any]]
"""The trackings whose events are undone, each with the targets that it is of."""


@dataclass(frozen=True, eq=False)
class Conflict:
    """A change made since, which an undo would overwrite or which prevents it.

    :param step: the action that it concerns.
    :param problem: why the action conflicts with the rows as they are now, as text.
    """

    step: UndoAction
    problem: str

    def __str__(self) -> str:
        return f"{self.step.table.name} {self.step.key} {self.problem}"


@dataclass(frozen=True, eq=False)
class Undo:
    """The result of :func:`undo`, or with ``dry_run`` its plan.

    ``str(...)`` of it is a text with a line for each step and each conflict. Steps of
    many rows that one statement takes have one line.

    :param steps: the actions, in the order in which they are run. Each has a ``table``,
        a ``kind`` (``"insert"``, ``"update"`` or ``"delete"``), a ``key``, and the
        ``values`` to write. Those of many rows are read from the events when they are
        iterated over, through the session; of an async one, do that in
        ``await session.run_sync(lambda _: ...)``.
    :param conflicts: changes made since that concern the same rows, and in a dry run
        what the database refuses.
    :param transaction: the number of the transaction that the undo is part of, None
        in a dry run.

    Example::

        plan = history.undo(session, Base, transaction=4711, dry_run=True)
        print(plan)
    """

    steps: Sequence[UndoAction]
    conflicts: tuple[Conflict, ...]
    transaction: int | None = None

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        """How many steps there are, by the name of the table and the kind.

        None of them is read for it.

        Example::

            plan.counts  # {("product", "update"): 100_000}
        """
        return count_steps(self.steps)

    def __str__(self) -> str:
        lines = lines_of(self.steps) or ["nothing to undo"]
        return "\n".join([*lines, *(f"conflict: {c}" for c in self.conflicts)])


@overload
def undo(
    session: SyncSession,
    *targets: Models,
    transaction: int | Event | None = ...,
    context: uuid.UUID | Context | ContextFrame | Event | None = ...,
    dry_run: bool = ...,
    force: bool = ...,
    progress: Callable[[int], None] | None = ...,
) -> Undo: ...


@overload
def undo(
    session: AnyAsyncSession,
    *targets: Models,
    transaction: int | Event | None = ...,
    context: uuid.UUID | Context | ContextFrame | Event | None = ...,
    dry_run: bool = ...,
    force: bool = ...,
    progress: Callable[[int], None] | None = ...,
) -> Awaitable[Undo]: ...


def undo(
    session: SyncSession | AnyAsyncSession,
    *targets: Models,
    transaction: int | Event | None = None,
    context: uuid.UUID | Context | ContextFrame | Event | None = None,
    dry_run: bool = False,
    force: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Undo | Awaitable[Undo]:
    """Undo all changes of a transaction, or all changes that were made in a context.

    Inserted rows are deleted, deleted rows inserted, and changed columns set back, in
    an order that foreign keys and unique constraints allow, in the session's
    transaction. These changes are recorded in a context with the key ``undo``, which
    names the transaction or context that was undone.

    :param session: the session to write in. With an async one, await the result.
    :param targets: a declarative base or a MetaData, to undo changes of all tables that
        it tracks; or classes and tables. Of a subclass, changes of rows of that class
        only.
    :param transaction: the number of the transaction, as in ``pgh_xact_id``, or an
        event of it.
    :param context: in place of ``transaction``, a context, its id, or an event of it.
        Contexts within it are undone as well.
    :param dry_run: if True, return the plan: what would be done is done, and rolled
        back to a savepoint. The numbers that its events had are used up.
    :param force: if True, overwrite what has been changed again since.
    :param progress: called with the number of rows that are undone so far, now and then
        and at the end; None for no calls. The number is smaller again where rows turn
        out to need another way.
    :return: the actions and conflicts, and the number of the session's transaction.
    :raises EventsRemovedError: some of the events may have been removed; nothing is
        done.
    :raises ConflictError: something has been changed again since, or another row has a
        value that has to be unique; nothing is done.
    :raises UndoError: not exactly one of transaction and context is given, there is no
        target, a target is no class or table, the context is none or that of an event
        without one, or the session is none; the session has the targets or the event in
        several databases, the events do not store all that is needed, or there is no
        order in which it can be undone; nothing is done.
    :raises EventsError: a target is not tracked, or it is a subclass and no event says
        which rows are of it.

    Example::

        done = history.undo(session, Base, transaction=event)
        session.commit()
        history.undo(session, Base, transaction=done.transaction)  # and back again
    """
    if (transaction is None) == (context is None):
        raise UndoError(
            "undo takes transaction=... or context=..., one of them, got "
            f"transaction={transaction!r} and context={context!r}; give one"
        )
    if not targets:
        raise UndoError(
            "undo got no targets, and needs to know whose rows to undo; give a "
            "declarative base, or classes"
        )
    if progress is not None and not callable(progress):
        raise UndoError(
            f"progress is called with numbers of rows, got {progress!r}; give a "
            "function, such as print"
        )
    plain = session_of(session, "undo", UndoError)
    wanted: Wanted = {}
    for target in targets:
        if not isinstance(target, (type, Table, MetaData)):
            raise UndoError(
                "undo takes a declarative base, a MetaData, mapped classes and tables, "
                f"got {target!r}; event.revert(session) sets one row back"
            )
        for tracking in trackings_of_target(target):
            wanted.setdefault(tracking, []).append(target)
    of_events = [
        given.pgh_tracking
        for given in (transaction, context)
        if isinstance(given, Event)
    ]
    what = _Undone(
        transaction.pgh_xact_id
        if isinstance(transaction, Event)
        else checked_transaction(transaction, UndoError),
        _id_of(context),
    )
    arguments = (wanted, of_events, what, dry_run, force, Progress(progress))
    if is_async_session(plain):
        awaitable: Awaitable[Undo] = plain.run_sync(_undo, *arguments)
        return awaitable
    return _undo(plain, *arguments)


def _id_of(context: Any) -> uuid.UUID | None:
    if not isinstance(context, Event):
        return checked_context_id(context, UndoError)
    # Events of models with context=None have no such attribute.
    found: uuid.UUID | None = getattr(context, "pgh_context_id", None)
    if found is None:
        raise UndoError(
            f"{context!r} was made outside of a context, or stores none, so no context "
            "can be undone by it; give transaction=... with the event"
        )
    return found


@dataclass(frozen=True)
class _Undone:
    """The transaction or the context that is undone; the other one is None.

    :param found: the ids of the context and of those within it; None if it is a
        transaction, or they are not looked for yet, or are too many.
    """

    transaction: int | None
    context: uuid.UUID | None
    found: Sequence[uuid.UUID] | None = None

    def criterion(self, tracking: Tracking) -> ColumnElement[bool]:
        """Return the criterion of its events."""
        if self.transaction is not None:
            return tracking.event_table.c.pgh_xact_id == self.transaction
        storage, events = tracking.context_storage, tracking.event_table
        if self.found is not None and storage.knows_contexts:
            return storage.has_one_of(events, any_(literal(self.found, ARRAY(Uuid))))
        return storage.is_within(events, self.context)

    def with_contexts(self, rows: ModelSession, wanted: Wanted) -> _Undone:
        """Return the same with the contexts, which are looked for once."""
        asked = ContextsAsked(self.context)
        return replace(self, found=asked.find(rows.session, wanted, {}, written_by))

    def may_be_before(self, horizon: Horizon) -> bool:
        """Return True if some of its events may have been removed."""
        if self.transaction is not None:
            return self.transaction <= horizon.transaction
        assert self.context is not None
        begun = time_of_id(self.context)
        return begun is None or begun <= horizon.until

    def as_metadata(self) -> dict[str, Any]:
        """Return the value of the key ``undo`` in the context of the undo."""
        if self.transaction is not None:
            return {"transaction": self.transaction}
        return {"context": str(self.context)}


def _undo(
    session: Session,
    wanted: Wanted,
    of_events: list[Tracking],
    what: _Undone,
    dry_run: bool,
    force: bool,
    progress: Progress,
) -> Undo:
    trackings = [*of_events, *wanted]
    # Numbers of transactions are of one database, and so is the order of the actions.
    require_one_database(session, trackings, "undo", UndoError)
    session.flush()
    rows = ModelSession(session, next(iter(trackings), None))
    _require_events(rows, wanted, what)
    what = what.with_contexts(rows, wanted)
    changes = _changes(rows, wanted, what)
    if not dry_run:
        return _planned(rows, changes, what, force, progress)
    # Rolled back, so that no row stays locked, and nothing is written.
    savepoint = session.begin_nested()
    try:
        return _planned(rows, changes, what, force, progress, dry_run=True)
    finally:
        savepoint.rollback()


def _require_events(rows: ModelSession, wanted: Wanted, what: _Undone) -> None:
    """Refuse to undo what may have had events that were removed.

    :raises EventsRemovedError: names the table, and until when.
    """
    if all(tracking.options.partition_by is None for tracking in wanted):
        return
    connection = rows.session.connection(bind_arguments=rows.bind_arguments)
    for tracking, horizon in read_horizons(connection, wanted).items():
        if what.may_be_before(horizon):
            raise EventsRemovedError(
                f"nothing is undone, since the events of {tracking.table.name!r} until "
                f"{horizon.until} (transaction {horizon.transaction}) were removed, "
                "and some of what is to be undone may have been among them",
                f"give targets without it{horizon.archive_hint}",
            )


@dataclass(frozen=True, eq=False)
class _Changes:
    """What is undone.

    :param by_set: the plans of what one statement for many rows undoes.
    :param by_row: the actions for single rows.
    """

    by_set: Sequence[UndoPlan]
    by_row: OrderedActions


def _planned(
    rows: ModelSession,
    changes: _Changes,
    what: _Undone,
    force: bool,
    progress: Progress,
    dry_run: bool = False,
) -> Undo:
    """Undo what is wanted, and return the plan.

    :param dry_run: whether conflicts are returned in the plan, and are no error.
    """
    session = rows.session
    with in_context(session, undo=what.as_metadata()), session.begin_nested() as nested:
        sets: list[ActionSet] = []
        by_row = [changes.by_row]
        conflicts = _conflicts(rows, changes.by_row)
        for plan in changes.by_set:
            if not (conflicts and not force) and run_plan(rows, plan, progress):
                sets += plan.sets
                continue
            found = () if force else _conflicts_of_sets(rows, plan)
            if found or (conflicts and not force):
                sets += plan.sets
            else:
                of_rows = _ordered(rows, plan.changes)
                found = _conflicts(rows, of_rows)
                by_row.append(of_rows)
            conflicts += found
        actions = [action for each in by_row for action in each.actions]
        if conflicts and dry_run:
            nested.rollback()
            return Undo(steps_of(rows, sets, actions), conflicts)
        _refuse(rows, actions, () if force else conflicts)
        done: list[UndoAction] = []
        refusals: Sequence[RefusedAction] = ()
        for each in by_row:
            run, refusals = run_actions(rows, each, progress)
            done += run
            if refusals:
                nested.rollback()
                break
        else:
            progress.finish()
    refused = tuple(Conflict(refusal.action, str(refusal)) for refusal in refusals)
    if dry_run:
        planned = actions if refused else done
        return Undo(steps_of(rows, sets, planned), refused)
    if refused:
        error = refusals[0].error
        if force or not refusals[0].is_taken:
            raise error
        raise ConflictError(
            "nothing is undone, since other rows have values that have to be unique: "
            f"{'; '.join(map(str, refused))}; change those first"
        ) from error
    session.expire_all()
    written = [each.changes.tracking for each in sets]
    number = current_transaction([*written, *(action.tracking for action in done)])
    steps = steps_of(rows, sets, done)
    return Undo(steps, conflicts, rows.scalar(select(number)))


def _conflicts(rows: ModelSession, ordered: OrderedActions) -> tuple[Conflict, ...]:
    checker = ConflictChecker(rows, ordered.actions)
    return tuple(
        Conflict(action, problem)
        for action in ordered.actions
        for problem in checker.problems(action)
    )


def _conflicts_of_sets(rows: ModelSession, plan: UndoPlan) -> tuple[Conflict, ...]:
    return tuple(Conflict(action, problem) for action, problem in plan.conflicts(rows))


def _refuse(
    rows: ModelSession, actions: Sequence[UndoAction], conflicts: Sequence[Conflict]
) -> None:
    """Refuse to overwrite what has been changed again, and to delete other rows."""
    if conflicts:
        raise ConflictError(
            "nothing is undone, since it has been changed again: "
            f"{'; '.join(map(str, conflicts))}; give force=True to overwrite that"
        )
    checker = ConflictChecker(rows, actions)
    lost = [
        Conflict(action, referrer)
        for action in actions
        if action.is_reinserted
        for referrer in checker.referrers(action)
    ]
    if lost:
        # Not even with force: ON DELETE CASCADE would delete rows that are to stay.
        raise ConflictError(
            "nothing is undone, since rows exchange their keys, and others refer to "
            f"them: {'; '.join(map(str, lost))}; change those first"
        )


def _changes(rows: ModelSession, wanted: Wanted, what: _Undone) -> _Changes:
    """Find what is to be undone, and how: large parts of it by sets."""
    counts = _counts_of_events(rows, wanted, what)
    tables: dict[Table, int] = {}
    for tracking, number in counts.items():
        tables[tracking.table] = tables.get(tracking.table, 0) + number
    changes = [_changes_of_table(table, wanted, what, counts) for table in tables]
    plans: list[UndoPlan] = []
    planned: set[TableChanges] = set()
    for group in connected(changes):
        if sum(tables[each.table] for each in group) > ROW_BY_ROW:
            plan = undo_plan_of(rows, group)
            if plan is not None:
                plans.append(plan)
                planned.update(group)
    left = [each for each in changes if each not in planned]
    return _Changes(plans, _ordered(rows, left))


def _ordered(rows: ModelSession, changes: Sequence[TableChanges]) -> OrderedActions:
    net_changes: list[NetChange] = []
    for each in changes:
        net_changes += net_changes_of(rows, each.tracking, each.criterion)
    return ordered_actions(net_changes)


def _changes_of_table(
    table: Table, wanted: Wanted, what: _Undone, changed: Iterable[Tracking]
) -> TableChanges:
    tracking = complete_tracking(table)
    if tracking is None:
        partial = next(t for t in changed if t.table is table)
        raise UndoError(
            f"{table.name!r} was changed as well, and its events do not record "
            f"{', '.join(missing_operations(partial))}, so it cannot be undone",
            "give targets without it",
        )
    targets = [
        target for t, some in wanted.items() if t.table is table for target in some
    ]
    of_classes = _of_classes(tracking, targets)
    return TableChanges(
        tracking,
        and_(what.criterion(tracking), *of_classes),
        is_consecutive=what.transaction is not None and not of_classes,
    )


def _counts_of_events(
    rows: ModelSession, wanted: Wanted, what: _Undone
) -> dict[Tracking, int]:
    """Return the trackings with events of what is undone, each with their number.

    They are few of many, and one statement finds them all, so a base of a hundred
    models does not make the undo of one row a hundred times as slow. It does not count
    further than it matters.
    """
    if not wanted:  # a MetaData in which nothing is tracked
        return {}
    trackings = list(wanted)
    branches = []
    for number, (tracking, targets) in enumerate(wanted.items()):
        events = (
            select(tracking.event_table.c.pgh_id)
            .where(what.criterion(tracking), *_of_classes(tracking, targets))
            .limit(ROW_BY_ROW + 1)
            .subquery()
        )
        branches.append(select(literal(number), func.count()).select_from(events))
    found = rows.execute(union_all(*branches))
    return {trackings[number]: count for number, count in found if count}


def _of_classes(tracking: Tracking, targets: list[Any]) -> list[ColumnElement[bool]]:
    """Return the criteria of events whose row is of one of the targets."""
    criteria = [events_of_class(target, tracking) for target in targets]
    named = [criterion for criterion in criteria if criterion is not None]
    return [or_(*named)] if len(named) == len(criteria) else []
