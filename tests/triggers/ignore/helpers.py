"""A trigger that leaves its name, and the connection below a session."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from sa_history import Insert, Trigger


def mark(name: str, **options: Any) -> Trigger:
    """Return a trigger that leaves its name in the row."""
    body = f"NEW.marks := concat(NEW.marks, '{name}'); RETURN NEW;"
    return Trigger(name, "before", Insert, body=body, **options)


def driver_of(session: Session) -> Any:
    """The driver's own connection."""
    return session.connection().connection.driver_connection
