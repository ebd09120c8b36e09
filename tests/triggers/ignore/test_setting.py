"""The setting ``pghistory.ignore``, set by hand or to what it cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, insert, text
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session

import sa_history as history

Add = Callable[[Session, str], None]
Seen = Callable[[], list[tuple[str, str]]]


@pytest.mark.parametrize("garbage", ["garbage", "{", "note:x", "[note:x]"])
def test_garbage_in_the_setting_fails_what_writes_and_loses_nothing(
    garbage: str, pg_engine: Engine, note: Any, seen: Seen
) -> None:
    with pg_engine.begin() as connection:
        database = connection.dialect.identifier_preparer.quote(
            connection.scalar(text("SELECT current_database()"))
        )
        connection.exec_driver_sql(
            f"ALTER DATABASE {database} SET pghistory.ignore = '{garbage}'"
        )
    pg_engine.dispose()
    with pg_engine.connect() as connection:
        with pytest.raises(DataError, match="InvalidTextRepresentation"):
            connection.execute(insert(note).values(body="refused"))
        connection.rollback()
        with history.ignore(connection, note, "x"):
            connection.execute(insert(note).values(body="inside"))
        connection.execute(insert(note).values(body="after"))
        connection.commit()
    assert seen() == [("inside", "y"), ("after", "xy")]


@pytest.mark.parametrize(
    ("setting", "runs"),
    [
        ('["note:x"]', "y"),
        ('["note:*"]', ""),
        ('["*:y"]', "x"),
        ('["*:*", "*", ":", "note", "note:", ["note:x"], null]', "xy"),
        ("[]", "xy"),
        ("null", "xy"),
        ("", "xy"),
    ],
)
def test_setting_by_hand_ignores_what_it_lists(
    setting: str, runs: str, pg_session: Session, add: Add, seen: Seen
) -> None:
    """Such as in psql, or for a role: ``ALTER ROLE importer SET pghistory.ignore``."""
    pg_session.execute(
        text("SELECT set_config('pghistory.ignore', :s, true)"), {"s": setting}
    )
    add(pg_session, "a")
    pg_session.commit()
    add(pg_session, "b")
    pg_session.commit()
    assert seen() == [("a", runs), ("b", "xy")]
