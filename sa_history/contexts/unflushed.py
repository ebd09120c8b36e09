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


@dataclass(frozen=True)
class UnflushedObjects:
    """The objects with changes that a session has not flushed, as a block is entered.

    :param session: the session that the block is bound to.
    :param objects: the objects.
    """

    session: Session
    objects: AbstractSet[Any]

    @classmethod
    def before_block(cls, session: Session) -> UnflushedObjects:
        """Return the objects of a session, as a block is entered."""
        return cls(session, _unflushed(session))

    def leave_block(self, function: str) -> None:
        """Keep for the next flush the objects that were changed since.

        :param function: the name of the public function that made the block.
        """
        objects = _unflushed(self.session) - self.objects
        if objects:
            transaction = self.session.get_transaction()
            self.session.info[UNFLUSHED] = LeftUnflushed(function, transaction, objects)


def _unflushed(session: Session) -> AbstractSet[Any]:
    found: Any = session.new | session.dirty | session.deleted
    objects: AbstractSet[Any] = found  # by identity: models may have no hash
    return objects
