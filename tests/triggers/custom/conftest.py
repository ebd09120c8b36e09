"""A table, what its triggers noted, and each way to create it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    URL,
    Column,
    Integer,
    MetaData,
    NullPool,
    Table,
    Text,
    create_engine,
    select,
)
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Session

from tests.triggers.custom.helpers import printed

Said = Callable[[], list[str]]


@pytest.fixture
def note(base: type[DeclarativeBase]) -> Table:
    """A table with a key and two texts, not yet created."""
    return Table(
        "note",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("body", Text),
        Column("the size", Integer, key="size"),
    )


@pytest.fixture
def said(base: type[DeclarativeBase], pg_session: Session) -> Said:
    """Return the words that triggers noted, oldest first."""
    table = Table(
        "said",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("word", Text),
    )
    words = select(table.c.word).order_by(table.c.id)
    return lambda: list(pg_session.scalars(words))


def by_psycopg(metadata: MetaData, url: URL) -> None:
    engine = create_engine(url, poolclass=NullPool)
    metadata.create_all(engine)


def by_psycopg2(metadata: MetaData, url: URL) -> None:
    by_psycopg(metadata, url.set(drivername="postgresql+psycopg2"))


def by_asyncpg(metadata: MetaData, url: URL) -> None:
    engine = create_async_engine(
        url.set(drivername="postgresql+asyncpg"), poolclass=NullPool
    )

    async def main() -> None:
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)

    asyncio.run(main())


def by_printing(metadata: MetaData, url: URL) -> None:
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        driver: Any = connection.connection.driver_connection
        driver.execute(printed(metadata))


@pytest.fixture(params=[by_psycopg, by_psycopg2, by_asyncpg, by_printing])
def created(request: pytest.FixtureRequest, pg_url: URL) -> Callable[[MetaData], None]:
    """Create the tables: with each driver, or by a script that a mock engine prints."""
    return lambda metadata: request.param(metadata, pg_url)
