"""Classes and tables that stand for a view."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Session, foreign, relationship

from sa_history import view
from sa_history.exc import ReadOnlyError


def test_a_class_is_mapped_to_a_view(
    users: Any, active: Any, pg_session: Session
) -> None:
    found = pg_session.scalars(select(active).order_by(active.id)).all()
    assert [(a.id, a.email) for a in found] == [(1, "ann"), (2, "ben")]
    one = pg_session.get_one(active, 1)
    assert one is found[0]
    assert pg_session.get(active, 3) is None
    pg_session.get_one(users, 1).email = "eve"
    pg_session.flush()
    pg_session.refresh(one)
    assert one.email == "eve"


def test_a_table_stands_for_a_view(
    users: Any, base: type[DeclarativeBase], active: Any, pg_engine: Engine
) -> None:
    table = active.__table__
    assert table.name == "active_user"
    assert list(table.primary_key) == [table.c.id]
    assert table.key not in base.metadata.tables
    with pg_engine.connect() as connection:
        found = connection.execute(select(table.c.email).order_by(table.c.id))
        assert found.scalars().all() == ["ann", "ben"]


def test_an_async_session_reads_it(
    users: Any, active: Any, pg_async_engine: AsyncEngine
) -> None:
    async def main() -> None:
        async with AsyncSession(pg_async_engine) as session:
            one = await session.get_one(active, 1)
            assert one.email == "ann"

    asyncio.run(main())


def test_a_relationship_leads_to_a_view(
    user: Any,
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
) -> None:
    class Initial(base):  # type: ignore[misc, valid-type]
        __table__ = view(
            "initial",
            base.metadata,
            select(user.id.label("user_id"), func.left(user.email, 1).label("letter")),
            primary_key=["user_id"],
        )
        who = relationship(
            user,
            primaryjoin=lambda: foreign(Initial.user_id) == user.id,
            viewonly=True,
        )

    create_all()
    pg_session.add(user(id=1, email="ann"))
    pg_session.flush()
    one = pg_session.scalars(select(Initial)).one()
    assert (one.letter, one.who.email) == ("a", "ann")
    pg_session.delete(one)
    with pytest.raises(ReadOnlyError):
        pg_session.flush()
