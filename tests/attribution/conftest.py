"""The proof that each event has its author, and how much there is to be proved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import DeclarativeBase

from .workload import Worker, entries, record


@pytest.fixture
def writes(request: pytest.FixtureRequest) -> int:
    """How many writes a test is to commit, at least."""
    return int(request.config.getoption("--writes"))


@pytest.fixture
def level() -> str:
    """The level of the triggers, for tests that do not run at both."""
    return "statement"


@pytest.fixture
def entry(
    base: type[DeclarativeBase], level: str, create_all: Callable[[], None]
) -> Any:
    """The model that the workers write."""
    model = entries(base, level)
    create_all()
    return model


UNPROVED = """
SELECT op, id, version, users, author FROM (
  SELECT pgh_op::text AS op, e.id, e.version, array_agg(
    CASE WHEN pgh_context_id IS NOT NULL THEN coalesce(metadata ->> 'user', '?') END
  ) AS users
  FROM entry_event AS e LEFT JOIN pghistory_context AS c ON c.id = pgh_context_id
  GROUP BY pgh_op, e.id, e.version
) AS recorded FULL JOIN written USING (op, id, version)
WHERE number IS NULL OR users IS DISTINCT FROM ARRAY[author]
"""
"""Writes without an event, or with two, or with another's; events of no write."""

LIED = """
SELECT * FROM (
  SELECT DISTINCT ON (id) id, version, author, op FROM written ORDER BY id, number DESC
) AS said FULL JOIN entry USING (id, version)
WHERE (op = 'D') IS DISTINCT FROM (worker IS NULL)
  OR op <> 'D' AND said.author IS DISTINCT FROM entry.author
"""
"""Rows that are not what the workers say they have made of them."""

SHARED = """
SELECT max(workers) FROM (
  SELECT count(DISTINCT worker) AS workers FROM entry_event GROUP BY backend
) AS backends
"""
"""How many workers have used one connection of the server."""

TURNS = """
SELECT count(*) FROM (
  SELECT worker, lead(worker) OVER (ORDER BY pgh_id) AS next FROM entry_event
) AS events WHERE worker <> next
"""
"""How often an event of one worker is followed by one of another."""


@pytest.fixture
def check(pg_engine: Engine) -> Callable[[int], None]:
    """Prove that what is written down was recorded, with its author, and no more."""

    def prove(writes: int, sharing: int = 2) -> None:
        with pg_engine.connect() as connection:
            run = connection.execute
            committed = run(text("SELECT count(*) FROM written")).scalar_one()
            assert committed >= writes
            assert run(text(LIED)).all() == []
            assert run(text(UNPROVED)).all() == []
            # Else nobody could have had another's context.
            assert run(text(SHARED)).scalar_one() >= sharing
            assert run(text(TURNS)).scalar_one() > committed / 10

    return prove


@pytest.fixture
def check_workers(
    pg_engine: Engine, check: Callable[..., None], writes: int
) -> Callable[[list[Worker]], None]:
    """Prove it of workers of this process."""

    def prove(workers: list[Worker], **options: Any) -> None:
        record(pg_engine.url, workers)
        check(writes, **options)

    return prove
