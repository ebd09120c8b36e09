"""Seals and erasures through each driver, sync and async."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import URL, Engine, ForeignKey, create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import track

Base = type[DeclarativeBase]


@pytest.fixture
def visit(base: Base, person: Any, pg_engine: Engine) -> Any:
    """A model with a key of two columns, which refers to persons."""

    @track(sealed=True, erasable=["note"], erasable_context=["ip"], context="inline")
    class Visit(base):  # type: ignore[misc, valid-type]
        __tablename__ = "visit"
        number: Mapped[int] = mapped_column(primary_key=True)
        place: Mapped[str] = mapped_column(primary_key=True)
        note: Mapped[str | None]
        person_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))

    base.metadata.create_all(pg_engine)
    return Visit


PLACE = 'a "place", \\with (all)'


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_sync_driver(
    base: Base, person: Any, visit: Any, pg_url: URL, driver: str
) -> None:
    engine = create_engine(pg_url.set(drivername=f"postgresql+{driver}"))
    with Session(engine) as session, history.context(session, user=1, ip="::1"):
        session.add_all([person(id=1, name="n"), person(id=2, name="m")])
        session.flush()
        session.add(visit(number=1, place=PLACE, note="no", person_id=1))
        session.commit()
    digest = history.seal(engine, base)
    with Session(engine) as session:
        assert history.erase(session, person, 1).contexts == 1
        assert history.erase(session, visit, (1, PLACE)).events == 1
        session.commit()
        (event,) = history.subject(session, person, 1)["references"]
        assert event["data"]["note"] == {"erased": True}
        rows = history.AggregateEvent.page(session, person, visit)
        assert [row.pgh_data.get("name") for row in rows] == [
            {"erased": True},
            "m",
            None,
        ]
    history.seal(engine, base)
    found = history.verify(engine, base, digest=digest)
    assert (found.discrepancies, found.events) == ((), 5)
    engine.dispose()


def test_an_async_driver(base: Base, person: Any, visit: Any, pg_url: URL) -> None:
    async def run() -> None:
        engine = create_async_engine(pg_url.set(drivername="postgresql+asyncpg"))
        async with (
            AsyncSession(engine) as session,
            history.context(session, user=1, ip="::1"),
        ):
            session.add(person(id=1, name="n"))
            await session.commit()
        async with engine.begin() as connection:
            await connection.run_sync(history.seal, base)
        async with AsyncSession(engine) as session:
            done = await history.erase(session, person, 1)
            assert (done.events, done.contexts) == (1, 1)
            await session.commit()
            (event,) = (await history.subject(session, person, 1))["events"]
            assert event["context"] == {"user": 1, "ip": None}
        async with engine.begin() as connection:
            found = await connection.run_sync(history.verify, base)
        assert (found.discrepancies, found.events) == ((), 1)
        await engine.dispose()

    asyncio.run(run())
