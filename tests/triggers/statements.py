"""What a session sends to the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session


@contextmanager
def sent(session: Session) -> Iterator[list[str]]:
    """The first word of each statement that is sent inside of the block."""
    words: list[str] = []
    connection = session.connection()

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        words.append(statement.split()[0])

    event.listen(connection, "before_cursor_execute", note)
    try:
        yield words
    finally:
        event.remove(connection, "before_cursor_execute", note)
