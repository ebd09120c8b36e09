"""Undoing all that was changed together.

The events of a transaction, or of a context, tell of each row what it was before and
after. A plan is made of them first, which can be looked at, with what has been changed
again since. The undo is a change like any other, and recorded as one, so that it can be
undone as well.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Text,
    func,
    select,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.orm import Session, scoped_session

from sa_history.contexts.context import context as in_context
from sa_history.exc import ConflictError, UndoError
from sa_history.query.sources import trackings_of_target
from sa_history.tracking.completeness import complete_tracking, missing_operations
from sa_history.tracking.context_class import Context
from sa_history.tracking.event_class import Event
from sa_history.tracking.registry import Tracking
from sa_history.util.sessions import is_async_session, unscoped
from sa_history.writing.net_changes import Life, lives_of
from sa_history.writing.undo_actions import Step, Surroundings, steps_for

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True, eq=False)
class Conflict:
    """A row that is not what the undone change made of it.

    :param step: what would undo the change.
    :param problem: what the row is now, in words.
    """

    step: Step
    problem: str

    def __str__(self) -> str:
        return f"{self.step.table.name} {self.step.key} {self.problem}"


@dataclass(frozen=True, eq=False)
class Undo:
    """What is undone, or would be.

    :param steps: what is written, in order.
    :param conflicts: what has been changed again since.
    :param transaction: the number of the transaction that did it, None in a dry run.

    Example::

        plan = history.undo(session, Base, transaction=4711, dry_run=True)
        print(plan)
    """

    steps: tuple[Step, ...]
    conflicts: tuple[Conflict, ...]
    transaction: int | None = None

    def __str__(self) -> str:
        lines = [str(step) for step in self.steps] or ["nothing to undo"]
        return "\n".join([*lines, *(f"conflict: {c}" for c in self.conflicts)])


@overload
def undo(
    session: Session | scoped_session[Any],
    *targets: Any,
    transaction: int | Event | None = ...,
    context: uuid.UUID | Context | Event | None = ...,
    dry_run: bool = ...,
    force: bool = ...,
) -> Undo: ...


@overload
def undo(
    session: AsyncSession,
    *targets: Any,
    transaction: int | Event | None = ...,
    context: uuid.UUID | Context | Event | None = ...,
    dry_run: bool = ...,
    force: bool = ...,
) -> Awaitable[Undo]: ...


def undo(
    session: Any,
    *targets: Any,
    transaction: int | Event | None = None,
    context: uuid.UUID | Context | Event | None = None,
    dry_run: bool = False,
    force: bool = False,
) -> Undo | Awaitable[Undo]:
    """Undo all that a transaction changed, or all that was changed in a context.

    Inserted rows are deleted, deleted ones inserted, and changed columns set back, in
    an order that foreign keys allow, in the session's transaction. The undo has a
    context of its own that says what it undid.

    :param session: with an async session, await the result.
    :param targets: whose rows to undo: a declarative base or a MetaData for all that
        it tracks, or classes and tables.
    :param transaction: the number of the transaction, as ``pgh_xact_id`` gives it, or
        an event of it.
    :param context: a context or its id, or an event of it, instead.
    :param dry_run: change nothing, and return the plan.
    :param force: overwrite what has been changed again since.
    :return: what was done.
    :raises ConflictError: something has been changed again since; nothing is done.
    :raises UndoError: the events do not tell all that is needed, or there is none.

    Example::

        done = history.undo(session, Base, transaction=event)
        session.commit()
        history.undo(session, Base, transaction=done.transaction)  # and back again
    """
    if (transaction is None) == (context is None):
        raise UndoError("undo takes transaction=... or context=..., one of them")
    if not targets:
        raise UndoError(
            "undo needs to know whose rows to undo; give a declarative base, or classes"
        )
    trackings = list(
        dict.fromkeys(t for target in targets for t in trackings_of_target(target))
    )
    what = _Undone(
        transaction.pgh_xact_id if isinstance(transaction, Event) else transaction,
        context.pgh_context_id if isinstance(context, Event) else _id_of(context),
    )
    plain: Any = unscoped(session)
    arguments = (trackings, what, dry_run, force)
    if is_async_session(plain):
        awaitable: Awaitable[Undo] = plain.run_sync(_undo, *arguments)
        return awaitable
    return _undo(plain, *arguments)


def _id_of(context: Any) -> uuid.UUID | None:
    found: uuid.UUID | None = getattr(context, "id", context)
    return found


@dataclass(frozen=True)
class _Undone:
    """What is undone: a transaction, or a context."""

    transaction: int | None
    context: uuid.UUID | None

    def criterion(self, tracking: Tracking) -> ColumnElement[bool]:
        if self.transaction is not None:
            return tracking.event_table.c.pgh_xact_id == self.transaction
        storage = tracking.context_storage
        return storage.is_within(tracking.event_table, self.context)

    def as_metadata(self) -> dict[str, Any]:
        if self.transaction is not None:
            return {"transaction": self.transaction}
        return {"context": str(self.context)}


def _undo(
    session: Session,
    trackings: list[Tracking],
    what: _Undone,
    dry_run: bool,
    force: bool,
) -> Undo:
    session.flush()
    steps = tuple(steps_for(_lives(session, trackings, what)))
    around = Surroundings(session, steps)
    conflicts = tuple(
        Conflict(step, problem)
        for step in steps
        for problem in (
            step.problem(session),
            *around.referrers(step),
            *around.obstacles(step),
        )
        if problem
    )
    if dry_run:
        return Undo(steps, conflicts)
    if conflicts and not force:
        raise ConflictError(
            "nothing is undone, since it has been changed again: "
            f"{'; '.join(map(str, conflicts))}; give force=True to overwrite that"
        )
    aside = [step for step in steps if step.steps_aside]
    lost = [Conflict(step, row) for step in aside for row in around.referrers(step)]
    if lost:
        # Its foreign keys may delete, in silence, what nobody asked to undo.
        raise ConflictError(
            "nothing is undone, since rows exchange their keys, and others refer to "
            f"them: {'; '.join(map(str, lost))}; change those first"
        )
    with in_context(session, undo=what.as_metadata()):
        for step in steps:
            step.run(session)
    session.expire_all()
    number = sql_cast(sql_cast(func.pg_current_xact_id(), Text), BigInteger)
    return Undo(steps, conflicts, session.scalar(select(number)))


def _lives(session: Session, trackings: list[Tracking], what: _Undone) -> list[Life]:
    lives: list[Life] = []
    for table in dict.fromkeys(tracking.table for tracking in trackings):
        tracking = complete_tracking(table)
        if tracking is not None:
            lives += lives_of(session, tracking, what.criterion(tracking))
            continue
        for partial in (t for t in trackings if t.table is table):
            events = partial.event_table
            some = select(events.c.pgh_id).where(what.criterion(partial)).limit(1)
            if session.scalar(some) is not None:
                raise UndoError(
                    f"{table.name!r} was changed as well, and its events do not record "
                    f"{', '.join(missing_operations(partial))}, so it cannot be "
                    "undone; give targets without it"
                )
    return lives
