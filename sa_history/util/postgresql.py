"""What is asked of a database and of its errors, whatever the driver."""

from __future__ import annotations

from sqlalchemy import Connection

from sa_history.exc import DialectError


def require_postgresql(connection: Connection, feature: str = "sa_history") -> None:
    """Refuse a connection to any database but PostgreSQL.

    :param connection: of any dialect, also a mock connection that only prints.
    :param feature: the name of what was called, for the error.
    :raises DialectError: the dialect is another one; names it.
    """
    if connection.dialect.name != "postgresql":
        raise DialectError(
            f"{feature} needs PostgreSQL, got an engine for {connection.dialect.name}; "
            "use a postgresql:// URL"
        )


# https://www.postgresql.org/docs/current/errcodes-appendix.html
FOREIGN_KEY_VIOLATION = "23503"
INSUFFICIENT_PRIVILEGE = "42501"
UNDEFINED_COLUMN = "42703"
UNDEFINED_TABLE = "42P01"
LOCK_NOT_AVAILABLE = "55P03"
"""What ``lock_timeout`` raises, too."""
QUERY_CANCELED = "57014"
"""What ``statement_timeout`` raises, too."""

LOCK_REFUSALS = frozenset({LOCK_NOT_AVAILABLE, "40P01"})
"""The SQLSTATE of ``lock_timeout``, and of a deadlock."""


def sqlstate_of(error: BaseException | None) -> str | None:
    """Return the SQLSTATE of a driver's error, or None if the server sent none.

    :param error: ``orig`` of SQLAlchemy's error.
    """
    # psycopg2 calls it pgcode.
    return getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)


def message_of(error: BaseException | None) -> str | None:
    """Return the message of the server without its detail, or None if it sent none.

    :param error: ``orig`` of SQLAlchemy's error.
    """
    diagnostics = getattr(error, "diag", None)
    said: str | None = getattr(diagnostics, "message_primary", None)
    # SQLAlchemy keeps the error of asyncpg as the cause of its own.
    return said or getattr(getattr(error, "__cause__", None), "message", None)


def hint_of(error: BaseException | None) -> str | None:
    """Return the hint of the server, or None if it sent none.

    :param error: ``orig`` of SQLAlchemy's error.
    """
    diagnostics = getattr(error, "diag", None)
    said: str | None = getattr(diagnostics, "message_hint", None)
    # SQLAlchemy keeps the error of asyncpg as the cause of its own.
    return said or getattr(getattr(error, "__cause__", None), "hint", None)


def text_of(error: BaseException | None) -> str:
    """Return the message and the detail of a driver's error, on one line.

    :param error: ``orig`` of SQLAlchemy's error.
    """
    # psycopg2 leaves out that it is an ERROR, but not where that has another name.
    severity = getattr(getattr(error, "diag", None), "severity", None)
    message = str(error).removeprefix(f"{severity}:")
    # asyncpg's text has no detail, and SQLAlchemy keeps that error as the cause.
    detail = getattr(getattr(error, "__cause__", None), "detail", None)
    if detail:
        message = f"{message} DETAIL: {detail}"
    return " ".join(message.split())
