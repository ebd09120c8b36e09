"""A program with asyncio."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence
from typing import ClassVar

from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from typing_extensions import assert_type

import sa_history as history
from sa_history import AggregateEvent, Event, Events, Manual, Snapshot, Undo, track


class Base(DeclarativeBase):
    pass


@track(Snapshot, Manual("reviewed"))
class Account(Base):
    __tablename__ = "account"

    events: ClassVar[Events]
    id: Mapped[int] = mapped_column(primary_key=True)


async def contexts(
    session: AsyncSession,
    scoped: async_scoped_session[AsyncSession],
    connection: AsyncConnection,
    engine: AsyncEngine,
) -> None:
    async with history.context(session, user=7) as frame:
        assert_type(frame.id, uuid.UUID)
        history.annotate(session, reason="typing")
    with history.context(scoped), history.ignore(connection, Account):
        history.annotate(scoped, reason="typing")
    history.context(engine)  # error

    @history.context(job="interest")
    async def job(amount: int) -> str:
        return str(amount)

    assert_type(await job(1), str)


async def reading(session: AsyncSession, account: Account) -> None:
    found = await session.scalars(account.events.select())
    assert_type(found.all(), Sequence[Event])
    statement = AggregateEvent.select(account)
    for row in AggregateEvent.rows(await session.execute(statement)):
        assert_type(row.pgh_label, str)
    AggregateEvent.rows(session.execute(statement))  # error


async def the_past(
    session: AsyncSession, sync_session: Session, engine: AsyncEngine, last: Event
) -> None:
    now = datetime.datetime.now(datetime.timezone.utc)
    async with history.as_of(session, now) as past:
        assert_type(past, AsyncSession)
        assert_type(await past.get(Account, 7), Account | None)
    async with history.as_of(engine, last) as past:
        assert_type(past, AsyncSession)
    with history.as_of(session, now):  # error
        pass
    async with history.as_of(sync_session, now):  # error
        pass


async def writing(
    session: AsyncSession,
    scoped: async_scoped_session[AsyncSession],
    account: Account,
    last: Event,
) -> None:
    assert_type(await history.undo(session, Base, transaction=last), Undo)
    assert_type(await history.undo(scoped, Base, transaction=last), Undo)
    event = await history.create_event(session, account, label="reviewed")
    assert_type(event, Event)
    await event.revert(session)
    await event.revert(scoped, columns=["id"])
    print(history.undo(session, Base, transaction=last).steps)  # error
    print(history.create_event(session, account, label="reviewed").pgh_id)  # error
    await history.undo(session, "Account", transaction=last)  # error
