"""The one error of the testing package."""

from __future__ import annotations


class EmbeddedPostgresError(RuntimeError):
    """A throw-away PostgreSQL could not be found, started or reached.

    The message shows what was tried and says what to do about it.
    """
