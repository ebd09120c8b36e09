"""What a type checker knows of a tracked model; checked by mypy in strict mode."""

from __future__ import annotations

import datetime
import uuid

from sqlalchemy import and_, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from typing_extensions import assert_type

import sa_history as history
from sa_history import (
    AfterUpdate,
    AnyChange,
    Event,
    Events,
    HistoryMixin,
    Snapshot,
    new,
    old,
    track,
)


class Base(DeclarativeBase):
    pass


class Account(HistoryMixin, Base):
    __tablename__ = "account"
    __history__ = (Snapshot, AfterUpdate(new.balance < 0, label="low"))
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]


@track(
    AfterUpdate((new.id > 1) & ~AnyChange("id") | (old.id == 1), label="combined"),
    AfterUpdate(and_(new.id > 1, new.id < 9), label="by function"),
    AfterUpdate(lambda old, new: new.id > old.id, label="callable"),
    AfterUpdate(text("NEW.id > 1"), label="text"),
    Snapshot,
)
class Order(Base):
    __tablename__ = "order"
    id: Mapped[int] = mapped_column(primary_key=True)


def the_events_of_the_class(event: Event) -> None:
    assert_type(Account.events, Events[Event])
    assert_type(Account.events.model, type[Event])
    assert_type(event.pgh_id, int)
    assert_type(event.pgh_label, str)
    assert_type(event.pgh_created_at, datetime.datetime)
    assert_type(event.pgh_context_id, uuid.UUID | None)


def the_events_of_an_object(session: Session, account: Account) -> None:
    assert_type(account.events, Events[Event])
    for event in session.scalars(account.events.select()):
        print(event.balance)


def the_decorator_keeps_the_class() -> None:
    assert_type(Order(), Order)


def contexts(session: Session) -> None:
    with history.context(session, user=7) as frame:
        assert_type(frame.id, uuid.UUID)

    @history.context(job="interest")
    def job(amount: int) -> str:
        return str(amount)

    assert_type(job(1), str)
