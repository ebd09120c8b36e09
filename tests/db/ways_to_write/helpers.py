"""The context of these tests, and what several of them write with."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

BY = {"user": 7}
"""The context of what these tests write."""


def driver_cursor(session: Session) -> Any:
    """A cursor of the driver's own connection, past all of SQLAlchemy."""
    connection = session.connection().connection.driver_connection
    assert connection is not None
    return connection.cursor()


def insert_by_flush(session: Session, account: Any) -> None:
    session.add_all([account(id=1, balance=10), account(id=2, balance=-20)])
    session.flush()
