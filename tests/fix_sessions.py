"""Fixtures to write through sessions and connections of each kind, and to read rows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
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


@pytest.fixture(params=["psycopg2", "asyncpg"])
def in_other_session(
    request: pytest.FixtureRequest, pg_url: URL
) -> Callable[[Callable[[Session], Any]], Any]:
    """Run a function with a session of another driver than psycopg."""
    url = pg_url.set(drivername=f"postgresql+{request.param}")

    def run_sync(function: Callable[[Session], Any]) -> Any:
        with Session(create_engine(url, poolclass=NullPool)) as session:
            return function(session)

    def run_async(function: Callable[[Session], Any]) -> Any:
        async def main() -> Any:
            engine = create_async_engine(url, poolclass=NullPool)
            async with AsyncSession(engine) as session:
                return await session.run_sync(function)

        return asyncio.run(main())

    return run_sync if request.param == "psycopg2" else run_async


@pytest.fixture(params=["sync", "async"])
def in_connection(
    request: pytest.FixtureRequest, pg_engine: Engine, pg_async_engine: AsyncEngine
) -> Callable[[Callable[[Connection], Any]], Any]:
    """Run a function with a connection: of the sync driver, or of the async one."""

    def run_sync(function: Callable[[Connection], Any]) -> Any:
        with pg_engine.connect() as connection:
            return function(connection)

    def run_async(function: Callable[[Connection], Any]) -> Any:
        async def main() -> Any:
            async with pg_async_engine.connect() as connection:
                return await connection.run_sync(function)

        return asyncio.run(main())

    return run_sync if request.param == "sync" else run_async


@pytest.fixture(params=["sync", "async"])
def in_autocommit(
    request: pytest.FixtureRequest, pg_url: URL
) -> Callable[[Callable[[Connection], Any]], Any]:
    """Run a function with a connection in AUTOCOMMIT."""
    options: Any = {"isolation_level": "AUTOCOMMIT", "poolclass": NullPool}

    def run_sync(function: Callable[[Connection], Any]) -> Any:
        with create_engine(pg_url, **options).connect() as connection:
            return function(connection)

    def run_async(function: Callable[[Connection], Any]) -> Any:
        async def main() -> Any:
            async with create_async_engine(pg_url, **options).connect() as connection:
                return await connection.run_sync(function)

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
