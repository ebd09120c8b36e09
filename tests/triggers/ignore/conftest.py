"""A model whose rows say which triggers ran, and sessions of other drivers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_history import attach
from tests.triggers.ignore.helpers import mark

Add = Callable[[Session, str], None]
Seen = Callable[[], list[tuple[str, str]]]
InSession = Callable[[Callable[[Session], Any]], Any]
InConnection = Callable[[Callable[[Connection], Any]], Any]


@pytest.fixture
def note(base: type[DeclarativeBase], create_all: Callable[[], None]) -> Any:
    """A model whose rows say which of the triggers "x" and "y" ran."""

    @attach(mark("x"), mark("y"))
    class Note(base):  # type: ignore[misc, valid-type]
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        marks: Mapped[str] = mapped_column(server_default="")

        def __init__(self, body: str) -> None:
            self.body = body

    create_all()
    return Note


@pytest.fixture
def add(note: Any) -> Add:
    """Write a note through a session."""

    def write(session: Session, body: str) -> None:
        session.add(note(body))
        session.flush()

    return write


@pytest.fixture
def seen(note: Any, pg_engine: Engine) -> Seen:
    """Return the body of each committed note, and which triggers ran for it."""

    def read() -> list[tuple[str, str]]:
        with pg_engine.connect() as connection:
            rows = select(note.body, note.marks).order_by(note.id)
            return [tuple(row) for row in connection.execute(rows)]

    return read


@pytest.fixture(params=["psycopg2", "asyncpg"])
def in_other_session(request: pytest.FixtureRequest, pg_url: URL) -> InSession:
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
def in_autocommit(request: pytest.FixtureRequest, pg_url: URL) -> InConnection:
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
