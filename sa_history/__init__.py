"""History tracking for SQLAlchemy models on PostgreSQL.

``@track(...)`` gives a model an event table and the triggers that fill it, so that
every change is recorded whoever makes it; ``history.context(...)`` puts who and why
beside it; ``Model.events`` and :class:`AggregateEvent` read it back.

Example::

    import sa_history as history
    from sa_history import AfterDelete, AfterUpdate, Snapshot, new, track


    @track(Snapshot, AfterUpdate(new.balance < 0, label="overdrawn"), AfterDelete)
    class Account(Base):
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        balance: Mapped[int]


    Base.metadata.create_all(engine)

    with history.context(session, user=7):
        account.balance -= 10
        session.commit()

    session.scalars(account.events.select()).all()
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sa_history import exc
from sa_history._types import Level, Op
from sa_history.attachments.attach import attach
from sa_history.attachments.views import view
from sa_history.capture.trackers import (
    AfterDelete,
    AfterInsert,
    AfterUpdate,
    ConditionTracker,
    Manual,
    Snapshot,
    Tracker,
)
from sa_history.contexts import listeners as _listeners  # noqa: F401 (registers them)
from sa_history.contexts import refusals as _refusals  # noqa: F401 (registers its own)
from sa_history.contexts.context import annotate, context
from sa_history.ddl.elements import Referencing
from sa_history.definition.conditions import (
    AllChange,
    AllDontChange,
    AnyChange,
    AnyDontChange,
    Condition,
    new,
    old,
)
from sa_history.definition.operations import (
    Delete,
    Insert,
    Operations,
    Truncate,
    Update,
    UpdateOf,
)
from sa_history.query.aggregate import AggregateEvent, AggregateRow
from sa_history.query.attribute_history import changes
from sa_history.query.feed import FeedPosition, cursor_of, feed, feed_page
from sa_history.query.time_travel import as_of
from sa_history.tracking.context_class import Context
from sa_history.tracking.diff import Diff
from sa_history.tracking.editing import editing_events
from sa_history.tracking.erased import ERASED
from sa_history.tracking.event_class import Event
from sa_history.tracking.events import Events, events
from sa_history.tracking.ignore import ignore
from sa_history.tracking.track import HistoryMixin, track
from sa_history.tracking.versions import diff, steps
from sa_history.triggers.audit import Audit, audit_table
from sa_history.triggers.base import TableTrigger
from sa_history.triggers.custom import Trigger
from sa_history.triggers.fsm import FSM
from sa_history.triggers.protect import Protect
from sa_history.triggers.read_only import ReadOnly
from sa_history.triggers.soft_delete import SoftDelete
from sa_history.triggers.touch import Touch
from sa_history.triggers.versioned import Versioned

if TYPE_CHECKING:
    from sa_history.archiving.archive import ArchiveProgress, ArchiveReport, archive
    from sa_history.archiving.archived import Archived, ArchivedPast, archived
    from sa_history.archiving.erasure import erase
    from sa_history.archiving.restore import RestoreReport, restore
    from sa_history.archiving.verification import verify
    from sa_history.install.api import partitions
    from sa_history.install.partition_steps import PartitionReport
    from sa_history.sealing.chain import SealDigest
    from sa_history.sealing.discrepancies import Discrepancy, SealProblem, Verification
    from sa_history.sealing.erase import Erasure
    from sa_history.sealing.seal import seal
    from sa_history.sealing.subject import subject
    from sa_history.writing.baseline import baseline
    from sa_history.writing.create_event import create_event
    from sa_history.writing.undo import Undo, undo
else:
    # What writes, checks, seals and archives takes as long to import as all the rest,
    # and few programs need it. It is imported when it is first asked for.
    _LATER = {
        "ArchiveProgress": "sa_history.archiving.archive",
        "ArchiveReport": "sa_history.archiving.archive",
        "archive": "sa_history.archiving.archive",
        "Archived": "sa_history.archiving.archived",
        "ArchivedPast": "sa_history.archiving.archived",
        "archived": "sa_history.archiving.archived",
        "erase": "sa_history.archiving.erasure",
        "RestoreReport": "sa_history.archiving.restore",
        "restore": "sa_history.archiving.restore",
        "verify": "sa_history.archiving.verification",
        "partitions": "sa_history.install.api",
        "PartitionReport": "sa_history.install.partition_steps",
        "SealDigest": "sa_history.sealing.chain",
        "Erasure": "sa_history.sealing.erase",
        "seal": "sa_history.sealing.seal",
        "subject": "sa_history.sealing.subject",
        "Discrepancy": "sa_history.sealing.discrepancies",
        "SealProblem": "sa_history.sealing.discrepancies",
        "Verification": "sa_history.sealing.discrepancies",
        "baseline": "sa_history.writing.baseline",
        "create_event": "sa_history.writing.create_event",
        "Undo": "sa_history.writing.undo",
        "undo": "sa_history.writing.undo",
    }

    def __getattr__(name: str) -> Any:
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(_LATER[name]), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_LATER})


__all__ = [
    "ERASED",
    "FSM",
    "AfterDelete",
    "AfterInsert",
    "AfterUpdate",
    "AggregateEvent",
    "AggregateRow",
    "AllChange",
    "AllDontChange",
    "AnyChange",
    "AnyDontChange",
    "ArchiveProgress",
    "ArchiveReport",
    "Archived",
    "ArchivedPast",
    "Audit",
    "Condition",
    "ConditionTracker",
    "Context",
    "Delete",
    "Diff",
    "Discrepancy",
    "Erasure",
    "Event",
    "Events",
    "FeedPosition",
    "HistoryMixin",
    "Insert",
    "Level",
    "Manual",
    "Op",
    "Operations",
    "PartitionReport",
    "Protect",
    "ReadOnly",
    "Referencing",
    "RestoreReport",
    "SealDigest",
    "SealProblem",
    "Snapshot",
    "SoftDelete",
    "TableTrigger",
    "Touch",
    "Tracker",
    "Trigger",
    "Truncate",
    "Undo",
    "Update",
    "UpdateOf",
    "Verification",
    "Versioned",
    "annotate",
    "archive",
    "archived",
    "as_of",
    "attach",
    "audit_table",
    "baseline",
    "changes",
    "context",
    "create_event",
    "cursor_of",
    "diff",
    "editing_events",
    "erase",
    "events",
    "exc",
    "feed",
    "feed_page",
    "ignore",
    "new",
    "old",
    "partitions",
    "restore",
    "seal",
    "steps",
    "subject",
    "track",
    "undo",
    "verify",
    "view",
]
