"""Fixtures to write through sessions of either kind, and to read what they stored."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session


@pytest.fixture(params=["sync", "async"])
def in_session(
    request: pytest.FixtureRequest, pg_engine: Engine, pg_async_engine: AsyncEngine
) -> Callable[[Callable[[Session], Any]], Any]:
    """Run a function with a session: of the sync driver, or of the async one."""

    def run_sync(function: Callable[[Session], Any]) -> Any:
        with Session(pg_engine) as session:
            return function(session)

    def run_async(function: Callable[[Session], Any]) -> Any:
        async def main() -> Any:
            async with AsyncSession(pg_async_engine) as session:
                return await session.run_sync(function)

        return asyncio.run(main())

    return run_sync if request.param == "sync" else run_async


@pytest.fixture
def stored(pg_engine: Engine) -> Callable[..., list[tuple[Any, ...]]]:
    """Return committed rows of a table, by their key."""

    def read(target: Any, *columns: str) -> list[tuple[Any, ...]]:
        table = getattr(target, "__table__", target)
        wanted = [table.c[name] for name in columns] or list(table.c)
        with pg_engine.connect() as connection:
            rows = connection.execute(select(*wanted).order_by(*table.primary_key))
            return [tuple(row) for row in rows]

    return read
