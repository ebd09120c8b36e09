"""What a driver is to contexts: the base class of those in the registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from sqlalchemy.engine.interfaces import Dialect


class Driver(ABC):
    """One way to send the settings of a context on connections of some drivers."""

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

        :param connection: the driver's connection.
        :param info: what SQLAlchemy's pool keeps with it.
        """
