"""Warnings of changes that are flushed after the block that they were made in."""

from __future__ import annotations

import warnings
from typing import Any

from sqlalchemy import Table, inspect
from sqlalchemy.orm import Mapper, Session

from sa_history.contexts.unflushed import UNFLUSHED, LeftUnflushed
from sa_history.exc import HistoryWarning
from sa_history.tracking.registry import trackings_of_table


def warn_of_late_flush(session: Session, *_: Any) -> None:
    """Warn of tracked objects that the last block has left to the flush that begins."""
    left: LeftUnflushed | None = session.info.pop(UNFLUSHED, None)
    # What was rolled back is not flushed, and may have been changed again since.
    if left is None or left.transaction is not session.get_transaction():
        return
    sent: Any = session.new | session.deleted
    classes = {
        type(each)
        for each in left.objects
        if each in sent or (each in session and session.is_modified(each))
    }
    names = sorted(each.__name__ for each in classes if _is_tracked(each))
    if names:
        warnings.warn(
            f"{', '.join(names)} was changed in a block of {left.function} and is "
            "flushed after the block, which has no effect on it then; flush or commit "
            "within the block",
            HistoryWarning,
            stacklevel=2,
        )


def _is_tracked(model: type[Any]) -> bool:
    mapper: Mapper[Any] = inspect(model)
    return any(trackings_of_table(t) for t in mapper.tables if isinstance(t, Table))
