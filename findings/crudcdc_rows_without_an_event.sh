#!/usr/bin/env bash
# crudcdc 0.1.1: rows of bulk INSERTs and of association tables come without an event.
#
# Expected: its page says that every ORM insert, update and delete of a tracked model is recorded,
#   also changes of relationships, and that what cannot be raises UntrackedWriteError, as it
#   does for an UPDATE or DELETE of a tracked model.
# Seen: session.execute(insert(Model), [...]), the ORM's own bulk INSERT, and a row that is
#   appended to a many-to-many relationship are committed, with neither an event nor an error.
# Who meets it: a consumer of the feed lacks what was imported in bulk, and who has which role.
#   What helps is add_all(), and a mapped class for the association.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet crudcdc==0.1.1 sqlalchemy==2.1.9 asyncpg==0.32.0 greenlet==3.5.6
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import asyncio
import sys
from importlib.metadata import version

import crudcdc
from crudcdc import CDCBase, ChangeFeed
from sqlalchemy import Column, ForeignKey, Table, func, insert, select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload


class Base(DeclarativeBase):
    pass


user_role = Table(
    "user_role",
    Base.metadata,
    Column("user_id", ForeignKey("user.id"), primary_key=True),
    Column("role_id", ForeignKey("role.id"), primary_key=True),
)


class Role(Base):
    __tablename__ = "role"
    id: Mapped[int] = mapped_column(primary_key=True)


class User(Base):
    __tablename__ = "user"
    id: Mapped[int] = mapped_column(primary_key=True)
    roles: Mapped[list[Role]] = relationship(secondary=user_role)


async def main():
    crudcdc.track(Base)
    engine = create_async_engine(f"postgresql+asyncpg://postgres@/postgres?host={sys.argv[1]}")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        await connection.run_sync(CDCBase.metadata.create_all)
    sessions = async_sessionmaker(engine)
    async with sessions.begin() as session:
        session.add_all([User(id=1), Role(id=1)])
    async with sessions.begin() as session:
        await session.execute(insert(User), [{"id": 2}, {"id": 3}])
    async with sessions.begin() as session:
        user = await session.get(User, 1, options=[selectinload(User.roles)])
        user.roles.append(await session.get(Role, 1))
    seen = {}
    async with sessions() as session:
        events = (await ChangeFeed(session).read()).events
        for table in (User.__table__, Role.__table__, user_role):
            rows = await session.scalar(select(func.count()).select_from(table))
            seen[table.name] = (rows, sum(event.table == table.name for event in events))
    await engine.dispose()
    return seen


seen = asyncio.run(main())
print(f"crudcdc {version('crudcdc')}, rows and events")
print("  expected: as many events as rows, or UntrackedWriteError")
print(f"  seen:     {seen}")
if seen != {"user": (3, 1), "role": (1, 1), "user_role": (1, 0)}:
    print("  that has changed")
    sys.exit(1)
END
