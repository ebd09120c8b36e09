"""What a driver is to contexts: the base class of those in the registry."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from typing import Any

from sqlalchemy.engine.interfaces import Dialect

from sa_history.contexts.connection_state import ConnectionState


class Driver(ABC):
    """One way to send the settings of a context on connections of some drivers.

    A driver sends what :meth:`ConnectionState.pending` asks for before each statement
    that may write, and what ``pending_before_commit`` asks for before COMMIT and
    PREPARE TRANSACTION. It tells the state what happens to the settings: ``reset()``
    where a transaction begins, ``mark_sending()`` and ``mark_sent()`` around sending,
    and ``invalidate()`` after whatever may have taken settings back, such as a rollback
    to a savepoint, an error, or a script whose statements are not known.

    The library must be importable without the driver's own package, unless it is a
    dependency.
    """

    connections: tuple[type[Any], ...] = ()
    """The classes of the driver's own connections."""
    dialects: tuple[type[Dialect], ...] = ()
    """SQLAlchemy's dialects of the driver."""

    @abstractmethod
    def connected(self) -> None:
        """React to a new connection of the driver, which the pool has just opened."""

    @abstractmethod
    def checked_out(self, connection: Any, info: dict[Any, Any]) -> None:
        """Prepare a connection that the pool gives to its next user.

        :param connection: the driver's own connection, not SQLAlchemy's adapter of it.
        :param info: what SQLAlchemy's pool keeps with it.
        """


def warn_of_loss(state: ConnectionState, reason: str, stacklevel: int) -> None:
    """Warn if a statement is sent without the settings that the active blocks ask for.

    :param state: of the connection.
    :param reason: why they cannot be sent.
    :param stacklevel: as of :func:`warnings.warn`, seen from the caller.
    """
    for is_lost, what in (
        (state.current_frame() is not None, "the context in force is not recorded"),
        (state.is_ignoring(), "triggers that are ignored run all the same"),
    ):
        if is_lost:
            warnings.warn(f"{what}: {reason}", stacklevel=stacklevel + 1)
