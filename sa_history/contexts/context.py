"""The public functions ``context`` and ``annotate``: who makes changes, and why."""

from __future__ import annotations

from typing import Any

from sa_history._types import UNSET, Unset
from sa_history.contexts.block import Block, stacks_of
from sa_history.contexts.frame import ContextFrame
from sa_history.contexts.stack import Stacks, current_frame, this_thread
from sa_history.exc import ContextError
from sa_history.util.sessions import Target


def context(target: Target | Unset = UNSET, /, **metadata: Any) -> ContextBlock:
    """Return a block in which every change is linked to these keys and values.

    It is a context manager, an async one, and a decorator. Leaving it restores the
    context that was current before, within a transaction as well. Inside another
    block it has a context of its own, with the keys of both.

    Nothing is sent to the database here: the next statement carries it.

    :param target: a session or connection, sync or async, to which it is bound.
        Without one it is for whatever the thread does; inside a running event loop,
        where tasks share the thread, that is refused.
    :param metadata: any keys with values that JSON can hold, or UUID, date, time,
        Decimal and Enum.
    :raises ContextError: on entering: a value cannot be stored as JSON, or the
        target cannot have a context.

    Example::

        with history.context(session, user=7, url="/accounts/1"):
            account.balance -= 10
            session.commit()


        @history.context(job="interest")
        def add_interest(session): ...
    """
    return ContextBlock(target, metadata)


class ContextBlock(Block[ContextFrame]):
    """The block that :func:`context` returns; ``as`` gives its frame."""

    error = ContextError
    function = "history.context"

    def __init__(self, target: Any, metadata: dict[str, Any]) -> None:
        super().__init__(target)
        self._metadata = metadata

    def copy(self) -> ContextBlock:
        """Return a block with the same arguments."""
        return ContextBlock(self._target, self._metadata)

    def push(self, stacks: Stacks) -> tuple[list[ContextFrame], ContextFrame]:
        """Put a new frame on the stack, nested in the current one."""
        frame = ContextFrame(self._metadata, _current_frame_of(stacks))
        stacks.contexts.append(frame)
        return stacks.contexts, frame


def _current_frame_of(stacks: Stacks) -> ContextFrame | None:
    of_thread = this_thread.stacks
    return current_frame([of_thread] if stacks is of_thread else [of_thread, stacks])


def annotate(target: Target | Unset = UNSET, /, **metadata: Any) -> None:
    """Add keys and values to the current context.

    They are stored with the next change that is made in it. Earlier events of the
    transaction that stores the context have them too; what an earlier transaction has
    stored stays as it is.

    :param target: the session or connection whose context is meant; without one, the
        thread's.
    :param metadata: as for :func:`context`.
    :raises ContextError: there is no current context, or a value cannot be stored as
        JSON.

    Example::

        with history.context(session, user=7):
            history.annotate(session, reason="chargeback")
            session.commit()
    """
    stacks = stacks_of(target, ContextBlock.function, ContextError)
    frame = _current_frame_of(stacks)
    if frame is None:
        raise ContextError(
            "there is no context to annotate; enter one with history.context(...) "
            "around this call"
        )
    frame.annotate(metadata)
