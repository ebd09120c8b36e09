"""Objects that were changed in a block, and not flushed when it ended.

A block counts for what is sent within it, and the ORM sends nothing before it flushes.
So a commit after the block, as by a ``session.begin()`` around it, would lose the
context without a word. The objects are kept in ``Session.info``, and the next flush
looks whether any of them is in it: a rollback loses nothing.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

UNFLUSHED = "sa_history_unflushed"
"""The key in ``Session.info`` of what the last block has left."""


@dataclass(frozen=True)
class LeftUnflushed:
    """What a block has left to a later flush.

    :param function: the name of the public function that made the block.
    :param transaction: the transaction of the session, None for none.
    :param objects: the objects that were changed.
    """

    function: str
    transaction: Any
    objects: AbstractSet[Any]


def unflushed_objects(session: Session) -> AbstractSet[Any]:
    """Return the objects with changes that a session has not flushed."""
    # Most sessions are clean then, and to make three sets takes as long as the block.
    if session._is_clean():
        return frozenset()
    found: Any = session.new | session.dirty | session.deleted
    objects: AbstractSet[Any] = found  # by identity: models may have no hash
    return objects


def leave_unflushed(session: Session, before: AbstractSet[Any], function: str) -> None:
    """Keep for the next flush the objects that were changed in a block that ends.

    :param session: the session that the block is bound to.
    :param before: those that were changed before it was entered.
    :param function: the name of the public function that made the block.
    """
    now = unflushed_objects(session)
    objects = now - before if now and before else now
    if objects:
        transaction = session.get_transaction()
        session.info[UNFLUSHED] = LeftUnflushed(function, transaction, objects)
